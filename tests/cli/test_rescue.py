"""`falconet import` and `falconet import-config` from the outside."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from falconet.api.load import load
from falconet.cli.rescue import import_config, import_weights
from falconet.core.config import read_yaml, validate, write_yaml
from falconet.core.errors import ConfigError, DataError, FalconetError, ModelError
from falconet.models.norms import unmeasured
from falconet.models.weights import load_weights
from falconet.train.run_config import RunConfig
from falconet.zoo.yolov3 import from_darknet as darknet_to_detector
from tests.zoo import darknet_reference, files
from tests.zoo.ncnn_writer import nanodet_pair
from tests.zoo.test_darknet import small_presets
from tests.zoo.test_importing import NAMES, small_nanodet
from tests.zoo.test_nanodet_yaml import FAMILY
from tests.zoo.test_paddle import CLASSES, original_state, save
from tests.zoo.test_paddle_yaml import write_family


@pytest.fixture(scope="module")
def app() -> typer.Typer:
    made = typer.Typer()
    made.command("import")(import_weights)
    made.command("import-config")(import_config)
    return made


def _call(app: typer.Typer, *arguments: str) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=True)
    if isinstance(result.exception, FalconetError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A NanoDet ncnn pair of three classes; the `.param`."""
    for suffix, data in zip(("param", "bin"), nanodet_pair(small_nanodet(), half=True), strict=True):
        (tmp_path / f"m.{suffix}").write_bytes(data)
    return tmp_path / "m.param"


def test_import_with_report(app: typer.Typer, pair: Path) -> None:
    out = pair.parent / "m.safetensors"
    text = _call(app, "import", pair, "--out", out, "--size", "64x96", "--classes", "apple, banana,cherry")
    assert "architecture  nanodet, input 64 x 96" in text
    assert "classes       3: apple, banana, cherry" in text
    assert "parity        largest difference on 4 pictures" in text
    assert text.splitlines()[-1] == f"written       {out}"
    detector, card = load_weights(out)
    assert card.classes == tuple(NAMES)
    assert unmeasured(detector)


def test_norms_measured_on_pictures(app: typer.Typer, pair: Path) -> None:
    folder = pair.parent / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(3):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 256, (80, 100, 3), np.uint8))
    (pair.parent / "names.txt").write_text("\n".join(NAMES))
    options = ["--size", "64x96", "--classes", pair.parent / "names.txt"]
    out = pair.parent / "measured.safetensors"
    text = _call(app, "import", pair, "--out", out, *options, "--pictures", folder)
    assert "batch norms   measured on 3 pictures" in text
    measured, _ = load_weights(out)
    assert not unmeasured(measured)
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = measured(images).logits, small_nanodet()(images).logits
    assert (a - b).abs().max() < 0.01 * b.abs().max()  # the file is in half precision
    with pytest.raises(DataError, match=r"holds no pictures; expected \.jpg or \.png"):
        _call(app, "import", pair, "--out", pair.parent / "x.safetensors", *options, "--pictures", pair.parent / "none")
    assert not (pair.parent / "x.safetensors").exists()


def test_a_pair_straight_to_onnx(app: typer.Typer, tmp_path: Path) -> None:
    for suffix, data in zip(("param", "bin"), files.nanodet_pair(3), strict=True):
        (tmp_path / f"m.{suffix}").write_bytes(data)
    out = tmp_path / "m.onnx"
    names = ",".join(NAMES)
    _call(app, "import", tmp_path / "m.bin", tmp_path / "m.param", "--out", out, "--size", "64", "--classes", names)
    predictor = load(out, threads=1)
    assert predictor.names == tuple(NAMES)
    assert predictor.manifest.preprocess.height == 64


def test_the_yaml_gives_names_and_input(app: typer.Typer, pair: Path) -> None:
    tree = dict(FAMILY["nanodet-m-0.5x"])
    head = tree["model"]["arch"]["head"]
    tree["model"] = {"arch": {**tree["model"]["arch"], "head": {**head, "num_classes": 3}}}
    tree["class_names"] = NAMES
    config = pair.parent / "nanodet.yml"
    config.write_text(write_yaml(tree))
    out = pair.parent / "m.safetensors"
    text = _call(app, "import", pair, "--out", out, "--config", config)
    assert "input 320 x 320" in text
    assert "classes       3: apple, banana, cherry" in text
    assert load_weights(out)[1].model.input.resize == "letterbox"
    with pytest.raises(ConfigError, match=r"--size 64: the YAML says 320x320; leave one of both out"):
        _call(app, "import", pair, "--out", pair.parent / "x.safetensors", "--config", config, "--size", "64")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["--out", "m.pt"], ConfigError, "expected a name that ends in .safetensors (or .onnx, of an ncnn pair)"),
        (
            ["--out", "m.safetensors", "--size", "12"],
            ConfigError,
            "--size 12: expected pixels from 32 to 8192",
        ),
        (
            ["--out", "m.safetensors", "--size", "64x96x3"],
            ConfigError,
            "--size 64x96x3: expected pixels from 32 to 8192",
        ),
        (["--out", "m.safetensors", "--classes", "a,a"], ConfigError, "expected class names that differ"),
        (["--out", "m.safetensors", "--classes", "none.txt"], ConfigError, "--classes none.txt: cannot be read"),
        (["--out", "m.safetensors"], ModelError, "has 3 classes, and the file does not name them"),
    ],
)
def test_wrong_options(
    app: typer.Typer,
    pair: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    error: type[Exception],
    message: str,
) -> None:
    monkeypatch.chdir(pair.parent)
    with pytest.raises(error) as caught:
        _call(app, "import", pair, *options)
    assert message in str(caught.value)
    assert not Path("m.safetensors").exists()


def test_nothing_is_overwritten(app: typer.Typer, pair: Path) -> None:
    out = pair.parent / "m.safetensors"
    out.write_text("precious")
    with pytest.raises(ConfigError, match="exists already; choose another name with --out, or remove it"):
        _call(app, "import", pair, "--out", out)
    assert out.read_text() == "precious"


def test_only_ncnn_becomes_onnx(app: typer.Typer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"only an ncnn pair becomes \.onnx directly"):
        _call(app, "import", tmp_path / "m.ckpt", "--out", tmp_path / "m.onnx")


def test_import_config(app: typer.Typer, tmp_path: Path) -> None:
    config, out = tmp_path / "nanodet.yml", tmp_path / "run.yaml"
    config.write_text(write_yaml(FAMILY["nanodet-plus-m-416"]))
    assert _call(app, "import-config", config, "--out", out).strip() == str(out)
    run = validate(RunConfig, read_yaml(out), name=str(out))
    assert run.train.epochs == 300
    printed = _call(app, "import-config", config)
    assert "name: nanodet-plus" in printed
    result = CliRunner().invoke(app, ["import-config", str(config)])
    assert f"2 keys of {config} have no counterpart:\n  schedule.warmup.ratio: the warm-up" in result.stderr


def test_ppyoloe_of_paddle(app: typer.Typer, tmp_path: Path) -> None:
    path = save(tmp_path / "model_final.pdparams", original_state())
    (tmp_path / "model_final.pdopt").write_bytes(b"unread")
    out = tmp_path / "m.safetensors"
    options = ["--out", out, "--classes", ",".join(CLASSES), "--size", "64x96"]
    text = _call(app, "import", path, path.with_suffix(".pdopt"), *options)
    assert "architecture  ppyoloe, input 64 x 96" in text
    assert "left over     nothing" in text
    assert "note          model_final.pdopt was left out: the state of an optimiser" in text
    _, card = load_weights(out)
    assert (card.model.input.channels, card.model.input.std) == ("rgb", (255, 255, 255))


def test_config_of_ppyoloe(app: typer.Typer, tmp_path: Path) -> None:
    top = write_family(tmp_path)
    base = tmp_path / "configs/runtime.yml"
    (tmp_path / "given").mkdir()
    base.rename(tmp_path / "given/runtime.yml")
    with pytest.raises(ConfigError, match="name the file or its folder with --base"):
        _call(app, "import-config", top)
    _call(app, "import-config", top, "--out", tmp_path / "run.yaml", "--base", tmp_path / "given")
    run = validate(RunConfig, read_yaml(tmp_path / "run.yaml"))
    assert (run.model.name, run.train.epochs) == ("ppyoloe", 80)


def test_darknets_weights_with_their_cfg(app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(darknet_to_detector, "PRESETS", small_presets())
    sections = darknet_reference.network("yolov3", classes=20)
    numbers = darknet_reference.random_numbers(sections)
    (tmp_path / "mine.weights").write_bytes(darknet_reference.header() + numbers.tobytes())
    (tmp_path / "mine.cfg").write_text(darknet_reference.text(sections))
    out = tmp_path / "mine.safetensors"
    text = _call(app, "import", tmp_path / "mine.weights", tmp_path / "mine.cfg", "--out", out, "--classes", "voc")
    assert text.splitlines() == [
        "architecture  yolov3, input 64 x 64",
        "classes       20: aeroplane, bicycle, bird, boat, bottle, bus and 14 more",
        "matched       75",
        "left over     nothing",
        "note          darknet 0.2.0, 32,013,312 pictures seen in training",
        "parity        no reference that could be run",
        f"written       {out}",
    ]
    assert load_weights(out)[1].source == "mine.weights"
    with pytest.raises(ModelError, match="is not a kind of weights known here"):
        _call(app, "import", tmp_path / "mine.cfg", "--out", tmp_path / "other.safetensors")
