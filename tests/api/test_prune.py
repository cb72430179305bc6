"""`falconet prune`: which share of the channels fits a budget, and what is trained of it."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from falconet.api import prune as pruning
from falconet.api.prune import prune
from falconet.cli.prune import prune as command
from falconet.core.errors import ConfigError
from falconet.models import build
from falconet.models.weights import load_weights, read_card
from falconet.training import fit
from tests.training.tiny import draw, tiny_run

SHORT = ("train.epochs=1", "train.loggers=[]")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def wide(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tiny_run(data, tmp_path_factory.mktemp("runs") / "wide", "train.loggers=[]"))


def parameters(model) -> int:
    return sum(one.numel() for one in build(model, 6).parameters())


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock by which ten thousand parameters take a millisecond; what it was asked."""
    asked: list[float] = []

    def measure(model, *_: object) -> tuple[float, float]:
        asked.append(parameters(model) / 1e4)
        return asked[-1], 0.0

    monkeypatch.setattr(pruning, "_measure", measure)
    return asked


def test_the_widest_that_fits_a_budget(wide: Path, counted: list[float], tmp_path: Path) -> None:
    whole = parameters(read_card(wide / "best.safetensors").model) / 1e4
    done = prune(wide, budget_ms=0.7 * whole, overrides=[*SHORT, f"output={tmp_path}/small"])
    assert 0.2 <= done.share <= 0.95
    assert done.before.ms == whole
    assert done.after.ms <= 0.7 * whole
    wider = [ms for ms in counted if ms > done.after.ms]
    assert min(wider) > 0.7 * whole  # the next wider one that was asked does not fit
    assert len(counted) <= 7
    network, card = load_weights(done.path / "best.safetensors")
    assert sum(one.numel() for one in network.parameters()) == done.after.parameters < done.before.parameters
    assert card.model.backbone.bottleneck == done.share
    log = (done.path / "train.log").read_text(encoding="utf-8")
    assert "pruned: " in log
    assert "learning rate: 0.003" in log
    assert "folded into" not in log
    assert f"teacher: {wide}/best.safetensors" in log
    assert str(done).splitlines()[0].split() == ["AP,", "%", "ms", "parameters"]
    assert json.loads(json.dumps(done.as_dict()))["before"]["name"] == "wide"


@pytest.mark.usefixtures("counted")
def test_folders_of_their_own_and_an_activation(wide: Path) -> None:
    names = []
    for activation in ("relu", "silu"):
        done = prune(wide, activation=activation, overrides=[*SHORT, "train.teacher=null"])
        names.append(done.path.name)
        assert done.share == 1
        model = read_card(done.path / "last.safetensors").model
        assert (model.backbone.activation, model.neck.activation, model.head.activation) == (activation,) * 3
        log = (done.path / "train.log").read_text(encoding="utf-8")
        assert "pruned: " not in log
        assert "learning rate: 0.001" in log
        assert "teacher: " not in log
    assert names == ["wide-pruned", "wide-pruned-2"]


@pytest.mark.usefixtures("counted")
def test_errors(wide: Path, tmp_path: Path) -> None:
    def message(**options) -> str:
        with pytest.raises(ConfigError) as caught:
            prune(**{"model": wide, "overrides": SHORT} | options)
        return str(caught.value)

    assert message() == "nothing to do; expected --budget MS, --share OF_THE_CHANNELS or --activation NAME"
    assert message(budget_ms=8, share=0.5).startswith("--budget and --share: one of them")
    assert message(budget_ms=1e5).endswith("ms already; there is nothing to prune")
    assert "20% of the channels still take" in message(budget_ms=1e-3)
    assert message(activation="swish").startswith("--activation swish: is not known; expected one of relu, relu6")
    alone = tmp_path / "alone.safetensors"
    alone.write_bytes((wide / "best.safetensors").read_bytes())
    assert "does not lie in the folder of a run" in message(model=alone, share=0.5)
    assert "train.epoch: unknown key; did you mean 'epochs'?" in message(share=0.5, overrides=["train.epoch=3"])
    assert f"{wide}: already holds a run" in message(share=0.5, overrides=[*SHORT, f"output={wide}"])


def test_the_command(wide: Path, tmp_path: Path, counted: list[float]) -> None:
    app = typer.Typer()
    app.command()(command)
    arguments = [str(wide), "--share", "0.5", "--json", *SHORT, f"output={tmp_path}/half"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["share"], told["path"]) == (0.5, f"{tmp_path}/half")
    assert counted == [told["before"]["ms"], told["after"]["ms"]]
    failed = CliRunner().invoke(app, [str(wide), "--budget", "soon"])
    assert str(failed.exception) == "--budget soon: expected milliseconds, as in 8ms"


def test_real_milliseconds(wide: Path) -> None:
    card = read_card(wide / "best.safetensors")
    clock = pruning._clock("onnxruntime", 1, card.classes)
    took = clock(card.model)
    assert 0.01 < took < 1000
    assert clock(card.model) == took
    assert pruning.SHARES[0] == 0.95
    assert pruning.SHARES[-1] == 0.2
