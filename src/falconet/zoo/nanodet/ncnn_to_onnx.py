"""NanoDet and NanoDet-Plus ncnn pairs to our self-describing ONNX, without torch.

The layers are translated one by one (`ncnn_layers`); only the output end is known by its form: one blob of
all levels [places, classes + 4 * bins] (NanoDet-Plus and later exports of NanoDet), or a pair of blobs for
each stride, `cls_pred_stride_8` and `dis_pred_stride_8` (earlier exports of NanoDet). In both the class
scores have passed the sigmoid already.

What tells the two architectures apart is the number of levels: NanoDet-Plus has four, with the places at the
corners of the cells, NanoDet three, with the places at their centres.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

import falconet
from falconet.core.errors import ModelError
from falconet.core.manifest import Manifest, Preprocess
from falconet.zoo.class_lists import COCO_NAMES
from falconet.zoo.formats.ncnn_files import Layer, read_ncnn
from falconet.zoo.nanodet.ncnn_layers import Blob, fixed_size, translate
from falconet.zoo.nanodet.onnx_graph import MAX_POINTS, GraphWriter, distribution_boxes, finish, grid, normalised_pixels

OFFSETS = {"nanodet-plus": 0.0, "nanodet": 0.5}
"""Where in its cell the place of a prediction lies, as a fraction of the cell, by architecture."""


@dataclass(frozen=True, slots=True)
class Head:
    """The output end of a network, as values of an ONNX graph.

    Attributes:
        scores: [B, P, C], 0..1.
        code: [B, P, 4 * bins] logits of distances.
        num_classes: C.
        bins: per side.
        strides: of the levels, finest first.
    """

    scores: str
    code: str
    num_classes: int
    bins: int
    strides: tuple[int, ...]

    @property
    def architecture(self) -> str:
        """The name of the architecture in our run files."""
        return "nanodet-plus" if len(self.strides) == 4 else "nanodet"


def convert(
    graph: Path,
    weights: Path,
    *,
    preprocess: Preprocess | None = None,
    classes: Sequence[str] | None = None,
    source: str = "",
    licence: str = "",
) -> onnx.ModelProto:
    """The model of an ncnn pair as a self-describing ONNX model.

    Args:
        graph, weights: the `.param` and the `.bin`.
        preprocess: input size and normalisation; None takes the size that the file shows, else 416 x 416, and NanoDet's
            normalisation. The networks are convolutional, so that other sizes work too, at the cost of what they were
            not trained for.
        classes: names in the order of the outputs; None is right for the 80 classes of COCO only.
        source, licence: of the weights, for the manifest.

    Raises:
        ModelError: the pair cannot be read, is of another architecture, or needs names for its classes.
    """
    layers = read_ncnn(graph, weights)
    preprocess, _ = network_input(layers, preprocess)
    writer = GraphWriter()
    try:
        head = find_head(layers, writer, preprocess)
    except ModelError as error:
        raise ModelError(f"{graph}: {error}") from error
    names = class_names(head.num_classes, classes, str(graph))
    points, strides = grid(preprocess.height, preprocess.width, head.strides, offset=OFFSETS[head.architecture])
    distribution_boxes(
        writer,
        head.scores,
        head.code,
        points,
        strides,
        bins=head.bins,
        height=preprocess.height,
        width=preprocess.width,
    )
    manifest = Manifest(
        model=head.architecture,
        classes=names,
        preprocess=preprocess,
        falconet_version=falconet.__version__,
        source=source or f"{graph.name} and {weights.name}",
        licence=licence,
    )
    return finish(writer, manifest, points=min(MAX_POINTS, len(points)))


def network_input(layers: Sequence[Layer], given: Preprocess | None) -> tuple[Preprocess, tuple[str, ...]]:
    """The network input of an ncnn pair, and what is worth telling of it.

    It stands in the Input layer (0 and 1: width and height, or the hint 30: rank, width, height, channels), or follows
    from a first Interp of fixed size, which doubles cells of stride 32.

    Args:
        given: by the user; counts before what the file shows.
    """
    shown: tuple[int, int] | None = None
    for layer in layers:
        if layer.kind == "Input":
            hint = layer.numbers(30) if 30 in layer.parameters else ()
            size = (int(hint[2]), int(hint[1])) if len(hint) == 4 else (layer.integer(1), layer.integer(0))
            shown = size if min(size) > 0 else None
        elif layer.kind == "Interp" and shown is None:
            if fixed := fixed_size(layer):
                shown = (16 * fixed[0], 16 * fixed[1])
            break
    if shown is not None and not all(32 <= side <= 8192 for side in shown):
        raise ModelError(f"shows an input of {shown[0]} x {shown[1]} pixels; expected sides from 32 to 8192")
    if given is None and shown is None:
        return Preprocess(height=416, width=416), (
            "the file does not show its input; 416 x 416 was taken. If it was trained for another, pass --size",
        )
    if given is None:
        assert shown is not None, "either is known"
        return Preprocess(height=shown[0], width=shown[1]), (f"the file shows an input of {shown[0]} x {shown[1]}",)
    if shown not in (None, (given.height, given.width)):
        assert shown is not None, "told just now"
        return given, (f"the file shows an input of {shown[0]} x {shown[1]}; another was asked for",)
    return given, ()


def class_names(count: int, names: Sequence[str] | None, where: str) -> tuple[str, ...]:
    """`names`, or COCO's where there are 80 classes.

    Raises:
        ModelError: the number of names is not `count`, or names are needed; `where` names the model.
    """
    if names is None and count == len(COCO_NAMES):
        return COCO_NAMES
    if names is None:
        raise ModelError(
            f"{where}: has {count} classes, and the file does not name them; pass their names in the order of "
            "training (class_names in NanoDet's YAML)"
        )
    if len(names) != count:
        raise ModelError(f"{where}: has {count} classes, but {len(names)} names were given: {', '.join(names[:10])}")
    return tuple(names)


def find_head(layers: Sequence[Layer], writer: GraphWriter, preprocess: Preprocess) -> Head:
    """Adds the whole network to `writer` and returns its output end.

    Raises:
        ModelError: a layer is not supported, or the outputs are not those of NanoDet or NanoDet-Plus.
    """
    pixels = normalised_pixels(writer, preprocess)
    blobs = translate(layers, writer, pixels, height=preprocess.height, width=preprocess.width)
    used = {name for layer in layers for name in layer.inputs}
    ends = {name: blobs[name] for layer in layers for name in layer.outputs if name not in used}
    pairs = {int(match[2]): name for name in ends if (match := re.fullmatch(r"(cls|dis)_pred_stride_(\d{1,3})", name))}
    if len(ends) == 1:
        head = _joined_head(layers, blobs, next(iter(ends.values())), writer, preprocess)
    elif pairs and set(ends) == {f"{kind}_pred_stride_{stride}" for stride in pairs for kind in ("cls", "dis")}:
        head = _paired_head(ends, sorted(pairs), writer)
    else:
        raise ModelError(
            f"its outputs are {', '.join(sorted(ends)[:8])}; expected one blob of all levels or "
            "cls_pred_stride_N and dis_pred_stride_N for each level, as NanoDet's export writes"
        )
    if head.strides not in ((8, 16, 32), (8, 16, 32, 64)):
        raise ModelError(
            f"its levels have strides {list(head.strides)}; expected 8, 16, 32 (NanoDet) or 8, 16, 32, 64 "
            "(NanoDet-Plus)"
        )
    return head


def _joined_head(
    layers: Sequence[Layer], blobs: dict[str, Blob], end: Blob, writer: GraphWriter, preprocess: Preprocess
) -> Head:
    scored = {blobs[layer.inputs[0]].shape[0] for layer in layers if layer.kind == "Sigmoid"}
    if len(end.shape) != 2 or len(scored) != 1:
        raise ModelError(f"its output of shape {list(end.shape)} is not that of NanoDet")
    (num_classes,) = scored
    places, columns = end.shape
    levels = [blobs[layer.inputs[0]].shape for layer in layers if layer.kind == "Reshape"]
    strides = tuple(_stride(preprocess.height, shape[1]) for shape in levels if shape[0] == columns and len(shape) == 3)
    bins, rest = divmod(columns - num_classes, 4)
    expected = sum(-(-preprocess.height // s) * -(-preprocess.width // s) for s in strides)
    if rest or bins < 2 or expected != places:
        raise ModelError(f"its output of shape {list(end.shape)} is not that of NanoDet")
    cut = writer.integers(num_classes, columns - num_classes)
    scores, code = writer.add_many("Split", [end.name, cut], 2, axis=2)
    return Head(scores, code, num_classes, bins, strides)


def _stride(side: int, cells: int) -> int:
    """Pixels per cell, a power of two: a side of 416 pixels has 7 cells of 64."""
    return 1 << max(round(math.log2(side / cells)), 0)


def _paired_head(ends: dict[str, Blob], strides: list[int], writer: GraphWriter) -> Head:
    scores = [ends[f"cls_pred_stride_{stride}"] for stride in strides]
    codes = [ends[f"dis_pred_stride_{stride}"] for stride in strides]
    if any(len(blob.shape) != 2 for blob in scores + codes):
        raise ModelError("its outputs are not tables of places and numbers, as NanoDet's export writes")
    widths = {(score.shape[1], code.shape[1]) for score, code in zip(scores, codes, strict=True)}
    if len(widths) != 1:
        raise ModelError("its levels have different numbers of classes or bins")
    ((num_classes, numbers),) = widths
    if numbers % 4 or numbers < 8:
        raise ModelError(f"its boxes are coded in {numbers} numbers; expected 4 sides of 2 or more bins")
    return Head(
        writer.add("Concat", *(blob.name for blob in scores), axis=1),
        writer.add("Concat", *(blob.name for blob in codes), axis=1),
        num_classes,
        numbers // 4,
        tuple(strides),
    )
