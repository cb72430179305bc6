"""Weights to one ONNX file that describes itself: uint8 pixels in, boxes and scores or probabilities out."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from falconet.core.errors import ConfigError, ModelError
from falconet.core.files import replace_file
from falconet.core.manifest import MANIFEST_KEY, Manifest
from falconet.exporting.nms import add_selection
from falconet.exporting.rewrite import rewrite
from falconet.exporting.torch_engine import shipped
from falconet.runtime.tasks import TASKS

OPSET = 18
"""Understood by ONNX Runtime from 1.14 on, OpenVINO from 2023.1 on."""


def export_onnx(
    weights: Path,
    out: Path,
    *,
    opset: int = OPSET,
    batch: int | None = None,
    size: tuple[int, int] | None = None,
    score: float | None = None,
    nms: bool = False,
    layers: bool = False,
) -> Path:
    """Write the model of `weights` to the file `out`. Whoever ships it compares it first, see `verify`.

    Args:
        weights: weights file, or run folder (its best weights).
        out: ends in .onnx; appears only when it is complete.
        opset: version of ONNX's operators.
        batch: pictures per run, fixed in the file; None: any number.
        size: (height, width) of the input; None: that of the training.
        score: threshold of a detector; None: its own.
        nms: a detector of one picture per run that selects its boxes itself, see `falconet.exporting.nms`.
        layers: see `falconet.exporting.torch_engine.shipped`.

    Raises:
        ConfigError: a threshold of a classifier, or `nms`; `nms` beside a larger batch.
        ModelError: no weights there, a file that is not Falconet's, an opset the exporter does not know.
        DataError: `out` cannot be written.
    """
    if batch is not None and batch < 1:
        raise ModelError(f"the batch size of an exported model must be 1 or more, but got {batch}")
    if not 18 <= opset <= onnx.defs.onnx_opset_version():
        newest = onnx.defs.onnx_opset_version()
        raise ModelError(f"opset {opset} cannot be exported; expected 18..{newest}, as in --opset {OPSET}")
    module, manifest = shipped(weights, size=size, score=score, layers=layers)
    if nms and (manifest.task != "detect" or batch not in (None, 1)):
        raise ConfigError("--nms: expected a detector, and one picture per run: leave --static-batch out")
    model = rewrite(trace(module, manifest, opset=opset, batch=1 if nms else batch))
    if nms:
        add_selection(model, manifest.selection)
    describe(model, manifest)
    onnx.checker.check_model(model, full_check=True)
    replace_file(out, model.SerializeToString())
    return out


def trace(module: nn.Module, manifest: Manifest, *, opset: int, batch: int | None) -> onnx.ModelProto:
    """`module` as an ONNX model.

    `pixels` uint8 [B, H, W, 3] go in; `boxes` [B, N, 4] and `scores` [B, N, C] come out of a detector,
    `probabilities` [B, C] of a classifier.
    """
    height, width = manifest.preprocess.height, manifest.preprocess.width
    # A dimension of one would be taken for a constant.
    pixels = torch.zeros(batch or 2, height, width, 3, dtype=torch.uint8)
    outputs = list(TASKS[manifest.task].outputs(manifest))
    return to_onnx(module, pixels, input_name="pixels", output_names=outputs, opset=opset, free=batch is None)


def to_onnx(
    module: nn.Module, entry: Tensor, *, input_name: str, output_names: list[str], opset: int, free: bool = False
) -> onnx.ModelProto:
    """A module of one input as an ONNX model.

    Args:
        module: in eval mode.
        entry: an example of what goes in.
        input_name, output_names: of what goes in and comes out.
        opset: version of ONNX's operators.
        free: the first dimension may have any size.
    """
    with quiet_exporter(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (entry,),
            dynamo=True,
            input_names=[input_name],
            output_names=output_names,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1)},) if free else None,
            opset_version=opset,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def describe(model: onnx.ModelProto, manifest: Manifest) -> None:
    """Put the manifest into the model and take out what the exporter notes about the machine and its source files."""
    clean(model)
    model.producer_name, model.producer_version = "falconet", manifest.falconet_version
    model.graph.name = manifest.model
    onnx.helper.set_model_props(model, {MANIFEST_KEY: manifest.to_json()})


def clean(model: onnx.ModelProto) -> None:
    """Take out what the exporter notes about the machine and its source files."""
    graph = model.graph
    for owner in (model, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output):
        del owner.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""


@contextmanager
def quiet_exporter() -> Iterator[None]:
    """Without the exporter's remarks that no user can act on."""
    # That torchvision is not installed, once per operator of it; every constant that was folded.
    talkers = {"torch.onnx": logging.ERROR, "onnxscript": logging.WARNING, "onnx_ir": logging.WARNING}
    before = {name: logging.getLogger(name).level for name in talkers}
    for name, level in talkers.items():
        logging.getLogger(name).setLevel(level)
    try:
        with warnings.catch_warnings():
            # torch's own use of a name that torch is about to retire.
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning)
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
