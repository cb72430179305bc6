"""A network that is not trained, as the file that it would become: for its milliseconds alone."""

import io
import warnings
from pathlib import Path

import onnx
import torch

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
    a fraction of the time and writes the same arithmetic; tests hold the outputs of both against each other.

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
    network = _plain(onnx.load_from_string(written.getvalue()))
    network = rewrite(onnx.shape_inference.infer_shapes(network, data_prop=True))
    describe(network, manifest)
    replace_file(out, network.SerializeToString())
    return out


def _plain(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with its constants where the newer exporter puts them and without nodes that only pass on, so that the
    rewrites find what they look for."""
    nodes, same = list(model.graph.node), dict[str, str]()
    del model.graph.node[:]
    outputs = {output.name for output in model.graph.output}
    for node in nodes:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
        value = next((one.t for one in node.attribute if one.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            value.name = node.output[0]
            model.graph.initializer.append(value)
        elif node.op_type == "Identity" and node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
        else:
            model.graph.node.append(node)
    return model
