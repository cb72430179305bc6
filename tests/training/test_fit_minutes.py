"""Runs of given minutes: they end in time, also within an epoch, and learn along one curve."""

import json
import math
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from falconet.training import fit, resume
from falconet.training.loggers import NullCallback
from falconet.training.loop import keep_best
from falconet.training.progress import Progress
from falconet.training.run_folder import RunFolder
from tests.training.clock import Clock
from tests.training.tiny import draw, tiny_run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_ends_with_its_minutes(data: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    folder = fit(tiny_run(data, tmp_path / "run", "train.minutes=0.2", "train.epochs=1"))
    assert 8 < time.monotonic() - began < 20  # 12 seconds; a busy machine may need more to load and to write
    log = (folder / "train.log").read_text()
    assert "0.2 minutes; an epoch has 3 steps of 4 images" in log
    assert " of 0.2 minutes (" in log
    lines = metrics(folder)
    assert len(lines) > 3
    assert "AP" in lines[-1]
    rates = [line["learning_rate"] for line in lines]
    assert rates[-1] < 0.15 * max(rates)
    state = RunFolder(folder).read_state()
    assert state is not None
    assert state["stopped"]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_ends_within_an_epoch(tmp_path: Path, workers: int) -> None:
    data = draw(tmp_path / "drawn", train=400, val=4)
    folder = fit(tiny_run(data, tmp_path / "run", "train.minutes=0.05", f"data.workers={workers}"))
    (line,) = metrics(folder)
    assert 1 <= line["step"] < 100
    assert "AP" in line
    assert "done: 1 epoch in " in (folder / "train.log").read_text()


class Machine(NullCallback):
    """Winds the clock: a step takes 1 second, and 2 from the middle of the two minutes on."""

    def __init__(self, *, interrupted_at: float = math.inf) -> None:
        self.clock = Clock()
        self.interrupted_at = interrupted_at
        self.seen: list[tuple[float, float]] = []

    def step(self, progress: Progress, *, step: int, loss: float) -> None:  # noqa: ARG002
        self.seen.append((self.clock.now, progress.fraction))
        self.clock.now += 1 if self.clock.now < 160 else 2
        if self.clock.now >= self.interrupted_at:
            raise KeyboardInterrupt


@pytest.mark.slow
def test_half_of_the_time_is_half_of_the_run_also_where_the_machine_becomes_slower(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn", train=32, val=2)
    machine = Machine()
    folder = fit(tiny_run(data, tmp_path / "run", "train.minutes=2"), callback=machine, clock=machine.clock)
    assert machine.clock.now == pytest.approx(220, abs=2)
    assert len(machine.seen) == pytest.approx(90, abs=2)
    for (_, fraction), (_, following) in pairwise(machine.seen):
        assert 0 <= following - fraction < 2.2 / 120
    assert all(fraction == pytest.approx((now - 100) / 120, abs=0.02) for now, fraction in machine.seen)
    rates = [line["learning_rate"] for line in metrics(folder)]
    assert all(after < before for before, after in pairwise(rates[2:]))
    assert rates[-1] == pytest.approx(0.05 * max(rates), rel=0.2)


@pytest.mark.slow
def test_an_interrupted_run_has_the_time_that_was_left(data: Path, tmp_path: Path) -> None:
    machine = Machine(interrupted_at=141)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_run(data, tmp_path / "run", "train.minutes=2"), callback=machine, clock=machine.clock)
    assert "interrupted in epoch " in (tmp_path / "run" / "train.log").read_text()
    later = Machine()
    later.clock.now = 5000.0
    resume(tmp_path / "run", callback=later, clock=later.clock)
    assert later.seen[0][1] == pytest.approx(40 / 120, abs=0.03)
    assert later.clock.now - 5000 == pytest.approx(80, abs=5)
    assert (tmp_path / "run" / "train.log").read_text().count(" of 2 minutes (") == 1


class Ticking(Clock):
    """A quarter of a second passes with each look."""

    def __call__(self) -> float:
        self.now += 0.25
        return self.now


def test_a_validation_without_time_for_all_images_takes_a_part_and_says_so(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn", train=12, val=300)
    folder = fit(tiny_run(data, tmp_path / "run", "train.minutes=0.5", "train.batch_size=2"), clock=Ticking())
    last = metrics(folder)[-1]
    assert 2 <= last["val_images"] < 300
    assert (
        f"validated on {last['val_images']} of 300 images; there is no time for all"
        in (folder / "train.log").read_text()
    )
    assert "AP" in last


def test_figures_of_a_part_of_the_images_do_not_beat_those_of_all() -> None:
    task = SimpleNamespace(key_metric="AP", second_metric="AP50")
    prepared: Any = SimpleNamespace(task=task, data=SimpleNamespace(val=range(60)))
    state: Any = SimpleNamespace(best=None, epoch=0)
    improved = []
    for ap, images in ((0.9, 16), (0.5, None), (0.4, None), (0.99, 16), (0.6, None)):
        part = {} if images is None else {"val_images": images}
        improved.append(keep_best(prepared, state, {"AP": ap, "AP50": ap} | part))
        state.epoch += 1
    assert improved == [True, True, False, False, True]
    assert state.best == {"AP": 0.6, "AP50": 0.6, "epoch": 5}
    assert not keep_best(prepared, state, {"loss": 1.0})
