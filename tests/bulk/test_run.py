"""Tables say what the model says; nothing is lost and nothing done twice, whatever happens in between."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from falconet.bulk.run import HEAD as HEAD_FILE
from falconet.bulk.run import SUPERSEDED
from falconet.core.errors import DataError
from tests.bulk.conftest import HEAD, run, table
from tests.runtime.tiny_model import picture, save


def parts(out: str = "out") -> dict[str, int]:
    """The tables and when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in Path(out).glob("*.parquet")}


def test_rows_are_the_answers(predictor) -> None:
    done = run(predictor)
    assert (done.pictures, done.total, done.kept, done.broken) == (30, 30, 0, 1)
    rows = table()
    assert [one["source"] for one in rows] == sorted(path.as_posix() for path in Path("in").rglob("*.png"))
    for one in rows:
        if one["source"] == "in/07.png":
            assert "in/07.png" in one["error"]
            assert all(one[key] is None for key in ("width", "height", "boxes", "scores", "labels"))
            continue
        answer = predictor.predict(one["source"])
        np.testing.assert_array_equal(np.float32(one["boxes"]).reshape(-1, 4), answer.boxes)
        np.testing.assert_array_equal(np.float32(one["scores"]), answer.scores)
        assert one["labels"] == [name for name, _, _ in answer]
        assert one["error"] is None
    assert len(parts()) > 3
    for path in Path("out").glob("*.parquet"):
        told = json.loads(parquet.read_schema(path).metadata[b"falconet"])
        assert told == {**HEAD, "block": path.stem.removeprefix("part-")}


def test_a_second_run_changes_nothing(predictor) -> None:
    run(predictor)
    before = parts()
    done = run(predictor)
    assert (done.pictures, done.kept) == (30, 30)
    assert parts() == before


def test_what_is_missing_is_done(predictor) -> None:
    run(predictor)
    before, whole = parts(), table()
    gone = sorted(before)[:2]
    for name in gone:
        Path("out", name).unlink()
    done = run(predictor)
    assert done.kept == 30 - sum(parquet.read_metadata(Path("out", name)).num_rows for name in gone)
    assert table() == whole
    assert all(parts()[name] == before[name] for name in before if name not in gone)


def test_changed_and_vanished_pictures(folder: Path, predictor) -> None:
    run(predictor)
    save(folder / "in" / "07.png", picture((1, 1, "red"), value=90))
    (folder / "in" / "deep" / "25.png").unlink()
    save(folder / "in" / "00a.png", picture((1, 1, "blue"), value=91))
    run(predictor)
    changed = table()
    assert list(Path("out", SUPERSEDED).glob("*.parquet"))
    run(predictor, out="anew")
    assert changed == table("anew")


def test_results_of_something_else_are_refused(predictor) -> None:
    run(predictor)
    before = parts()
    with pytest.raises(DataError, match=r"another model, m\.onnx \(sha256 0000.*this one is n\.onnx \(sha256 1111"):
        run(predictor, head={**HEAD, "model": {"file": "n.onnx", "sha256": "1" * 64}})
    with pytest.raises(DataError, match=r"another run, with sources \['in'\]; this one has \['in/deep'\]"):
        run(predictor, "in/deep")
    run(predictor, head={**HEAD, "version": "2"})
    assert parts() == before
    Path("out", HEAD_FILE).unlink()
    with pytest.raises(DataError, match=r"holds tables, but no _falconet\.json"):
        run(predictor)


def test_a_disk_that_is_full(predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    import falconet.bulk.storage as storage

    real, calls = storage.replace_file, []

    def full(path: Path, data: bytes, *, sync: bool = False) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise DataError(f"{path}: cannot be written: No space left on device")
        real(path, data, sync=sync)

    monkeypatch.setattr(storage, "replace_file", full)
    with pytest.raises(DataError, match="No space left on device"):
        run(predictor)
    assert len(parts()) == 1
    monkeypatch.setattr(storage, "replace_file", real)
    run(predictor)
    run(predictor, out="anew")
    assert table() == table("anew")


SLOW = """
import sys, time
import falconet.bulk.run as module
from falconet.cli import main
write = module.Results.write
def slowly(self, block, rows):
    write(self, block, rows)
    print("written", flush=True)
    time.sleep(0.3)
module.Results.write = slowly
sys.argv = ["falconet", "batch", "in", "--model", "m.onnx", "--out", "out", "--block", "5"]
main()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_goes_on(predictor, how: signal.Signals) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SLOW],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.send_signal(how)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == {signal.SIGKILL: -9, signal.SIGINT: 130, signal.SIGTERM: 143}[how], errors
    if how == signal.SIGINT:
        assert "interrupted: the tables in out are whole" in errors
    assert len(parts()) > 0
    before = parts()
    again = subprocess.run(
        [sys.executable, "-c", SLOW.replace("time.sleep(0.3)", "pass")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert again.returncode == 0, again.stderr
    assert {name: parts()[name] for name in before} == before
    run(predictor, out="anew")
    assert table() == table("anew")
