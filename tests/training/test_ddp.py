"""Two processes train together: equal weights, every picture validated once, no hanging, errors come through."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from safetensors.torch import save_file

from falconet.core.errors import ConfigError, DataError, ProcessError
from falconet.training import RunConfig, fit, loader, resume
from falconet.training.loggers import NullCallback
from falconet.training.prepare import Prepared
from falconet.training.processes import Process, in_processes, launched
from falconet.training.progress import Progress
from falconet.training.run_folder import RunFolder
from tests.training.tiny import assert_same_weights, draw, options, tiny_run

pytestmark = pytest.mark.slow
TWO = ["train.devices=2", "train.epochs=3", "criterion.detach_epoch=1", "train.average_decay=0"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def together(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tiny_run(data, tmp_path_factory.mktemp("runs") / "two", *TWO))


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_train_and_validate(together: Path) -> None:
    lines = metrics(together)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert all(np.isfinite(line["loss"]) and 0 <= line["AP"] <= 1 for line in lines)
    log = (together / "train.log").read_text()
    assert "cpu x 2" in log
    assert log.count("weights: from scratch") == 1
    assert all(np.isfinite(values).all() for values in load_file(together / "last.safetensors").values())


def test_the_dropped_branch_rests_in_two_processes_too(together: Path) -> None:
    state = RunFolder(together).read_state()
    assert state is not None
    moved = {moments["step"].item() for moments in state["optimizer"]["state"].values()}
    assert moved == {3.0, 9.0}


def _train_and_keep(process: Process, run: RunConfig, folder: RunFolder, kept: Path) -> None:
    entry = sys.modules["falconet.training.fit"]
    original = entry.train

    def recorded(prepared: Prepared, *arguments: Any, **options: Any) -> None:
        original(prepared, *arguments, **options)
        state = {name: value.contiguous() for name, value in prepared.networks.state_dict().items()}
        save_file(state, kept / f"{process.rank}.safetensors")

    entry.train = recorded
    entry._run(process, run, folder, NullCallback(), time.monotonic, time.monotonic())


def test_both_processes_end_with_the_same_weights(data: Path, tmp_path: Path) -> None:
    run = tiny_run(data, tmp_path / "run", *TWO).absolute()
    in_processes(_train_and_keep, 2, (run, RunFolder(run.output), tmp_path))
    first, second = load_file(tmp_path / "0.safetensors"), load_file(tmp_path / "1.safetensors")
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)  # also the statistics of norms


class StopInTheSecondEpoch(NullCallback):
    """Fails after the second epoch's weights were written and before its checkpoint."""

    def epoch(self, metrics: dict[str, Any], progress: Progress) -> None:  # noqa: ARG002
        if metrics["epoch"] == 2:
            raise DataError("enough")


def test_resumed_in_two_processes(together: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="enough"):
        fit(tiny_run(data, tmp_path / "run", *TWO), callback=StopInTheSecondEpoch())
    state = RunFolder(tmp_path / "run").read_state()
    assert state is not None
    assert state["epoch"] == 1
    folder = resume(tmp_path / "run")
    assert_same_weights(folder / "last.safetensors", together / "last.safetensors")


def test_one_process_has_only_pictures_without_boxes(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn", train=8)
    path = data / "train.json"
    tree = json.loads(path.read_text())
    # With a batch of all eight, the second process gets every other picture of the epoch's order.
    empty = {tree["images"][index]["id"] for index in loader.epoch_order(8, seed=0, epoch=0)[1::2]}
    tree["annotations"] = [a for a in tree["annotations"] if a["image_id"] not in empty]
    assert tree["annotations"]
    path.write_text(json.dumps(tree))
    folder = fit(tiny_run(data, tmp_path / "run", "train.devices=2", "train.batch_size=8", "train.epochs=2"))
    assert len(metrics(folder)) == 2
    assert all(np.isfinite(line["loss"]) for line in metrics(folder))


def _vanish(process: Process) -> None:
    if process.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def test_a_process_that_is_killed_from_outside() -> None:
    with pytest.raises(ProcessError, match=r"killed from outside \(SIGKILL\); there may be too little memory"):
        in_processes(_vanish, 2, ())


def test_minutes_of_two_processes_end_for_both_at_once(data: Path, tmp_path: Path) -> None:
    folder = fit(tiny_run(data, tmp_path / "run", "train.devices=2", "train.minutes=0.5"))
    lines = metrics(folder)
    assert "AP" in lines[-1]
    assert lines[-1]["step"] > 3
    log = (folder / "train.log").read_text()
    assert " of 0.5 minutes (" in log


def test_devices_and_the_launcher_agree(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "4", "RANK": "0", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "4"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=r"train\.devices is 2, but the launcher started 4 processes on this machine"):
        fit(tiny_run(data, tmp_path / "run", "train.devices=2"))


def any_left(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_sigterm_to_the_first_process_ends_all(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = options(data, folder, "train.devices=2", "train.epochs=500")
    process = subprocess.Popen(
        [sys.executable, "-m", "falconet", "train", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 100
    while not (folder / "state.ckpt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert told.count(f"go on with it by: falconet train --resume {folder}") == 1  # one process speaks
    assert told.splitlines()[-1] == "falconet: terminated"
    assert "Traceback" not in told
    while any_left(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_ctrl_c_ends_all_processes(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    program = tmp_path / "program.py"
    program.write_text(f"if __name__ == '__main__':\n{textwrap.indent(PROGRAM, '    ')}")
    arguments = options(data, folder, "train.devices=2", "train.epochs=500")
    process = subprocess.Popen(
        [sys.executable, str(program), *arguments], stderr=subprocess.PIPE, start_new_session=True
    )
    deadline = time.monotonic() + 100
    while not (folder / "state.ckpt").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in told
    assert f"go on with it by: falconet train --resume {folder}" in (folder / "train.log").read_text()
    while any_left(process.pid):  # Python's resource tracker ends a moment after its process
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _fail_in_one(process: Process, what: str) -> None:
    if process.rank == 1 and what == "data":
        raise DataError("x.jpg: is broken")
    if process.rank == 1:
        raise ZeroDivisionError("oops")


def test_an_error_of_any_process_comes_through() -> None:
    with pytest.raises(DataError, match=r"^x\.jpg: is broken$"):
        in_processes(_fail_in_one, 2, ("data",))
    with pytest.raises(RuntimeError, match="ZeroDivisionError: oops"):
        in_processes(_fail_in_one, 2, ("other",))
    in_processes(_fail_in_one, 1, ("nothing",))


PROGRAM = """
import signal, sys
from falconet.training import fit, read_run
signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells turn off in what they run in the background
fit(read_run(sys.argv[1], sys.argv[2:]))
"""


def test_torchrun_starts_the_same_run(data: Path, together: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    arguments = options(data, tmp_path / "run", *TWO[1:])
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run([*launcher, str(program), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert_same_weights(tmp_path / "run" / "last.safetensors", together / "last.safetensors")


def test_an_environment_that_is_not_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="WORLD_SIZE is 2, but RANK or LOCAL_RANK is not a number"):
        launched()
