"""A network that is not trained, as the file that it would become: for its milliseconds alone."""

import io
import warnings
from pathlib import Path

import onnx
import torch
from onnxscript import optimizer

from falconet.core.files import replace_file
from falconet.exporting.onnx import OPSET, describe
from falconet.exporting.rewrite import rewrite
from falconet.exporting.torch_engine import deployable, manifest_of, points_to_decode
from falconet.models import ModelConfig, build
from falconet.models.weights import ModelCard
from falconet.runtime.tasks import TASKS


def write_untrained(model: ModelConfig, classes: tuple[str, ...], out: Path) -> Path:
    """Write the network that `model` describes, with fresh weights, for one picture per run.

    It is fused and rewritten as `export_onnx` does it, but goes through the older of torch's two exporters, which takes
    a tenth of the time and writes the same arithmetic; tests hold the outputs of both against each other.

    Args:
        model: of any kind.
        classes: that it would know.
        out: ends in .onnx.
    """
    card = ModelCard(model=model, classes=classes)
    manifest = manifest_of(card)
    module = deployable(build(model, len(classes)).eval(), card, max_points=points_to_decode(manifest))
    pixels = torch.zeros(1, model.input.height, model.input.width, 3, dtype=torch.uint8)
    written = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # That it is the older one, and that sizes become constants.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        torch.onnx.export(
            module,
            (pixels,),
            written,
            dynamo=False,
            input_names=["pixels"],
            output_names=list(TASKS[manifest.task].outputs(manifest)),
            opset_version=OPSET,
        )
    # Sizes as constants, and no nodes that only pass on: the rewrites look for plain graphs.
    network = rewrite(optimizer.optimize(onnx.load_from_string(written.getvalue()), num_iterations=1))
    describe(network, manifest)
    replace_file(out, network.SerializeToString())
    return out
