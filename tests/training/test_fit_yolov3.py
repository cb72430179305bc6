"""A whole training of a tiny YOLOv3; what it leaves is exported, compared and run. So are the other variants."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from falconet.api.load import load
from falconet.core.errors import ConfigError
from falconet.exporting.compare import raw_differences
from falconet.exporting.onnx import export_onnx
from falconet.exporting.torch_engine import TorchEngine
from falconet.exporting.verify import verify
from falconet.models import PRESETS, build
from falconet.models.weights import ModelCard, load_weights, save_weights
from falconet.models.yolov3 import YOLOv3Config
from falconet.training import RunConfig, fit, read_run, resume
from falconet.training.loggers import NullCallback
from falconet.training.progress import Progress
from falconet.training.run_data import load_data
from tests.training.tiny import assert_same_weights, draw

SMALL: dict[str, list[str]] = {
    "yolov3-mobilenet-v2": ["model.backbone.width=0.125", "model.neck.channels=8"],
    "yolov3-lite-mobilenet-v2": ["model.backbone.width=0.125", "model.neck.channels=8"],
    "yolov3-spp": ["model.backbone.width=0.0625", "model.neck.channels=8"],
    "yolov3-tiny": ["model.backbone.width=0.0625", "model.neck.channels=8"],
}


def tiny(data: Path, output: Path, *overrides: str, preset: str = "yolov3-mobilenet-v2") -> RunConfig:
    options = [
        "model.input.height=64",
        "model.input.width=96",
        *SMALL[preset],
        f"data.train={data}/train.json",
        f"data.val={data}/val.json",
        f"output={output}",
        "data.workers=0",
        "train.batch_size=4",
        "train.epochs=3",
        *overrides,
    ]
    return read_run(preset, options)


class Interrupting(NullCallback):
    """Stops the run at the second step of the second epoch."""

    def step(self, progress: Progress, *, step: int, loss: float) -> None:  # noqa: ARG002
        if (progress.epoch, step - 1) == (1, 1):
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tiny(data, tmp_path_factory.mktemp("runs") / "whole", "train.multi_scale=[0.5, 1.5]"))


def test_what_a_run_leaves(trained: Path) -> None:
    lines: list[dict[str, Any]] = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {"loss_class", "loss_box", "loss_objectness", "AP"} <= set(lines[-1])
    assert lines[-1]["loss"] == pytest.approx(sum(v for k, v in lines[-1].items() if k.startswith("loss_")))


def test_interrupted_and_resumed_is_the_same_run(data: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(data, tmp_path / "run", "train.multi_scale=[0.5, 1.5]"), callback=Interrupting())
    resume(tmp_path / "run")
    assert_same_weights(tmp_path / "run" / "last.safetensors", trained / "last.safetensors")


def test_other_classes_keep_boxes_and_objectness(data: Path, trained: Path, tmp_path: Path) -> None:
    detector, card = load_weights(trained / "best.safetensors")
    other = build(card.model, 2)
    renamed = tmp_path / "other.safetensors"
    save_weights(renamed, other, ModelCard(model=card.model, classes=("a", "b")))
    run = tiny(data, tmp_path / "run", f"train.weights={renamed}", "train.epochs=1", "train.learning_rate=1e-9")
    log = (fit(run) / "train.log").read_text()
    assert "classes new to these weights: disc, " in log
    taken, _ = load_weights(tmp_path / "run" / "last.safetensors")
    rows = {2: slice(6, None), 6: slice(18, None)}
    for ours, theirs in zip(taken.head.outputs, other.head.outputs, strict=True):
        torch.testing.assert_close(ours.weight[rows[6]], theirs.weight[rows[2]], rtol=1e-3, atol=1e-5)
    assert len(card.classes) == 6
    assert detector.head.outputs[0].weight.shape == taken.head.outputs[0].weight.shape


def test_exported_with_a_receipt_and_run_without_torch(data: Path, trained: Path, tmp_path: Path) -> None:
    exported = export_onnx(trained, tmp_path / "model.onnx")
    records = load_data(tiny(data, tmp_path).data).val
    receipt = verify(trained, exported, records, threads=1)
    assert receipt.problems == ()
    found = load(exported, threads=1).predict(records[0].path)
    assert found.boxes.shape[1] == 4


@pytest.mark.slow
@pytest.mark.parametrize("preset", [name for name in SMALL if name != "yolov3-mobilenet-v2"])
def test_every_variant_is_exported_and_computes_the_same(preset: str, data: Path, tmp_path: Path) -> None:
    config = tiny(data, tmp_path, preset=preset).model
    assert isinstance(config, YOLOv3Config)
    torch.manual_seed(0)
    detector = build(config, 3)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        detector(torch.randn(4, 3, 64, 96))  # statistics that keep the features in range
    for output in detector.head.outputs:
        nn.init.normal_(output.weight, std=0.2)
        nn.init.normal_(output.bias)
    weights = tmp_path / "weights.safetensors"
    save_weights(weights, detector, ModelCard(model=config, classes=("a", "b", "c")))
    exported = export_onnx(weights, tmp_path / "model.onnx")

    pixels = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    boxes, scores = load(exported, threads=1).engine(pixels).values()
    expected_boxes, expected_scores = TorchEngine(weights)(pixels).values()
    for image in range(2):
        assert expected_scores[image].std() > 0.05
        box, score = raw_differences(boxes[image], scores[image], expected_boxes[image], expected_scores[image])
        assert box < 0.05
        assert score < 1e-4
    operators = [node.op_type for node in onnx.load(exported).graph.node]
    assert "BatchNormalization" not in operators
    assert operators.count("MaxPool") == {"yolov3-spp": 3, "yolov3-tiny": 6}.get(preset, 0)


def test_scores_are_products_with_the_objectness() -> None:
    torch.manual_seed(1)
    config = PRESETS["yolov3-tiny"]
    detector = build(config, 2).eval()
    nn.init.normal_(detector.head.outputs[0].weight, std=0.2)
    with torch.no_grad():
        raw = detector(torch.randn(1, 3, 64, 64))
        scores = detector.decode(raw).scores
    assert raw.objectness is not None
    torch.testing.assert_close(scores, raw.objectness.sigmoid() * raw.logits.sigmoid())


def test_masks_that_do_not_fit_the_backbone_are_named(tmp_path: Path, data: Path) -> None:
    run = tiny(data, tmp_path / "run", "model.head.masks=[[0, 1, 2], [3, 4, 5]]")
    with pytest.raises(ConfigError) as error:
        fit(run)
    assert str(error.value) == (
        "model.head.masks: has 2 entries, but the backbone mobilenet-v2 returns 3 levels (strides 8, 16, 32); "
        "expected one mask for each"
    )
    with pytest.raises(ConfigError, match=r"model.head: masks name anchor 9, but there are only 0..8"):
        tiny(data, tmp_path / "run", "model.head.masks=[[0, 1, 9], [3, 4, 5], [6, 7, 8]]")
    with pytest.raises(ConfigError, match=r"expected equally many anchors, at least one, in every level's mask"):
        tiny(data, tmp_path / "run", "model.head.masks=[[0, 1], [3, 4, 5], [6, 7, 8]]")
