"""Darknet's YOLOv3 weights as detectors of ours.

The file does not say of which network its numbers are: their count tells, with the number of classes. A `.cfg` beside
it tells more: input size, classes, anchors.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from falconet.core.errors import ModelError
from falconet.core.suggest import listed
from falconet.models import PRESETS
from falconet.models.detector import Detector
from falconet.models.layers import Activation, ConvNormAct
from falconet.models.yolov3 import YOLOv3Config, YOLOv3Head
from falconet.zoo.class_lists import CLASS_LISTS
from falconet.zoo.formats.darknet_files import Cfg, DarknetWeights, Numbers, layout_word, read_cfg, read_weights
from falconet.zoo.imported import NO_OPTIONS, Imported, ImportOptions
from falconet.zoo.yolov3.keys import our_rows

NETWORKS = {"yolov3": "yolov3-darknet53", "yolov3-spp": "yolov3-spp", "yolov3-tiny": "yolov3-tiny"}
"""Darknet's names of the networks that are known, and those of our presets."""

SIDES = {"yolov3": 416, "yolov3-spp": 608, "yolov3-tiny": 416}
"""Input of the original configurations, pixels."""

DARKNET_EPS = 1e-6
"""Added to the standard deviation by darknet's batch norm, where others add to the variance."""

ACTIVATIONS: dict[str, Activation] = {
    "leaky": "leaky-relu",
    "relu": "relu",
    "relu6": "relu6",
    "swish": "silu",
    "linear": "none",
}
"""Darknet's names of activations that are known, and ours."""

FORK = (0, 2, 5)
"""The version that https://github.com/AlexeyAB/darknet writes."""

PUBLISHED_TINY_MASKS = ((1, 2, 3), (3, 4, 5))
"""The masks that the published tiny weights were trained with; their configuration was corrected later."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution in the order of the file.

    Attributes:
        name: of the block with the norm, or of the convolution, in the detector.
        shape: of the kernel.
        normed: whether a batch norm follows; else a bias is added.
    """

    name: str
    shape: tuple[int, ...]
    normed: bool

    @property
    def count(self) -> int:
        """Numbers it takes in the file."""
        return int(np.prod(self.shape)) + (4 if self.normed else 1) * self.shape[0]


def import_darknet(
    path: Path,
    options: ImportOptions = NO_OPTIONS,
    *,
    cfg: Path | None = None,
) -> Imported:
    """The detector in a `.weights` file: YOLOv3, YOLOv3-SPP or YOLOv3-tiny; or its first layers (`.conv.N`).

    Args:
        path: of the weights.
        options: of the input only the size counts (None: that of the cfg, or of the published network).
        cfg: the configuration they belong to; without it anchors and input are those of the published networks.

    Raises:
        ModelError: unreadable, of another network, shorter or longer than the network needs.
    """
    weights = read_weights(path)
    read = None if cfg is None else read_cfg(cfg)
    if read is not None and read.activation not in ACTIVATIONS:
        raise ModelError(
            f"{cfg}: activation={read.activation[:40]} is not known here; expected one of: {', '.join(ACTIVATIONS)}"
        )
    names = _names(read, options.classes, str(cfg or path))
    found = fitting(weights, read, names, whole=not is_first_layers(path))
    weights, config, names, count = found.weights, found.config, found.names, found.layers
    notes = [*found.notes, *_cfg_notes(weights, read)]
    config = options.resized(config)
    with torch.random.fork_rng(devices=[]):
        detector = config.build(len(names)).eval()
    layers = file_order(detector)
    state = _state(weights, layers[:count], detector.head)
    missing, _ = detector.load_state_dict(state, strict=False)
    version = ".".join(map(str, weights.version))
    notes.insert(0, f"darknet {version}, {weights.seen:,} pictures seen in training")
    return Imported(
        detector,
        options.card(config, names, path.name),
        matched=count,
        fresh=tuple(name for name in missing if not name.endswith("num_batches_tracked")),
        notes=tuple(notes),
    )


def is_first_layers(path: Path) -> bool:
    """Whether the name says that the file holds the first layers only, as darknet53.conv.74 does."""
    return re.search(r"\.conv\.\d+$", path.name) is not None


def file_order(detector: Detector) -> list[Layer]:
    """The convolutions of a YOLOv3 in the order of its configuration: backbone, then level by level, coarsest first."""
    neck, head = detector.neck, detector.head
    found = _blocks(detector.backbone, "backbone")
    levels = len(head.outputs)
    for step in range(levels):
        level = levels - 1 - step
        if step:
            found += _blocks(neck.laterals[step - 1], f"neck.laterals.{step - 1}")
        found += _blocks(neck.sets[step], f"neck.sets.{step}")
        found += _blocks(head.convs[level], f"head.convs.{level}")
        found.append(Layer(f"head.outputs.{level}", tuple(head.outputs[level].weight.shape), False))
    return found


def _blocks(module: nn.Module, prefix: str) -> list[Layer]:
    return [
        Layer(f"{prefix}.{name}".rstrip("."), tuple(block.conv.weight.shape), True)
        for name, block in module.named_modules()
        if isinstance(block, ConvNormAct)
    ]


@dataclass(frozen=True, slots=True)
class Fitting:
    """The network that a file fits.

    Attributes:
        weights: the file, with the header whose length makes it fit.
        config, names: of the network.
        layers: how many of its convolutions are in the file.
        notes: what was assumed.
    """

    weights: DarknetWeights
    config: YOLOv3Config
    names: tuple[str, ...]
    layers: int
    notes: tuple[str, ...]


def _names(cfg: Cfg | None, classes: Sequence[str] | None, where: str) -> list[tuple[str, ...]]:
    """The lists of class names that may be meant."""
    if classes is not None:
        if cfg is not None and cfg.classes != len(classes):
            raise ModelError(f"{where}: has {cfg.classes} classes, but {len(classes)} names were given")
        return [tuple(classes)]
    known = [names for names in CLASS_LISTS.values() if cfg is None or cfg.classes == len(names)]
    if not known:
        assert cfg is not None, "without a cfg every list is possible"
        raise ModelError(f"{where}: has {cfg.classes} classes; pass their names in the order of training (--classes)")
    return known


def fitting(weights: DarknetWeights, cfg: Cfg | None, names: Sequence[tuple[str, ...]], *, whole: bool) -> Fitting:
    """The network and the class names whose numbers are as many as the file holds.

    Args:
        weights: of the file.
        cfg: that goes with it, if there is one.
        names: lists of class names that may be meant.
        whole: the file must hold all layers, not just the first ones.

    Raises:
        ModelError: none fits.
    """
    sizes = {}
    differences = {}
    for network in NETWORKS:
        if cfg is not None and (difference := _difference(cfg, network)):
            differences[network] = difference
            continue
        for classes in names:
            config, notes = _configured(network, cfg, len(classes))
            with torch.device("meta"):
                layers = file_order(config.build(len(classes)))
            if cfg is not None and [(one.shape[0], one.shape[-1], one.normed) for one in layers] != list(
                cfg.convolutions
            ):
                continue
            ends = np.cumsum([layer.count for layer in layers]).tolist()
            sizes[network, len(classes)] = weights.header + 4 * ends[-1]
            backbone = sum(layer.name.startswith("backbone.") for layer in layers)
            for candidate in filter(None, (weights, weights.with_other_header())):
                count = len(candidate.numbers)
                found = ends.index(count) + 1 if count in ends else 0
                if found == len(layers) or (not whole and found >= backbone):
                    if candidate is not weights:
                        if not _has_variances(candidate, layers[:found]):
                            continue  # a number is missing, or too many
                        notes = (*notes, _header_note(weights, candidate))
                    if found < len(layers):
                        notes = (*notes, f"the first {found} of {len(layers)} convolutions; the rest is fresh")
                    return Fitting(candidate, config, classes, found, notes)
    raise ModelError(_no_fit(weights, sizes, differences))


def _has_variances(weights: DarknetWeights, layers: Sequence[Layer]) -> bool:
    """Whether no number is negative where variances are expected; a file read one number further has some."""
    place = 0
    for layer in layers:
        channels = layer.shape[0]
        if layer.normed and (weights.numbers[place + 3 * channels : place + 4 * channels] < 0).any():
            return False
        place += layer.count
    return True


def _header_note(weights: DarknetWeights, candidate: DarknetWeights) -> str:
    version = ".".join(map(str, weights.version))
    return (
        f"the header was read as {candidate.header} bytes, with which the numbers fit; version {version} has "
        f"{weights.header}"
    )


def layout(network: str) -> list[str]:
    """Darknet's sections of a network, each as `layout_word` has it (cfg/yolov3.cfg, -spp.cfg, -tiny.cfg)."""
    words: list[str] = []

    def add(*kinds: str) -> None:
        for kind in kinds:
            word, _, places = kind.partition(" ")
            if word in ("route", "shortcut"):
                options = {"layers": places}
            else:
                size, _, stride = places.rpartition("/")
                options = {"size": size, "stride": stride} if places else {}
            words.append(layout_word(word, options, len(words)))

    narrow, wide = "convolutional 1/1", "convolutional 3/1"
    if network == "yolov3-tiny":
        add(*(wide, "maxpool 2/2") * 5, wide, "maxpool 2/1", wide)
        add(narrow, wide, narrow, "yolo", "route -4", narrow, "upsample 2", "route -1,8", wide, narrow, "yolo")
        return words
    add(wide)
    for blocks in (1, 2, 8, 8, 4):
        add("convolutional 3/2", *(narrow, wide, "shortcut -3") * blocks)
    if network == "yolov3-spp":
        add(narrow, wide, narrow, "maxpool 5/1", "route -2", "maxpool 9/1", "route -4", "maxpool 13/1")
        add("route -1,-3,-5,-6", narrow, wide, narrow, wide, narrow, "yolo")
    else:
        add(*(narrow, wide) * 3, narrow, "yolo")
    for finer in (61, 36):
        add("route -4", narrow, "upsample 2", f"route -1,{finer}", *(narrow, wide) * 3, narrow, "yolo")
    return words


def _difference(cfg: Cfg, network: str) -> tuple[int, str] | None:
    """How many sections agree, and how the first other one differs."""
    expected = layout(network)
    for place, (found, wanted) in enumerate(zip_longest(cfg.layout, expected)):
        if found is None:
            return place, f"it ends where {network} has {wanted}"
        if found[1] != wanted:
            return place, f"line {found[0]} has {found[1]}, {network} {wanted or 'nothing'} there"
    return None


def _cfg_notes(weights: DarknetWeights, cfg: Cfg | None) -> list[str]:
    """What a reader of the report should know of options."""
    notes = []
    if cfg is not None and cfg.unknown:
        notes.append(f"options that are not known were left out: {listed(cfg.unknown, 8)}")
    if weights.version == FORK and (cfg is None or cfg.letter_box is None):
        notes.append(
            "pictures are letterboxed; the fork that writes version 0.2.5 stretches them unless it is told otherwise: "
            "for that, pass the .cfg with letter_box=0 in [net]"
        )
    return notes


def _no_fit(weights: DarknetWeights, sizes: dict[tuple[str, int], int], differences: dict[str, tuple[int, str]]) -> str:
    """What to say where no network fits: how many bytes there are, and how many each needs."""
    held = weights.header + weights.numbers.nbytes
    if not sizes:
        nearest = f": {max(differences.values())[1]}" if differences else ""
        return f"{weights.name}: its cfg is not that of {', '.join(NETWORKS)}; other networks are not known{nearest}"
    network, classes = min(sizes, key=lambda key: abs(sizes[key] - held))
    difference = held - sizes[network, classes]
    amount = f"{abs(difference):,} bytes " + ("more than" if difference > 0 else "less than")
    listed = "; ".join(f"{name} with {count} classes {size:,}" for (name, count), size in sizes.items())
    return (
        f"{weights.name}: holds {held:,} bytes, {amount} {network} with {classes} classes; expected: {listed}. It is "
        "truncated, or of other classes (pass their names with --classes) or another network"
    )


def _configured(network: str, cfg: Cfg | None, classes: int) -> tuple[YOLOv3Config, tuple[str, ...]]:
    """Our configuration of a network of darknet's, and what was assumed."""
    config = PRESETS[NETWORKS[network]]
    assert isinstance(config, YOLOv3Config)
    height, width = (SIDES[network],) * 2 if cfg is None else (cfg.height, cfg.width)
    head, notes = config.head, ()
    if cfg is not None:
        if len(cfg.masks) != len(head.masks) or len(cfg.masks[0]) != len(head.masks[0]):
            return config, ()  # of another network, as its convolutions say
        activation = ACTIVATIONS[cfg.activation]
        changed = {"anchors": cfg.anchors, "masks": cfg.masks, "center_reach": cfg.center_reach}
        head = head.model_copy(update={**changed, "activation": activation})
        parts = {
            part: getattr(config, part).model_copy(update={"activation": activation}) for part in ("backbone", "neck")
        }
        config = config.model_copy(update=parts)
    elif network == "yolov3-tiny" and classes == len(CLASS_LISTS["coco"]):
        head = head.model_copy(update={"masks": PUBLISHED_TINY_MASKS})
        notes = (
            "masks 1,2,3 and 3,4,5 were taken, with which the published weights were trained; for weights of your own, "
            "pass the .cfg with them",
        )
    else:
        notes = ("anchors and masks of the published network were taken; if yours differ, pass the .cfg with them",)
    kept = cfg is None or cfg.letter_box is not False
    size = replace(config.input, height=height, width=width, resize="letterbox" if kept else "stretch")
    return config.model_copy(update={"input": size, "head": head}), notes


def _state(weights: DarknetWeights, layers: Sequence[Layer], head: YOLOv3Head) -> dict[str, Tensor]:
    """The weights of `layers` under our names."""
    if not np.isfinite(weights.numbers).all():
        raise ModelError(f"{weights.name}: holds numbers that are not finite; the file is damaged")
    state: dict[str, Numbers] = {}
    place = 0

    def take(*shape: int) -> Numbers:
        nonlocal place
        count = int(np.prod(shape))
        part = weights.numbers[place : place + count].reshape(shape)
        place += count
        return part

    for layer in layers:
        channels = layer.shape[0]
        if not layer.normed:
            rows = our_rows(head.num_anchors, head.num_classes)
            state[f"{layer.name}.bias"] = take(channels)[rows]
            state[f"{layer.name}.weight"] = take(*layer.shape)[rows]
            continue
        shift, scale, mean, variance = (take(channels) for _ in range(4))
        if (variance < 0).any():
            raise ModelError(f"{weights.name}: a variance of {layer.name} is negative; the file is damaged")
        state[f"{layer.name}.norm.bias"] = shift
        state[f"{layer.name}.norm.weight"] = scale * _eps_ratio(variance)
        state[f"{layer.name}.norm.running_mean"] = mean
        state[f"{layer.name}.norm.running_var"] = variance
        state[f"{layer.name}.conv.weight"] = take(*layer.shape)
    assert place == len(weights.numbers), "the layers were chosen to fit"
    return {name: torch.from_numpy(np.array(value, np.float32)) for name, value in state.items()}


def _eps_ratio(variance: Numbers) -> Numbers:
    """Our batch norm divides by sqrt(variance + 1e-5), darknet's by sqrt(variance) + 1e-6: what makes up for it."""
    wide = variance.astype(np.float64)
    return np.asarray(np.sqrt(wide + 1e-5) / (np.sqrt(wide) + DARKNET_EPS), np.float32)
