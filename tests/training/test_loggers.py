"""Where metrics go: metrics.jsonl and the log always, and the loggers that a run names."""

import json
import logging
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from falconet.core.errors import ConfigError
from falconet.training import fit, resume
from falconet.training.loggers import NullCallback, details, logging_to, open_log, summary
from falconet.training.progress import Progress
from falconet.training.run_folder import RunFolder
from tests.training.tiny import draw, tiny_run


class FakeMLflow(ModuleType):
    """Notes what MLflow is asked for."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.__spec__ = SimpleNamespace(name="mlflow")  # type: ignore[assignment]
        self.told: list[tuple[Any, ...]] = []

    def set_experiment(self, name: str) -> None:
        self.told.append(("experiment", name))

    def start_run(self, *, run_id: str | None, run_name: str) -> Any:
        self.told.append(("start", run_id, run_name))
        return SimpleNamespace(info=SimpleNamespace(run_id=run_id or "abc"))

    def log_dict(self, values: dict[str, Any], name: str) -> None:
        self.told.append(("dict", name, values["train"]["epochs"]))

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:
        json.dumps(metrics)
        assert all(isinstance(value, int | float) for value in metrics.values())
        self.told.append(("metrics", step, "AP" in metrics))

    def end_run(self, status: str) -> None:
        self.told.append(("end", status))


class FakeWandb(ModuleType):
    """Notes what Weights & Biases is asked for."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = SimpleNamespace(name="wandb")  # type: ignore[assignment]
        self.told: list[tuple[Any, ...]] = []

    def init(self, **options: Any) -> Any:
        self.told.append(("init", options["project"], options["name"], options["id"], options["resume"]))
        return SimpleNamespace(
            log=lambda metrics, step: self.told.append(("log", step, metrics["epoch"])),
            finish=lambda exit_code: self.told.append(("finish", exit_code)),
        )


class StopAfterOne(NullCallback):
    """Ctrl-C in the second epoch."""

    def step(self, progress: Progress, *, step: int, loss: float) -> None:  # noqa: ARG002
        if progress.epoch == 1:
            raise KeyboardInterrupt


def test_mlflow_and_wandb_hear_of_every_epoch_and_go_on_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow, wandb = FakeMLflow(), FakeWandb()
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    data = draw(tmp_path / "drawn", train=4, val=2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_run(data, tmp_path / "run", "train.loggers=[mlflow, wandb]"), callback=StopAfterOne())
    assert mlflow.told == [
        ("experiment", "falconet"),
        ("start", None, "run"),
        ("dict", "run.json", 2),
        ("metrics", 1, True),
        ("end", "KILLED"),
    ]
    mlflow.told.clear()
    resume(tmp_path / "run")
    assert mlflow.told == [
        ("experiment", "falconet"),
        ("start", "abc", "run"),
        ("metrics", 2, True),
        ("end", "FINISHED"),
    ]
    begins = ("init", "falconet", "run", (tmp_path / "run" / "wandb_run_id.txt").read_text().strip(), "allow")
    assert wandb.told == [begins, ("log", 1, 1), ("finish", 1), begins, ("log", 2, 2), ("finish", 0)]
    assert not (tmp_path / "run" / "tensorboard").exists()
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


class Stubborn(FakeMLflow):
    """Takes nothing, or does not even open."""

    def __init__(self, *, opens: bool) -> None:
        super().__init__()
        self.opens = opens

    def set_experiment(self, name: str) -> None:  # noqa: ARG002
        if not self.opens:
            raise RuntimeError("no answer from http://localhost:1")

    def log_metrics(self, metrics: dict[str, float], *, step: int) -> None:  # noqa: ARG002
        raise RuntimeError("the server is away")


def test_a_logger_that_fails_on_the_way_costs_neither_the_run_nor_its_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", Stubborn(opens=True))
    data = draw(tmp_path / "drawn", train=4, val=2)
    folder = fit(tiny_run(data, tmp_path / "run", "train.loggers=[mlflow]"))
    log = (folder / "train.log").read_text()
    assert f"mlflow did not take epoch 1, which is in {folder}/metrics.jsonl: the server is away" in log
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    assert "done: 2 epochs in " in log


def test_a_logger_that_does_not_open_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", Stubborn(opens=False))
    data = draw(tmp_path / "drawn", train=4, val=2)
    with pytest.raises(ConfigError) as error:
        fit(tiny_run(data, tmp_path / "run", "train.loggers=[tensorboard, mlflow]"))
    assert str(error.value) == "train.loggers: mlflow cannot be opened: no answer from http://localhost:1"


def test_a_logger_that_is_not_installed_is_said_before_anything_is_written(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn", train=4, val=2)
    for name in ("mlflow", "wandb"):
        with pytest.raises(ConfigError) as error:
            fit(tiny_run(data, tmp_path / "run", f"train.loggers=[{name}]"))
        assert str(error.value) == (
            f"train.loggers: {name} is not installed; install it with: pip install 'falconet[{name}]'"
        )
    assert not (tmp_path / "run").exists()


def test_a_run_without_loggers_keeps_its_metrics(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn", train=4, val=2)
    folder = fit(tiny_run(data, tmp_path / "run", "train.loggers=[]", "train.epochs=1"))
    assert len(RunFolder(folder).metrics.read_text().splitlines()) == 1
    assert not (folder / "tensorboard").exists()


def test_nothing_is_written_where_the_start_fails(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn", train=4, val=2)
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(Exception, match="damaged or no weights file"):
        fit(tiny_run(data, tmp_path / "run", f"train.weights={tmp_path / 'other.safetensors'}"))
    assert not (tmp_path / "run").exists()


METRICS = {
    "epoch": 3,
    "loss": 1.5,
    "loss_box": 1.5,
    "AP": 0.25,
    "AP50": -1.0,
    "seconds": 2.0,
    "images_per_second": 9.0,
    "data_wait": 0.1,
}


def test_the_line_of_an_epoch() -> None:
    assert summary(METRICS, Progress(2, 10, 0.3)) == "epoch 3/10  loss 1.500  AP 25.0  AP50 –  2.0 s"
    improved = summary(METRICS, Progress(2, None, 0.3, 3725), improved=True)
    assert improved == "epoch 3 (30%)  loss 1.500  AP 25.0  AP50 –  2.0 s  1:02:05 left  best"
    assert details(METRICS) == "box 1.500, 9 images/s, 10% waiting for data"


def test_the_longest_line_of_an_epoch_fits_a_terminal() -> None:
    long = METRICS | {"epoch": 299, "loss": 123.456, "AP": 1.0, "AP50": 1.0, "seconds": 1234.5}
    assert len(summary(long, Progress(298, 300, 0.99, 86399), improved=True)) <= 80


def test_the_file_says_more_than_the_terminal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = draw(tmp_path / "drawn", train=4, val=2)
    folder = fit(tiny_run(data, tmp_path / "run", "train.epochs=1", "train.loggers=[]"))
    (shown,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("epoch 1/1")]
    (kept,) = [line for line in (folder / "train.log").read_text().splitlines() if "epoch 1/1" in line]
    assert "waiting for data" not in shown
    assert shown in kept
    assert re.search(r"\(class [0-9.]+, box [0-9.]+, distribution [0-9.]+, .* waiting for data\)$", kept)


def test_a_log_on_a_full_disk_is_given_up_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_text: str) -> None:
        raise OSError(28, "No space left on device")

    log = logging.getLogger("falconet.training")
    with logging_to(tmp_path / "train.log") as buffer:
        open_log(buffer)
        assert isinstance(buffer.target, logging.FileHandler)
        monkeypatch.setattr(
            buffer.target, "stream", SimpleNamespace(write=full, flush=lambda: None, close=buffer.target.stream.close)
        )
        for count in range(3):
            log.warning("line %d", count)
    told = [message for message in caplog.messages if "cannot be written any more" in message]
    assert told == [f"{tmp_path / 'train.log'}: cannot be written any more: [Errno 28] No space left on device"]
