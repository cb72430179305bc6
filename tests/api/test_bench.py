"""What `falconet bench` measures, and what `falconet tune` makes of it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import falconet
from falconet.api import tuned
from falconet.api.bench import Bench, Row, bench
from falconet.api.tuned import fastest, remember, tune
from falconet.cli.bench import print_rows
from falconet.core.cpus import usable_cpus
from falconet.core.errors import ConfigError, ModelError
from falconet.eval.latency import Latency
from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture, save


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tuned, "_path", lambda: tmp_path / "cache" / "tuned.json")
    return tmp_path / "cache" / "tuned.json"


def foreign(path: Path, *, shape: tuple[str | int, ...] = ("n", 3, "h", "w"), kind: int = TensorProto.FLOAT) -> Path:
    """A network of another program: mean over the picture."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)],
        "theirs",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, ())],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_every_combination_in_a_process_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model.write(tmp_path / "m.onnx")
    photo = save(tmp_path / "a.png", picture((0, 0, "red")))
    theirs = foreign(tmp_path / "theirs.onnx")
    found = bench(
        [model], engines=["onnxruntime"], threads=[1, 2], against=[theirs], pictures=[photo], calls=5, soak=0.5
    )
    assert [(row.model, row.threads, row.foreign) for row in found.rows] == [
        (str(model), 1, False),
        (str(model), 2, False),
        (str(theirs), 1, True),
        (str(theirs), 2, True),
    ]
    for row in found.rows:
        assert row.latency.calls == 10, "two rounds of five"
        assert 0 < row.latency.p50 <= row.latency.p95 <= row.latency.p99
        assert row.start > row.latency.p50 / 1e3
        assert (row.per_second is None) == row.foreign
        assert row.peak_mb is None or row.peak_mb > 20
        assert row.soak is not None
        assert len(row.soak["parts"]) == 20
        assert row.soak["calls"] > 20
    assert found.rows[0].streams == usable_cpus()
    assert not found.fastest().foreign
    document = json.loads(json.dumps(found.as_dict()))
    assert document["rows"][2]["milliseconds"]["calls"] == 10
    assert document["machine"]["cores"] == str(usable_cpus())
    print_rows(found)
    shown = capsys.readouterr().out
    assert re.search(r"theirs.onnx +onnxruntime float32 +2 +[0-9.]+ +[0-9.]+", shown)
    assert "fastest: m, onnxruntime float32, " in shown
    assert re.search(r"m, onnxruntime float32, 1 thread: [0-9,]+ runs in 0 seconds: median [0-9.]+ ms at first", shown)


def test_average_precision_beside_the_times(tmp_path: Path) -> None:
    pytest.importorskip("hotcoco")
    model = tiny_model.write(tmp_path / "m.onnx")
    save(tmp_path / "photos" / "a.png", picture((0, 0, "red"), (2, 2, "blue")))
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "width": 128, "height": 128}],
        "categories": [{"id": number + 1, "name": name} for number, name in enumerate(tiny_model.NAMES)],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1 + tiny_model.NAMES.index("red"), "bbox": [0, 0, 32, 32]},
            {"id": 2, "image_id": 1, "category_id": 1 + tiny_model.NAMES.index("blue"), "bbox": [64, 64, 32, 32]},
        ],
    }
    (tmp_path / "photos" / "truth.json").write_text(json.dumps(truth))
    found = bench(
        [model],
        engines=["onnxruntime"],
        threads=[1],
        pictures=[],
        data=tmp_path / "photos" / "truth.json",
        calls=5,
        rounds=1,
    )
    assert found.rows[0].metrics["AP"] == pytest.approx(1.0)
    assert found.rows[0].per_second is None


@pytest.mark.parametrize(
    ("shape", "kind"), [((1, 64, 96, 3), TensorProto.UINT8), ((1, 3, 32, 32), TensorProto.FLOAT16), ((1, 3, -1, -1), 1)]
)
def test_inputs_of_other_programs(tmp_path: Path, shape: tuple[int, ...], kind: int) -> None:
    if kind == TensorProto.UINT8:  # which has no mean
        graph = helper.make_graph(
            [helper.make_node("Identity", ["x"], ["y"])],
            "theirs",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info("y", kind, shape)],
        )
        path = tmp_path / "x.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    else:
        path = foreign(tmp_path / "x.onnx", shape=tuple(side if side > 0 else "free" for side in shape), kind=kind)
    found = bench([], engines=["onnxruntime"], threads=[1], against=[path], calls=5, rounds=1)
    assert found.rows[0].latency.calls == 5


def test_what_cannot_be_measured(tmp_path: Path) -> None:
    model = tiny_model.write(tmp_path / "m.onnx")
    vector = foreign(tmp_path / "vector.onnx", shape=(1, 8))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    for arguments, options, kind, expected in (
        ([model], {"engines": ["tflite"]}, ConfigError, "engine 'tflite' is not known; expected some of onnxruntime"),
        ([model], {"precisions": ["int4"]}, ConfigError, "precision int4: expected some of float32"),
        ([], {"against": [vector]}, ModelError, "its input is tensor(float) [1, 8]; expected pixels"),
        ([], {"against": [broken]}, ModelError, "broken.onnx: ONNX Runtime cannot open it ("),
        ([], {"against": [tmp_path / "gone.onnx"]}, ModelError, "gone.onnx: no such file; expected an ONNX file"),
        ([broken], {}, ModelError, "is not a complete ONNX model"),
    ):
        with pytest.raises(kind, match=re.escape(expected)):
            bench(arguments, threads=[1], calls=5, **{"engines": ["onnxruntime"], **options})
    with pytest.raises(ModelError, match="is a picture; expected a model, and pictures behind --pictures"):
        bench([save(tmp_path / "a.png", picture())])
    (tmp_path / "w.safetensors").touch()
    with pytest.raises(ModelError, match="is not an exported file; write one with 'falconet export"):
        bench([tmp_path / "w.safetensors"])


def test_nothing_goes_on_after_an_interruption(tmp_path: Path) -> None:
    model = tiny_model.write(tmp_path / "m.onnx")
    words = [sys.executable, "-m", "falconet", "bench", str(model), "--soak", "5", "--rounds", "1", "--calls", "5"]
    words += ["--engine", "onnxruntime", "--threads", "1"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.is_file():
            process.kill()
            pytest.skip("the system does not tell the children of a process")
        end = time.monotonic() + 60
        while not (running := children.read_text().split()) and time.monotonic() < end:
            time.sleep(0.05)
        assert running
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    end = time.monotonic() + 10
    while any(Path(f"/proc/{one}").exists() for one in running) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{one}").exists() for one in running)


def row(engine: str, p50: float, *, precision: str = "float32", **metrics: float) -> Row:
    return Row(
        model="m",
        path=Path("m.onnx"),
        engine=engine,
        version="1",
        precision=precision,
        threads=1,
        streams=1,
        foreign=False,
        start=1.0,
        latency=Latency.of([p50 / 1e3]),
        per_second=None,
        peak_mb=None,
        metrics=metrics,
    )


def test_a_lower_precision_is_taken_only_where_it_is_known_to_cost_little() -> None:
    full, half = row("openvino", 20, AP=0.4), row("openvino", 10, precision="bfloat16", AP=0.399)
    assert fastest([row("onnxruntime", 15, AP=0.4), full, half], loss=0.002) is half
    assert fastest([full, replace(half, metrics={"AP": 0.397})], loss=0.002) is full
    assert fastest([replace(full, metrics={}), replace(half, metrics={})], loss=1.0).precision == "float32"


def test_what_was_found_is_taken_until_something_changes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    model = tiny_model.write(tmp_path / "m.onnx")
    assert falconet.load(model).engine.name == "onnxruntime"
    remember(replace(row("openvino", 1.0), path=model))
    assert falconet.load(model).engine.name == "openvino"
    assert falconet.load(model, engine="onnxruntime").engine.name == "onnxruntime", "whoever asks is answered"
    other = tiny_model.write(tmp_path / "other.onnx")
    assert falconet.load(other).engine.name == "onnxruntime"
    before = model.stat()
    os.utime(model, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert falconet.load(model).engine.name == "onnxruntime", "another file now"
    remember(replace(row("openvino", 1.0), path=model))
    with monkeypatch.context() as patch:
        patch.setattr(tuned, "_version", lambda _: "another")
        assert falconet.load(model).engine.name == "onnxruntime"
    assert falconet.load(model).engine.name == "openvino"
    for damaged in ("", "[]", '{"' + str(model) + '": 7}'):
        cache.write_text(damaged)
        assert falconet.load(model).engine.name == "onnxruntime"


def test_more_threads_than_cpus_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, count = tiny_model.write(tmp_path / "m.onnx"), usable_cpus() + 1
    bench([model], engines=["onnxruntime"], threads=[count], pictures=[], calls=5, rounds=1)
    assert any(message.startswith(f"threads {count}: only ") for message in caplog.messages)


def test_people_are_told_what_tune_found(tmp_path: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("openvino")
    caplog.set_level("INFO")
    model = tiny_model.write(tmp_path / "m.onnx")
    falconet.load(model)
    assert not caplog.messages
    remember(replace(row("openvino", 1.0), path=model))
    falconet.load(model)
    assert caplog.messages == [
        "engine: openvino in float32, as 'falconet tune' found; --engine and --precision say otherwise"
    ]
    os.utime(model, ns=(1, 1))
    falconet.load(model)
    assert caplog.messages[1] == f"the file has changed since 'falconet tune {model}', which has to be repeated"
    remember(replace(row("openvino", 1.0), path=model))
    cache.write_text(cache.read_text().replace('"processor": "', '"processor": "another '))
    falconet.load(model)
    assert caplog.messages[2].startswith("the processor or an engine's version has changed since 'falconet tune")


def test_what_cannot_be_remembered_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model.write(tmp_path / "m.onnx")
    (tmp_path / "file").touch()
    monkeypatch.setattr(tuned, "_path", lambda: tmp_path / "file" / "tuned.json")
    monkeypatch.setattr("falconet.api.bench.bench", lambda *_, **__: pytest.fail("measured in vain"))
    with pytest.raises(ConfigError, match="what tune finds would be lost"):
        tune(model)


def test_a_table_without_empty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(Bench((row("onnxruntime", 3.0),), {"processor": "P", "cores": "2"}, 0.0))
    shown = capsys.readouterr().out
    assert "pictures/s" not in shown
    assert "MB" not in shown
    assert re.search("engine +threads +start s +p50 ms +p95 +p99\n", shown)


def test_tune_measures_and_remembers(tmp_path: Path, cache: Path) -> None:
    model = tiny_model.write(tmp_path / "m.onnx")
    found, chosen, path = tune(model, calls=5, threads=1)
    assert path == cache
    assert {row.precision for row in found.rows} == {"float32"}, "without data nobody knows what another one costs"
    assert chosen.latency.p50 == min(row.latency.p50 for row in found.rows)
    assert falconet.load(model).engine.name == chosen.engine
    np.testing.assert_array_equal(len(falconet.load(model).predict(picture((0, 0, "red")))), 1)
