"""What somebody meets who types commands for the first time: help, the version, arguments in a wrong place."""

import json
import os
import re
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import falconet
from falconet import __version__
from falconet.api.find import weights_to_start_from
from falconet.cli import COMMANDS, _register, app, main
from falconet.core.errors import ConfigError, DataError, ModelError
from falconet.models import PRESETS
from falconet.training import fit, read_run, resume
from falconet.training.run_data import load_data
from tests.runtime import tiny_model
from tests.training.tiny import draw, options, tiny_run
from tests.training.tiny_classifier import draw_colours

_register()


def run(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False, env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"})
    assert done.exit_code == 0, done.output
    return done.stdout


def fail(kind: type[Exception], *words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def test_the_version() -> None:
    assert run("--version") == f"falconet {__version__}\n"


def test_commands_stand_in_the_order_of_use_with_whole_sentences() -> None:
    text = run("--help")
    shown = re.findall(r"^  ([a-z-]+) {2,}(.*)$", text.partition("Commands:")[2], re.M)
    assert [name for name, _ in shown] == list(COMMANDS)
    assert all(sentence.endswith(".") and "..." not in sentence for _, sentence in shown)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if command.examples])
def test_examples_are_of_options_that_exist(name: str) -> None:
    text = run(name, "--help")
    for example in COMMANDS[name].examples:
        assert example in text
    for option in re.findall(r" (--[a-z-]+)", " ".join(COMMANDS[name].examples)):
        assert option in text or option in run("config", "--help"), option


def test_the_keys_that_matter_exist(tmp_path: Path) -> None:
    text = run("train", "--help")
    keys = re.findall(r"^  ([a-z_.]+)=(\S+) {2,}", text, re.M)
    assert len(keys) >= 12
    data = draw(tmp_path, train=2, val=1)
    known = [f"{key}={value}" for key, value in keys if key not in ("data", "data.val", "output")]
    read_run("nanodet-plus-m-320", [f"data={data}", *known])


def test_every_command_is_there() -> None:
    for command in COMMANDS.values():
        what = getattr(import_module(f"falconet.cli.{command.module}"), command.function)
        assert callable(what) or isinstance(what, typer.Typer)


@pytest.mark.parametrize(
    ("words", "before"),
    [
        (["train", ""], "falconet train"),
        (["data", "check", ""], "falconet data check"),
        (["predict", "a.jpg", ""], "falconet predict a.jpg"),
        (["eval", "mine.onnx", "--data", ""], "falconet eval mine.onnx --data"),
        (["data", "demo", "--seed", "1", ""], "falconet data demo --seed 1"),
        (["eval", "mine.onnx", "--data="], "--data"),
    ],
)
def test_an_empty_text_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], before: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["falconet", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"falconet: '{before}' is followed by an empty text")
    assert not list(tmp_path.iterdir())


def test_a_preset_behind_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    preset, *changes = options(draw(tmp_path / "drawn"), tmp_path / "run", "train.epochs=1")
    assert run("train", *changes, preset).endswith(f"{tmp_path / 'run'}\n")
    assert "expected a run file, a preset name" in fail(ConfigError, "train", "train.epochs=1")


def test_training_longer(tmp_path: Path) -> None:
    told = fail(ConfigError, "train", "--resume", str(tmp_path), "train.epochs=200")
    assert "cannot be combined with 'train.epochs=200'. To train longer or otherwise, start a new run" in told
    assert f"falconet train {tmp_path}/run.yaml train.weights={tmp_path} output=NEW" in told


def test_models_among_the_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine").mkdir()
    Path("mine/run.yaml").touch()
    for model in ("mine", "best.onnx", "best.safetensors"):
        told = fail(ConfigError, "predict", model, "a.jpg")
        assert told.endswith(f"expected it behind --model: falconet predict a.jpg --model {model}")


@pytest.mark.parametrize(("name", "program"), [("m.pth", "torch"), ("m.PT", "torch"), ("m.weights", "darknet")])
def test_a_file_of_another_program_is_called_that(tmp_path: Path, name: str, program: str) -> None:
    (tmp_path / name).write_bytes(b"anything")
    (tmp_path / "a.png").write_bytes(b"")
    told = fail(ModelError, "predict", str(tmp_path / "a.png"), "--model", str(tmp_path / name))
    assert f"is a file of {program}, not an exported model; 'falconet import' brings over" in told


def test_coco_stands_for_the_weights_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetch(name: str, **_: object) -> Path:
        asked.append(name)
        return Path("there")

    monkeypatch.setattr("falconet.zoo.published.fetch.fetch_weights", fetch)
    for word in ("coco", "COCO"):
        assert weights_to_start_from(word, PRESETS["nanodet-plus-m-320"]) == Path("there")
    assert asked == ["nanodet-plus-m-416-coco"] * 2
    with pytest.raises(ConfigError, match="no COCO weights are published for this network"):
        weights_to_start_from("coco", PRESETS["yolov3-mobilenet-v2"])


def test_gpu_means_cuda() -> None:
    assert read_run("nanodet-plus-demo", ["data.train=a", "train.accelerator=gpu"]).train.accelerator == "cuda"


def test_a_single_class_is_no_question(tmp_path: Path) -> None:
    draw_colours(tmp_path / "all", count=2)
    for name in ("red", "green"):
        for path in (tmp_path / "all" / name).iterdir():
            path.unlink()
        (tmp_path / "all" / name).rmdir()
    run_config = read_run("mobilenet-v2-0.5", [f"data={tmp_path}/all"])
    with pytest.raises(DataError, match="holds a single class, blue, and whatever answers that is always right"):
        load_data(run_config.data, image_level_labels=True)


def test_models_are_listed_by_their_work_and_one_is_recommended() -> None:
    text = run("models")
    assert "Start with nanodet-plus-m-320" in text
    for task in ("detect", "classify"):
        work = [float(macs) for macs in re.findall(rf" {task} .* ([0-9.]+) G", text)]
        assert len(work) > 10
        assert work == sorted(work)


@pytest.mark.parametrize("name", ["detect_array", "detect_folder", "detect_video"])
def test_examples_say_how_to_call_them(name: str) -> None:
    path = Path(__file__).resolve().parents[2] / "examples" / f"{name}.py"
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"python {name}.py model.onnx" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_exported_file_is_measured_without_torch(tmp_path: Path) -> None:
    tiny_model.write(tmp_path / "m.onnx")
    code = "import sys; sys.modules['torch'] = None; from falconet.cli import main; main()"
    for command in ("profile", "bench"):
        words = [command, str(tmp_path / "m.onnx"), "--threads", "1,2", "--calls", "5", "--engine", "onnxruntime"]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert re.search(r"onnxruntime float32 +1 +[0-9. ]+\n *onnxruntime float32 +2 ", done.stdout)
    told = fail(ConfigError, "profile", str(tmp_path / "m.onnx"), "--compare", "a,b")
    assert told == "exported files are compared by 'falconet bench', each at its own size"
    told = fail(ConfigError, "profile", str(tmp_path / "m.onnx"), "--layers")
    assert told.startswith("--layers: an exported file is measured as a whole; expected the weights or the run folder")


def test_what_is_exported_already(tmp_path: Path) -> None:
    tiny_model.write(tmp_path / "m.onnx")
    told = fail(ModelError, "export", str(tmp_path / "m.onnx"), "--out", str(tmp_path))
    assert "m.onnx: is exported already; expected the weights" in told


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["train", "p", "--data", "photos"], "--data: training takes KEY=VALUE, as in data=photos"),
        (["train", "p", "--images=there"], "--images=there: training takes KEY=VALUE, as in data.train.images=there"),
        (["eval", "m.onnx", "data=photos"], "data=photos: 'eval' takes options, as in --data photos"),
        (["export", "run", "split=val"], "split=val: 'export' takes options, as in --split val"),
    ],
)
def test_data_in_the_form_of_another_command(words: list[str], meant: str) -> None:
    done = subprocess.run([sys.executable, "-m", "falconet", *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"falconet: {meant}\n")


@pytest.mark.parametrize(("word", "begins"), [("help", "Usage: "), ("version", f"falconet {__version__}")])
def test_words_for_options(word: str, begins: str) -> None:
    done = subprocess.run([sys.executable, "-m", "falconet", word], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith(begins)


def test_an_empty_value_is_no_value() -> None:
    with pytest.raises(ConfigError, match=r"override 'train\.minutes=': says nothing; expected a value, or train.min"):
        read_run("nanodet-plus-demo", ["data.train=a", "train.minutes="])


def test_blanks_around_class_names_are_told(tmp_path: Path) -> None:
    data = draw(tmp_path, train=3, val=1)
    tree = json.loads((data / "train.json").read_text())
    tree["categories"][0]["name"] += " "
    (data / "train.json").write_text(json.dumps(tree))
    assert "begins or ends with a blank; other files will spell it in another way" in run("data", "check", str(data))


def test_near_words_for_weights() -> None:
    with pytest.raises(ModelError, match="did you mean 'coco'"):
        weights_to_start_from("coc", PRESETS["nanodet-plus-m-320"])


def test_a_score_is_a_share(tmp_path: Path) -> None:
    tiny_model.write(tmp_path / "m.onnx")
    with pytest.raises(ConfigError, match="score: expected a number from 0 to 1, but got 7"):
        falconet.load(tmp_path / "m.onnx", score=7)


def test_a_run_in_progress_is_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".falconet.lock").write_text(f"{os.getppid()} {socket.gethostname()}")
    for start in (lambda: fit(tiny_run(tmp_path / "nowhere", tmp_path / "run")), lambda: resume(tmp_path / "run")):
        with pytest.raises(DataError, match="writes there just now"):
            start()
