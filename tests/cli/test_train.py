"""`falconet train` and `config`: what is printed and how wrong requests are answered."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from falconet.api import find, require
from falconet.cli import train as commands
from falconet.core.errors import ConfigError
from falconet.training.progress import Progress
from tests.training.tiny import draw, options

app = typer.Typer()
app.command("train")(commands.train)
app.command("config")(commands.config)


def output(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def message(*arguments: str) -> str:
    with pytest.raises(ConfigError) as error:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return str(error.value)


def test_config_prints_or_writes_a_run_file(tmp_path: Path) -> None:
    text = output("config", "nanodet-plus-demo")
    assert text.startswith("output: runs/nanodet-plus-demo")
    path = tmp_path / "run.yaml"
    assert output("config", "nanodet-plus-demo", "--out", str(path)).strip() == str(path)
    assert path.read_text() == text
    assert "exists already; choose another name with --out" in message(
        "config", "nanodet-plus-demo", "--out", str(path)
    )
    assert json.loads(output("config", "--schema"))["title"] == "RunConfig"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["config"], "expected either a preset ('falconet models' lists them) or --schema"),
        (["config", "a", "--schema"], "expected either a preset"),
        (["config", "nanodet"], "'nanodet' is neither a file nor a preset; did you mean"),
        (["train"], "expected a run file, a preset name ('falconet models' lists them) or --resume FOLDER"),
        (["train", "run.yaml", "--resume", "x"], "it cannot be combined with 'run.yaml'"),
        (["train", "--resume", "/absent"], "/absent: holds no run.yaml; expected the folder of a run"),
    ],
)
def test_a_wrong_request_says_what_was_expected(arguments: list[str], expected: str) -> None:
    assert expected in message(*arguments)


def test_without_the_training_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(require, "find_spec", lambda name: None if name == "torch" else name)
    assert message("config", "nanodet-plus-demo") == (
        "training needs torch, which the base install leaves out; install it with: pip install 'falconet[train]'"
    )


def test_train_prints_the_folder(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn", train=4, val=2)
    text = output("train", *options(data, tmp_path / "run", "train.epochs=1"))
    assert text.strip().splitlines()[-1] == str(tmp_path / "run")
    assert (tmp_path / "run/best.safetensors").exists()


def test_a_run_without_a_folder_gets_one_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = draw(tmp_path / "drawn", train=4, val=2)
    monkeypatch.chdir(tmp_path)
    words = [word for word in options(data, tmp_path / "run", "train.epochs=1") if not word.startswith("output=")]
    for name in ("nanodet-plus-demo", "nanodet-plus-demo-2", "nanodet-plus-demo-3"):
        assert output("train", *words).strip().splitlines()[-1] == str(tmp_path / "runs" / name)
    again = message("train", *words, f"output={tmp_path}/runs/nanodet-plus-demo")
    assert "already holds a run" in again


def test_a_preset_starts_from_published_weights_where_they_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = draw(tmp_path / "drawn", train=4, val=2)
    sources = (f"data.train={data}/train.json", f"data.val={data}/val.json")
    small = ("model.input={height: 64, width: 64}", "train.batch_size=4", "train.epochs=1", "data.workers=0")
    monkeypatch.setenv("FALCONET_WEIGHTS", str(tmp_path))  # an empty folder: nothing can be had
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first = output("train", "nanodet-plus-m-320", *sources, *small, f"output={tmp_path}/first")
    log = (tmp_path / "first/train.log").read_text()
    assert "weights: from scratch" in log
    assert "weights: null" in (tmp_path / "first/run.yaml").read_text()
    assert str(tmp_path / "first") in first

    monkeypatch.setattr(find, "weights_to_start_from", lambda *_: tmp_path / "first/best.safetensors")
    output("train", "nanodet-plus-m-320", *sources, *small, f"output={tmp_path}/second")
    assert f"weights: {tmp_path}/first/best.safetensors" in (tmp_path / "second/train.log").read_text()
    output("train", "nanodet-plus-m-320", *sources, *small, f"output={tmp_path}/third", "train.weights=null")
    assert "weights: from scratch" in (tmp_path / "third/train.log").read_text()


def test_the_bar_shows_figures_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    bar = commands.TrainBar()
    bar.start(Progress(0, 2, 0.0), steps=3)
    bar.epoch({"AP": 0.25, "AP50": 0.5}, Progress(1, 2, 0.5))
    bar.step(Progress(1, 2, 0.9), step=3, loss=1.5)
    bar.stop()
    bar.stop()
    shown = capsys.readouterr().err
    assert "epoch 2/2 step 3/3" in shown
    assert "AP 25.0" in shown
    assert "loss 1.500" in shown


def test_the_bar_of_given_minutes_shows_what_is_left_of_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "160")
    bar = commands.TrainBar()
    bar.start(Progress(0, None, 0.0, 600.0), steps=3)
    bar.step(Progress(7, None, 0.8, 124.6), step=3, loss=1.5)
    bar.stop()
    shown = capsys.readouterr().err
    assert "epoch 8 step 3/3" in shown
    assert "2:05" in shown


def test_no_bar_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    bar = commands.TrainBar()
    bar.start(Progress(0, 2, 0.0), steps=3)
    bar.step(Progress(0, 2, 0.1), step=1, loss=1.0)
    bar.stop()
    assert capsys.readouterr().err == ""


def test_a_long_epoch_without_a_terminal_says_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    caplog.set_level("INFO")
    bar = commands.TrainBar()
    bar.start(Progress(0, 2, 0.0), steps=3)
    for step in (1, 2, 3):
        now[0] += 8
        bar.step(Progress(0, 2, 0.1, 61.0), step=step, loss=1.0)
    bar.stop()
    assert caplog.messages == ["epoch 1/2: step 2/3  loss 1.000  1:01 left"]
