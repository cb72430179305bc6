"""A whole training of a tiny PP-YOLOE: phases, sizes by batch, resuming; what it leaves is exported and run."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from falconet.api.load import load
from falconet.core.errors import ConfigError
from falconet.exporting.onnx import export_onnx
from falconet.exporting.verify import verify
from falconet.models.weights import load_weights
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.training import RunConfig, fit, read_run, resume
from falconet.training.loggers import NullCallback
from falconet.training.progress import Progress
from falconet.training.run_data import load_data
from tests.training.tiny import assert_same_weights, draw

SIZE = ["model.input.height=64", "model.input.width=64", "model.backbone.width=0.125", "model.neck.channels=16"]


def tiny(data: Path, output: Path, *overrides: str) -> RunConfig:
    options = [
        *SIZE,
        f"data.train={data}/train.json",
        f"data.val={data}/val.json",
        f"output={output}",
        "data.workers=0",
        "train.batch_size=4",
        "train.epochs=4",
        "criterion.static_share=0.5",
        "train.multi_scale=[0.5, 1.5]",
        *overrides,
    ]
    return read_run("ppyoloe-plus-s", options)


class Interrupting(NullCallback):
    """Stops the run at a step of an epoch, both from 0."""

    def __init__(self, epoch: int, step: int) -> None:
        self.where = (epoch, step)

    def step(self, progress: Progress, *, step: int, loss: float) -> None:  # noqa: ARG002
        if (progress.epoch, step - 1) == self.where:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tiny(data, tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture(scope="module")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(trained, tmp_path_factory.mktemp("exported") / "model.onnx")


def test_the_models_selection_travels_with_it(trained: Path, exported: Path) -> None:
    _, card = load_weights(trained / "best.safetensors")
    assert (card.selection.iou_threshold, card.selection.max_detections) == (0.7, 300)
    assert OnnxEngine(exported).manifest.selection == card.selection


def test_what_the_log_says(trained: Path) -> None:
    log = (trained / "train.log").read_text()
    for expected in (
        "learning rate: 0.004 * sqrt(batch 4 / 64) = 0.001;",
        "sizes of the input, one per batch: 32x32, 64x64, 96x96",
        "criterion: ATSS assigns in the first 50.0% of the run (criterion.static_share), the predictions' alignment "
        "from then on; varifocal loss",
        "done: 4 epochs in ",
    ):
        assert expected in log
    lines: list[dict[str, Any]] = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert {"loss_class", "loss_box", "loss_distribution", "AP"} <= set(lines[-1])


@pytest.mark.parametrize("epoch", [1, 3])
def test_interrupted_and_resumed_is_the_same_run(data: Path, trained: Path, tmp_path: Path, epoch: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tiny(data, tmp_path / "run"), callback=Interrupting(epoch, 1))
    resume(tmp_path / "run")
    assert_same_weights(tmp_path / "run" / "last.safetensors", trained / "last.safetensors")


def test_exported_with_a_receipt_and_run_without_torch(
    data: Path, trained: Path, exported: Path, tmp_path: Path
) -> None:
    records = load_data(tiny(data, tmp_path).data).val
    receipt = verify(trained, exported, records, threads=1)
    assert receipt.problems == ()
    found = load(exported, threads=1).predict(records[0].path)
    assert found.boxes.shape[1] == 4


def test_the_exported_graph_holds_plain_convolutions_only(trained: Path, exported: Path) -> None:
    graph = onnx.load(exported).graph
    detector, card = load_weights(trained / "best.safetensors")
    assert card.model.backbone.alpha
    operators = [node.op_type for node in graph.node]
    assert "BatchNormalization" not in operators
    # Six blocks in the backbone, five in the neck; the second branch of each RepVGG convolution is gone.
    everything = [part for part in detector.modules() if type(part).__name__ == "Conv2d"]
    second = [part for name, part in detector.named_modules() if name.endswith("point.conv")]
    assert len(second) == 11
    assert operators.count("Conv") == len(everything) - len(second)
    assert not any("alpha" in entry.name for entry in graph.initializer)


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ConfigError) as error:
        read_run("ppyoloe-s", ["train.multi_scale=[1.2, 0.5]", "data.train=x.json"])
    assert "train.multi_scale: expected [smallest, largest] with 0 < smallest <= largest <= 4" in str(error.value)
