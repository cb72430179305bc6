"""`falconet repeat`: one run with several seeds, which goes on where it stopped."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from falconet.api import repeat as repeating
from falconet.api.repeat import SUMMARY, Figure, repeat
from falconet.cli import _register, app
from falconet.core.errors import ConfigError
from falconet.eval.bootstrap import Drawn, Interval
from tests.training.tiny import draw, options

_register()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


def test_seeds_go_on_and_are_summed_up(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset, *overrides = options(data, tmp_path / "three", "train.epochs=1", "seed=5")
    train, trained = repeating.train_with, []

    def once(run: str, changes: list[str], **more: object) -> object:
        if trained:
            raise KeyboardInterrupt
        trained.append(changes)
        return train(run, changes, **more)

    monkeypatch.setattr(repeating, "train_with", once)
    with pytest.raises(KeyboardInterrupt):
        repeat(preset, overrides, seeds=2)
    monkeypatch.setattr(repeating, "train_with", train)
    first = (tmp_path / "three" / "seed-5" / "best.safetensors").stat().st_mtime_ns
    done = repeat(preset, overrides, seeds=2)
    assert (tmp_path / "three" / "seed-5" / "best.safetensors").stat().st_mtime_ns == first
    assert done.seeds == (5, 6)
    assert [run.name for run in done.runs] == ["seed-5", "seed-6"]
    assert done.figures[0].name == "AP"
    told = json.loads((tmp_path / "three" / SUMMARY).read_text())
    assert told["figures"]["AP"]["values"] == list(done.figures[0].values)
    assert told["images"] == done.images == 5
    with pytest.raises(ConfigError, match="holds something else than repetitions of this run"):
        repeat(preset, [*overrides, "train.epochs=2"], seeds=2)
    printed = CliRunner().invoke(app, ["repeat", preset, *overrides, "--seeds", "2"], catch_exceptions=False).stdout
    assert printed.splitlines()[0].split() == ["seed", "AP", "AP50", "AP75"]
    assert printed.splitlines()[1].split()[0] == "5"


def test_one_seed_is_nothing_to_compare() -> None:
    with pytest.raises(ConfigError, match="two at least"):
        repeat("nanodet-plus-demo", seeds=1)


def test_mean_and_deviation() -> None:
    figure = Figure("AP", (0.5, 0.6, 0.7), Interval(0.4, 0.8))
    assert figure.mean == pytest.approx(0.6)
    assert figure.deviation == pytest.approx(0.1)


def test_the_pooled_interval_holds_pictures_and_seeds() -> None:
    drawn = [Drawn(value, np.full(100, value), 40) for value in (0.5, 0.7)]
    assert repeating._figure("AP", [0.5, 0.7], drawn).pooled == pytest.approx((0.5, 0.7))
