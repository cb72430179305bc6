"""An ncnn pair as a detector of ours, which can be fine-tuned, fused and exported. Needs torch."""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime
from onnx import TensorProto, helper

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.core.types import Pixels
from falconet.zoo.formats.ncnn_files import Layer, read_ncnn
from falconet.zoo.imported import NO_OPTIONS, Imported, ImportOptions
from falconet.zoo.nanodet.architectures import candidates
from falconet.zoo.nanodet.folded import FOLDED, fit_config
from falconet.zoo.nanodet.ncnn_to_onnx import class_names, find_head, network_input
from falconet.zoo.nanodet.onnx_graph import IR_VERSION, OPSET, GraphWriter
from falconet.zoo.parity import Outputs, compare, standard_images


def import_ncnn(
    graph: Path,
    weights: Path,
    options: ImportOptions = NO_OPTIONS,
) -> Imported:
    """The detector in an ncnn pair; arguments as in `ncnn_to_onnx.convert`.

    Raises:
        ModelError: as there; also where the network cannot be rebuilt, or does not compute the same.
    """
    layers = read_ncnn(graph, weights)
    preprocess, notes = network_input(layers, options.preprocess)
    convolutions = [layer for layer in layers if "weight" in layer.weights]
    reference = NcnnReference(layers, preprocess, str(graph))
    names = class_names(reference.num_classes, options.classes, str(graph))
    tried = candidates(reference.architecture, convolutions, preprocess, num_classes=len(names), bins=reference.bins)
    detector, config = fit_config(convolutions, [(one, len(names)) for one in tried], str(graph))
    parity = compare(detector, preprocess, reference, standard_images(preprocess.height, preprocess.width))
    if not parity.equal:
        raise ModelError(f"{graph}: was rebuilt, but does not compute the same ({parity}); it is another network")
    others = tuple(layer.name for layer in layers if layer.weights and "weight" not in layer.weights)
    return Imported(
        detector,
        options.card(config, names, f"{graph.name} and {weights.name}"),
        matched=len(convolutions),
        left_over=others,
        notes=(*notes, FOLDED),
        parity=parity,
    )


class NcnnReference:
    """The network of an ncnn pair in ONNX Runtime, layer by layer as the file has it: pixels to raw outputs."""

    def __init__(self, layers: Sequence[Layer], preprocess: Preprocess, where: str) -> None:
        writer = GraphWriter()
        try:
            head = find_head(layers, writer, preprocess)
        except ModelError as error:
            raise ModelError(f"{where}: {error}") from error
        self.num_classes, self.bins, self.architecture = head.num_classes, head.bins, head.architecture
        shape: list[str | int | None] = ["batch", preprocess.height, preprocess.width, 3]
        pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)
        outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (head.scores, head.code)]
        body = helper.make_graph(writer.nodes, "raw", [pixels], outputs, writer.constants)
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(body, opset_imports=[opset], ir_version=IR_VERSION)
        self._session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def __call__(self, pixels: Pixels) -> Outputs:
        """Raw outputs of one picture uint8 [H, W, 3]."""
        scores, code = self._session.run(None, {"pixels": pixels[None]})
        return Outputs(scores[0], code[0])
