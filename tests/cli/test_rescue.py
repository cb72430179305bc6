"""`falconet import` and `falconet import-config` from the outside."""

import copy
import re
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
from falconet.training.run_config import RunConfig
from falconet.training.run_data import load_data
from falconet.zoo.yolov3 import from_darknet as darknet_to_detector
from tests.zoo import darknet_reference, files
from tests.zoo.ncnn_writer import nanodet_pair
from tests.zoo.shared import GRAPH, WEIGHTS, need
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
    assert text.splitlines()[-2:] == [
        f"written       {out}",
        f"next: falconet export {out} --images PICTURES --out exported",
    ]
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
    shown = _call(
        app, "import", tmp_path / "m.bin", tmp_path / "m.param", "--out", out, "--size", "64", "--classes", names
    )
    assert "parity        not measured: it takes torch (falconet[train]) and a network that can be rebuilt" in shown
    assert shown.endswith(f"written       {out}\nnext: falconet predict PICTURES --model {out} --out found\n")
    predictor = load(out, threads=1)
    assert predictor.names == tuple(NAMES)
    assert predictor.manifest.preprocess.height == 64


def test_a_pair_straight_to_onnx_is_proven(app: typer.Typer, tmp_path: Path) -> None:
    need(GRAPH, WEIGHTS)
    shown = _call(app, "import", GRAPH, "--out", tmp_path / "m.onnx")
    assert "matched       110\n" in shown, "the same table as of an import to weights"
    found = re.search(
        "parity        largest difference on 4 pictures: scores ([0-9.e-]+), boxes ([0-9.e-]+) .relative", shown
    )
    assert found is not None
    assert max(map(float, found.groups())) < 1e-4
    assert "fine-tuning" not in shown, "which means nothing for an .onnx file"
    assert f"written       {tmp_path / 'm.onnx'}\nnext: falconet predict " in shown


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


def draw_pictures(folder: Path, count: int) -> None:
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f"{index}.jpg"), np.full((40, 60, 3), 90, np.uint8))


def _with_data(tmp_path: Path, kind: str, annotations: str) -> Path:
    """A YAML of two classes whose data are in `tmp_path`."""
    tree = copy.deepcopy(FAMILY["nanodet-plus-m-320"])
    tree["class_names"] = ["zebra", "apple"]
    for part in ("head", "aux_head"):
        tree["model"]["arch"][part]["num_classes"] = 2
    for part in ("train", "val"):
        place = tmp_path / annotations
        tree["data"][part] |= {"name": kind, "img_path": str(tmp_path / "images"), "ann_path": str(place)}
    (tmp_path / "nanodet.yml").write_text(write_yaml(tree))
    return tmp_path / "nanodet.yml"


def test_data_whose_names_come_in_another_order(app: typer.Typer, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "images", 2)
    for index, name in enumerate(("zebra", "apple")):
        box = "<bndbox><xmin>2</xmin><ymin>2</ymin><xmax>20</xmax><ymax>20</ymax></bndbox>"
        (tmp_path / f"xml/{index}.xml").parent.mkdir(exist_ok=True)
        (tmp_path / f"xml/{index}.xml").write_text(
            f"<annotation><filename>{index}.jpg</filename><object><name>{name}</name>{box}</object></annotation>"
        )
    config = _with_data(tmp_path, "XMLDataset", "xml")
    _call(app, "import-config", config, "--out", tmp_path / "run.yaml")
    data = load_data(validate(RunConfig, read_yaml(tmp_path / "run.yaml")).data)
    assert data.names == ("zebra", "apple")
    assert [[record.path.name, *record.labels] for record in data.train] == [["0.jpg", 0], ["1.jpg", 1]]
    assert [list(record.labels) for record in data.val] == [[0], [1]]


def test_data_that_training_would_refuse(app: typer.Typer, tmp_path: Path) -> None:
    draw_pictures(tmp_path / "images", 2)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/0.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    config = _with_data(tmp_path, "YoloDataset", "labels")
    with pytest.raises(ConfigError) as error:
        _call(app, "import-config", config, "--out", tmp_path / "run.yaml")
    assert str(error.value).startswith(
        f"{tmp_path / 'run.yaml'}: is not written, because 'falconet train' would refuse it:\n"
        "  data.train.annotations: its label files have no class names; write a YOLO .yaml with `names: [...]`"
    )
    assert not (tmp_path / "run.yaml").exists()
    assert "name: nanodet-plus" in _call(app, "import-config", config)
    config = _with_data(tmp_path, "XMLDataset", "labels")
    with pytest.raises(ConfigError, match=r"would refuse it:\n  data: .*labels"):
        _call(app, "import-config", config, "--out", tmp_path / "run.yaml")


def test_data_that_are_elsewhere(app: typer.Typer, tmp_path: Path) -> None:
    config = _with_data(tmp_path, "CocoDataset", "train.json")
    result = CliRunner().invoke(app, ["import-config", str(config), "--out", str(tmp_path / "run.yaml")])
    assert f"takes it:\n  data.train.annotations: {tmp_path / 'train.json'} is not there; correct it" in result.stderr
    assert (tmp_path / "run.yaml").exists()


def test_a_neck_that_expects_another_backbone(app: typer.Typer, tmp_path: Path) -> None:
    tree = copy.deepcopy(FAMILY["nanodet-plus-m-320"])
    tree["model"]["arch"]["fpn"]["in_channels"] = [176, 352, 704]
    (tmp_path / "nanodet.yml").write_text(write_yaml(tree))
    message = r"in_channels: is \[176, 352, 704\], but the backbone shufflenet-v2 returns \[116, 232, 464\] here"
    with pytest.raises(ConfigError, match=message):
        _call(app, "import-config", tmp_path / "nanodet.yml")
    with pytest.raises(ConfigError, match=message):
        _call(app, "import", tmp_path / "m.ckpt", "--config", tmp_path / "nanodet.yml", "--out", tmp_path / "m.st")


@pytest.mark.parametrize(("count", "title"), [(80, "COCO"), (20, "Pascal VOC")])
def test_names_that_were_taken_from_a_known_list(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, title: str
) -> None:
    monkeypatch.setattr(darknet_to_detector, "PRESETS", small_presets())
    sections = darknet_reference.network("yolov3-tiny", classes=count)
    weights = tmp_path / "mine.weights"
    weights.write_bytes(darknet_reference.header() + darknet_reference.random_numbers(sections).tobytes())
    said = _call(app, "import", weights, "--out", tmp_path / "a.safetensors")
    assert f"the file names no classes; it has {count}, as many as {title}, whose names were taken" in said
    (tmp_path / "own.names").write_bytes("\ufeff".encode() + b"\n".join(b"c%d" % n for n in range(count)))
    said = _call(app, "import", weights, "--out", tmp_path / "b.safetensors", "--classes", tmp_path / "own.names")
    assert "whose names were taken" not in said
    assert load_weights(tmp_path / "b.safetensors")[1].classes[0] == "c0"


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
        f"next: falconet export {out} --images PICTURES --out exported",
    ]
    assert load_weights(out)[1].source == "mine.weights"
    with pytest.raises(ModelError, match="is not a kind of weights known here"):
        _call(app, "import", tmp_path / "mine.cfg", "--out", tmp_path / "other.safetensors")
