"""Killed in the middle of an epoch and resumed, a run ends with the weights of one that was not; bit for bit."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from falconet.core.config import read_yaml, yaml_text
from falconet.core.errors import ConfigError, DataError, FalconetError, ModelError, ProcessError
from falconet.training import fit, resume
from falconet.training.loggers import NullCallback
from falconet.training.progress import Progress
from falconet.training.run_folder import STATE_KEY, RunFolder
from tests.training.tiny import assert_same_weights, draw, options, tiny_run

PROGRAM = """
import signal, sys
from falconet.training import fit, read_run, resume
signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells turn off in what they run in the background
if __name__ == "__main__":
    try:
        print(resume(sys.argv[2]) if sys.argv[1] == "--resume" else fit(read_run(sys.argv[1], sys.argv[2:])))
    except KeyboardInterrupt:
        sys.exit(130)
"""

LONG = ["train.epochs=4", "criterion.detach_epoch=2", "data.workers=1", "augment.mosaic=0.5", "train.patience=50"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tiny_run(data, tmp_path_factory.mktemp("runs") / "whole", *LONG))


COMMAND = "import sys; from falconet.cli import main; sys.argv[1:1] = ['train']; main()"


def stop_in_the_middle(folder: Path, number: signal.Signals, *arguments: str, program: str = PROGRAM) -> int:
    """Run in a process that gets a signal once its first epoch is finished; returns its exit code."""
    with (folder.parent / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stderr=errors, stdout=errors, start_new_session=True
        )
    deadline = time.monotonic() + 200
    while not (folder / "state.ckpt").exists():
        assert process.poll() is None, (folder.parent / "errors.txt").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    os.killpg(process.pid, number)
    return process.wait(100)


def finished_epochs(folder: Path) -> int:
    state = RunFolder(folder).read_state()
    assert state is not None
    epoch: int = state["epoch"]
    return epoch


def test_killed_and_resumed_is_the_same_run(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    code = stop_in_the_middle(folder, signal.SIGKILL, *options(data, folder, *LONG))
    assert code == -signal.SIGKILL
    assert 1 <= finished_epochs(folder) < 4
    assert resume(folder) == folder
    assert finished_epochs(folder) == 4
    assert_same_weights(folder / "last.safetensors", undisturbed / "last.safetensors")
    assert_same_weights(folder / "best.safetensors", undisturbed / "best.safetensors")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 4


def test_interrupted_by_the_user_says_how_to_go_on(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "interrupted"
    code = stop_in_the_middle(folder, signal.SIGINT, *options(data, folder, *LONG))
    assert code == 130, (tmp_path / "errors.txt").read_text()
    assert f"go on with it by: falconet train --resume {folder}" in (folder / "train.log").read_text()
    resume(folder)
    assert_same_weights(folder / "last.safetensors", undisturbed / "last.safetensors")


def test_terminated_says_how_to_go_on_and_does_not_end_as_if_done(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "terminated"
    code = stop_in_the_middle(folder, signal.SIGTERM, *options(data, folder, *LONG), program=COMMAND)
    told = (tmp_path / "errors.txt").read_text()
    assert code == 143, told
    assert told.splitlines()[-1] == "falconet: terminated"
    assert "Traceback" not in told
    log = (folder / "train.log").read_text()
    assert f"terminated in epoch 2; go on with it by: falconet train --resume {folder}" in log


class KillsAWorker(NullCallback):
    """The kernel kills one of the loader's workers, as it does where memory ends."""

    def step(self, progress: Progress, *, step: int, loss: float) -> None:  # noqa: ARG002
        if progress.epoch == 1 and step == 1:
            multiprocessing.active_children()[0].kill()


def test_a_killed_loader_worker_ends_in_a_sentence(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    with pytest.raises(ProcessError) as error:
        fit(tiny_run(data, folder, *LONG, "train.epochs=200"), callback=KillsAWorker())
    # Whether torch tells the signal or only that the process is gone is a matter of which it sees first.
    assert str(error.value).replace("(it exited)", "(Killed)") == (
        "a process that reads training images was killed from outside (Killed); there may be too little memory: fewer "
        "data.workers, 0 at the least, and a smaller data.cache_mb need less; go on with the run by: falconet train "
        f"--resume {folder}"
    )


def test_killed_before_the_first_epoch_ended(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "early"
    run = tiny_run(data, folder, *LONG).absolute()
    RunFolder(folder).write_run(run)
    resume(folder)
    assert_same_weights(folder / "last.safetensors", undisturbed / "last.safetensors")


def test_a_finished_run_has_nothing_left_to_do(undisturbed: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = (undisturbed / "last.safetensors").stat().st_mtime_ns
    with caplog.at_level("INFO"):
        resume(undisturbed)
    assert "this run is finished. To train longer, start a new run from its weights: falconet train " in caplog.text
    assert (undisturbed / "last.safetensors").stat().st_mtime_ns == before


def test_a_used_folder_is_refused(data: Path, undisturbed: Path) -> None:
    with pytest.raises(ConfigError) as error:
        fit(tiny_run(data, undisturbed))
    assert str(error.value) == (
        f"{undisturbed}: already holds a run (state.ckpt, best.safetensors, last.safetensors); go on with it by "
        f"'falconet train --resume {undisturbed}', or choose another folder with output=..."
    )


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no run\.yaml; expected the folder of a run of 'falconet train'"):
        resume(tmp_path)


class InThirdEpoch(NullCallback):
    """Ctrl-C in the third epoch."""

    def step(self, progress: Progress, *, step: int, loss: float) -> None:  # noqa: ARG002
        if progress.epoch == 2:
            raise KeyboardInterrupt


def copy_of(folder: Path, target: Path) -> RunFolder:
    target.mkdir()
    for name in ("run.yaml", "state.ckpt"):
        (target / name).write_bytes((folder / name).read_bytes())
    return RunFolder(target)


def test_a_damaged_checkpoint_is_named(undisturbed: Path, tmp_path: Path) -> None:
    folder = copy_of(undisturbed, tmp_path / "damaged")
    folder.state.write_bytes(folder.state.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"state\.ckpt: cannot be read as a checkpoint: "):
        resume(folder.path)


def test_a_foreign_checkpoint_executes_nothing(undisturbed: Path, tmp_path: Path) -> None:
    folder = copy_of(undisturbed, tmp_path / "foreign")

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "evil"),)

    torch.save({"format": 1, "stopped": Evil()}, folder.state)
    with pytest.raises(ModelError, match="cannot be read as a checkpoint"):
        resume(folder.path)
    assert not (tmp_path / "evil").exists()
    folder.write_state({"format": 99})
    with pytest.raises(ModelError, match="is not a checkpoint of this version of Falconet"):
        resume(folder.path)


def test_changed_data_is_noticed(undisturbed: Path, tmp_path: Path) -> None:
    folder = copy_of(undisturbed, tmp_path / "changed")
    state = folder.read_state()
    assert state is not None
    folder.write_state(state | {"stopped": False, "epoch": 2, "images": 11})
    with pytest.raises(ConfigError, match="the data has changed since this run began: it had 11 training images of"):
        resume(folder.path)


def as_before(state: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A checkpoint as version 0.1 wrote it."""
    kept = {key: value for key, value in state.items() if key not in ("pace", "peak_rate", "images")}
    plan = {"epochs": 4, "steps_per_epoch": 3, "peak_rate": state["peak_rate"], "warmup_steps": 1, "detach_epoch": 2}
    old = {"plan": plan, "pace": None, "seconds": state["pace"]["used"], "pictures": state["images"]}
    return {**kept, **old, "format": 1, **changes}


def test_a_run_of_version_0_1_goes_on(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "old")
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_run(data, folder.path, *LONG), callback=InThirdEpoch())
    state = folder.read_state()
    assert state is not None
    folder.write_state(as_before(state))
    tree = read_yaml(folder.run_file)
    tree["train"]["detach_epoch"] = tree.pop("criterion")["detach_epoch"]
    folder.run_file.write_text(yaml_text(tree))
    resume(folder.path)
    assert_same_weights(folder.last, undisturbed / "last.safetensors")


def test_minutes_of_version_0_1_are_refused(undisturbed: Path, tmp_path: Path) -> None:
    folder = copy_of(undisturbed, tmp_path / "old")
    state = folder.read_state()
    assert state is not None
    folder.write_state(as_before(state, pace={"guided": 1.0}, stopped=False))
    with pytest.raises(ModelError, match=r"planned train\.minutes in epochs, .* start a new run with train\.weights="):
        resume(folder.path)


@pytest.mark.slow
def test_a_run_goes_on_without_the_weights_it_started_from(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    weights = tmp_path / "start.safetensors"
    weights.write_bytes((undisturbed / "best.safetensors").read_bytes())
    options = [*LONG, f"train.weights={weights}", "train.learning_rate=auto"]
    whole = fit(tiny_run(data, tmp_path / "whole", *options))
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_run(data, tmp_path / "cut", *options), callback=InThirdEpoch())
    weights.unlink()
    resume(tmp_path / "cut")
    assert_same_weights(tmp_path / "cut" / "last.safetensors", whole / "last.safetensors")


def test_a_full_disk_keeps_the_checkpoint(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_of(undisturbed, tmp_path / "full")
    before = folder.state.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(FalconetError, match=r"state\.ckpt: cannot be written: No space left on device"):
        folder.write_state({"epoch": 9})
    assert folder.state.read_bytes() == before
    assert {path.name for path in folder.path.iterdir()} == {"run.yaml", "state.ckpt"}


def test_a_folder_that_another_run_writes_into_is_refused(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".falconet.lock").write_text(f"{os.getppid()} {socket.gethostname()}")
    with pytest.raises(DataError, match=f"run: process {os.getppid()} on .* writes there just now"):
        fit(tiny_run(data, folder))
    assert [path.name for path in folder.iterdir()] == [".falconet.lock"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: [1, 2], "holds a list"),
        (lambda values: {**values, "epoch": "two"}, "epoch is missing or something else"),
        (lambda values: {key: value for key, value in values.items() if key != "average"}, "'average' is missing"),
        (lambda values: {**values, "networks": 3}, "is missing or something else"),
        (lambda values: {**values, "optimizer": {**values["optimizer"], "param_groups": []}}, "does not fit this run"),
    ],
    ids=["list", "epoch", "average", "networks", "optimizer"],
)
def test_a_checkpoint_with_something_else_inside(undisturbed: Path, tmp_path: Path, change, message: str) -> None:
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    path = folder / "state.ckpt"
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()[STATE_KEY])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    values = {**values, "stopped": False}
    save_file(tensors, path, metadata={STATE_KEY: json.dumps(change(values))})
    with pytest.raises(ModelError, match=message):
        resume(folder)
