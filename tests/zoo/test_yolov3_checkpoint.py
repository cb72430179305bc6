"""YOLOv3 checkpoints of yolo3-pytorch: the same numbers come out; other shapes are refused."""

import re

import numpy as np
import pytest
import torch

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.models import PRESETS, build
from falconet.models.backbones import MobileNetV2Config
from falconet.models.yolov3 import YOLOv3Config
from falconet.zoo.class_lists import VOC_NAMES
from falconet.zoo.imported import ImportOptions
from falconet.zoo.importing import import_files
from falconet.zoo.yolov3.from_checkpoint import import_yolov3
from falconet.zoo.yolov3.keys import convert, head_key, our_rows
from tests.golden.case import Case

CASE = "yolov3_mobilenetv2_voc"


@pytest.fixture(scope="module")
def state():
    return Case(CASE).weights()


@pytest.mark.slow
def test_a_checkpoint_file(state, tmp_path):
    path = tmp_path / "ep100.pth"
    torch.save({f"module.{key}": torch.from_numpy(np.array(value)) for key, value in state.items()}, path)
    imported = import_files([path], ImportOptions(preprocess=Preprocess(height=256, width=320), licence="MIT"))
    assert imported.card.classes == VOC_NAMES
    model = imported.card.model
    assert (model.input.height, model.input.width, model.input.resize) == (256, 320, "letterbox")
    assert model.backbone.name == "mobilenet-v2"
    assert imported.fresh == ()
    assert all("features.18" in name or "classifier" in name for name in imported.left_over)
    case = Case(CASE)
    with torch.no_grad():
        raw = imported.detector(torch.from_numpy(case.input("nonsq")))
    joined = torch.cat((raw.box_code, raw.objectness, raw.logits), -1)[:, :3840]
    case.check("nonsq/out.2", joined.reshape(1, 32, 40, 75).permute(0, 3, 1, 2))


def test_shapes_and_names_that_do_not_fit(state, tmp_path):
    path = tmp_path / "a.pth"
    with pytest.raises(ModelError, match="has 20 classes, but 2 names were given: a, b"):
        import_yolov3(state, path, ImportOptions(classes=["a", "b"]))
    output = "last_layer0.6.weight"
    with pytest.raises(ModelError, match=re.escape("has shape [74, 1024, 1, 1]; expected 3 x (5 + classes) outputs")):
        import_yolov3(state | {output: state[output][:74]}, path)
    with pytest.raises(ModelError, match=r"has 17 classes; pass their names in the order of training \(--classes\)"):
        import_yolov3(state | {output: state[output][:66]}, path)
    with pytest.raises(ModelError, match="holds a YOLOv3, but the configuration is that of nanodet"):
        import_yolov3(state, path, ImportOptions(config=PRESETS["nanodet-m-320"]))
    broken = {key: value for key, value in state.items() if key != "last_layer1.2.conv.weight"}
    with pytest.raises(ModelError, match=r"another network: neck.sets.1.2.conv.weight is missing"):
        import_yolov3(broken, path)
    infinite = state | {"last_layer1.2.bn.bias": np.full(256, np.inf, np.float32)}
    with pytest.raises(ModelError, match=r"neck.sets.1.2.norm.bias holds numbers that are not finite"):
        import_yolov3(infinite, path)


def test_every_weight_has_a_name():
    detector = build(YOLOv3Config(backbone=MobileNetV2Config()), 2)
    names = {
        head_key(key)
        for key in (
            *(f"last_layer{i}.{j}.{k}.weight" for i in range(3) for j in range(6) for k in ("conv", "bn")),
            *(f"last_layer{i}.6.{k}" for i in range(3) for k in ("weight", "bias")),
            *(f"last_layer{i}_conv.{k}.weight" for i in (1, 2) for k in ("conv", "bn")),
        )
    }
    own = {name for name, _ in detector.named_parameters() if not name.startswith("backbone.")}
    assert {name for name in own if not name.endswith("norm.bias")} == names
    assert head_key("last_layer0.7.weight") is None
    assert head_key("something.else") is None


def test_rows_of_the_outputs_are_sorted():
    values = np.arange(14.0).reshape(14, 1)
    target = ["head.outputs.0.weight", "head.outputs.1.weight", "head.outputs.2.weight"]
    found = convert("darknet53", {"last_layer0.6.weight": values}, target, num_anchors=2)
    assert found.weights["head.outputs.2.weight"].ravel().tolist() == our_rows(2, 2).tolist()
    assert found.missing == ("head.outputs.0.weight", "head.outputs.1.weight")
