"""Darknet's files: `.weights`, a row of numbers without names, and `.cfg`, the network it belongs to. Needs no torch.

Layout of `.weights` (https://github.com/pjreddie/darknet, src/parser.c): three 32-bit integers major, minor, revision;
how many pictures training saw, as 64 bits from version 0.2 on and as 32 bits before; then float32 numbers, little
endian, convolution after convolution in the order of the configuration. A convolution with batch norm has shifts,
scales, means, variances and then its kernel; one without has biases and then its kernel.
"""

import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import ModelError

Numbers = NDArray[np.float32]

MOST_SECTIONS = 4096

FIXED = {
    "net": {"channels": "3"},
    "convolutional": {"pad": "1", "groups": "1", "dilation": "1"}
    | dict.fromkeys(("binary", "xnor", "bin_output", "antialiasing", "deform", "rotate", "stretch", "sway"), "0")
    | dict.fromkeys(("stretch_sway", "assisted_excitation", "flipped", "coordconv"), "0"),
    "maxpool": {"maxpool_depth": "0", "antialiasing": "0"},
    "route": {"groups": "1", "group_id": "0"},
    "shortcut": {"activation": "linear", "weights_type": "none"},
    "upsample": {"scale": "1"},
    "yolo": {"new_coords": "0", "nms_kind": "greedynms"},
}
"""Options that change what the network computes, and the only value they may have here."""

TRAINING = {
    "net": "batch subdivisions momentum decay angle saturation exposure hue learning_rate burn_in max_batches policy "
    "steps scales power gamma step scale mosaic mosaic_bound cutmix mixup blur gaussian_noise flip adam B1 B2 eps "
    "time_steps track augment_speed max_chart_loss loss_scale dynamic_minibatch optimized_memory "
    "workspace_size_limit_MB num_sigmas_reject_badlabels label_smooth_eps ema_alpha max_crop min_crop resize_step "
    "try_fix_nan contrastive",
    "convolutional": "learning_rate dont_load stopbackward learning_rate_scale grad_centr",
    "yolo": "num jitter ignore_thresh truth_thresh random resize max iou_thresh iou_normalizer cls_normalizer "
    "obj_normalizer delta_normalizer iou_loss iou_thresh_kind beta_nms max_delta counters_per_class label_smooth_eps "
    "focal_loss objectness_smooth map onlyforward stopbackward",
}
"""Options that count in training only (of the fork https://github.com/AlexeyAB/darknet too, src/parser.c)."""

READ = {
    "net": "width height letter_box",
    "convolutional": "batch_normalize filters size stride activation padding stride_x stride_y",
    "maxpool": "size stride padding",
    "route": "layers",
    "shortcut": "from",
    "upsample": "stride",
    "yolo": "mask anchors classes scale_x_y",
}
"""Options whose value is taken over, or compared with that of the networks that are known."""

KINDS = {"network": "net", "conv": "convolutional", "max": "maxpool"}
"""Short names of sections."""


@dataclass(frozen=True, slots=True)
class DarknetWeights:
    """A `.weights` file.

    Attributes:
        name: of the file, for messages.
        version: major, minor, revision.
        seen: pictures that training saw.
        header: bytes before the numbers.
        numbers: all of them, in order.
    """

    name: str
    version: tuple[int, int, int]
    seen: int
    header: int
    numbers: Numbers

    def with_other_header(self) -> "DarknetWeights | None":
        """The same file, read with the header of the other length, as some programs write it; None where it is empty.

        It is up to the caller to say which of both has as many numbers as the network needs.
        """
        if self.header == 16:
            return replace(self, header=20, numbers=self.numbers[1:]) if len(self.numbers) else None
        first = np.array([self.seen >> 32], "<i4").view("<f4").astype(np.float32)
        return replace(self, header=16, numbers=np.concatenate((first, self.numbers)), seen=self.seen & 0xFFFFFFFF)


@dataclass(frozen=True, slots=True)
class Cfg:
    """What a `.cfg` file says that the weights do not.

    Attributes:
        height, width: of the network input, pixels.
        classes: how many.
        anchors: (width, height), network-input pixels.
        masks: anchors of each level, finest first.
        convolutions: of the whole network, in order: (filters, kernel size, with batch norm).
        layout: of the whole network, in order: line, and what `layout_word` says of the section.
        activation: of every convolution but those before the [yolo] sections, as darknet calls it.
        center_reach: `scale_x_y` of the [yolo] sections.
        letter_box: whether pictures keep their shape; None where the file does not say.
        unknown: options that nothing here knows, with their lines.
    """

    height: int
    width: int
    classes: int
    anchors: tuple[tuple[float, float], ...]
    masks: tuple[tuple[int, ...], ...]
    convolutions: tuple[tuple[int, int, bool], ...]
    layout: tuple[tuple[int, str], ...]
    activation: str
    center_reach: float
    letter_box: bool | None
    unknown: tuple[str, ...]


def read_weights(path: Path) -> DarknetWeights:
    """A `.weights` file (or `.conv.N`, the first layers of one).

    Raises:
        ModelError: it cannot be read, is shorter than its header, of an unknown version, or ends within a number.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse_weights(data, str(path))


def parse_weights(data: bytes, name: str) -> DarknetWeights:
    """The content of a `.weights` file; errors as `read_weights`."""
    if len(data) < 12:
        raise ModelError(f"{name}: holds {len(data)} bytes; expected a header of at least 16, as darknet writes")
    major, minor, revision = struct.unpack_from("<3i", data)
    if not (0 <= major < 1000 and 0 <= minor < 1000 and 0 <= revision < 1000):
        raise ModelError(
            f"{name}: begins with version {major}.{minor}.{revision}, so it is no file of darknet; "
            "expected a .weights file"
        )
    wide = major * 10 + minor >= 2
    header = 20 if wide else 16
    if len(data) < header:
        raise ModelError(f"{name}: holds {len(data)} bytes; its header of version {major}.{minor} takes {header}")
    seen: int = struct.unpack_from("<q" if wide else "<i", data, 12)[0]
    if (len(data) - header) % 4:
        raise ModelError(
            f"{name}: holds {len(data)} bytes, {header} of header and {len(data) - header} of numbers, which is not a "
            "multiple of 4: it is truncated or damaged"
        )
    return DarknetWeights(name, (major, minor, revision), seen, header, np.frombuffer(data, "<f4", offset=header))


def read_cfg(path: Path) -> Cfg:
    """A `.cfg` file of a YOLOv3.

    Raises:
        ModelError: it cannot be read, or is not the configuration of a YOLOv3.
    """
    try:
        # Comments may be in any encoding; what else is not ASCII is an option that nothing knows.
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    return parse_cfg(text, str(path))


def parse_cfg(text: str, name: str) -> Cfg:
    """The content of a `.cfg` file; errors as `read_cfg`."""
    sections = _sections(text.removeprefix("\ufeff"), name)
    net = next((options for kind, _, options in sections if kind == "net"), None)
    yolos = [(line, options) for kind, line, options in sections if kind == "yolo"]
    if net is None or not yolos:
        raise ModelError(f"{name}: has no [net] or no [yolo] section; expected the configuration of a YOLOv3")
    unknown = tuple(word for section in sections for word in _checked(*section, name))
    line, last = yolos[-1]
    anchors, masks = _anchors(yolos, name)
    convolutions = [
        (
            _number(options, "filters", name, at, most=65536),
            _number(options, "size", name, at, most=64),
            _number(options, "batch_normalize", name, at, default=0, least=0, most=1) == 1,
        )
        for kind, at, options in sections
        if kind == "convolutional"
    ]
    layers = [section for section in sections if section[0] != "net"]
    return Cfg(
        height=_number(net, "height", name, 1, default=416, least=32, most=8192),
        width=_number(net, "width", name, 1, default=416, least=32, most=8192),
        classes=_number(last, "classes", name, line, most=100_000),
        anchors=anchors,
        masks=tuple(reversed(masks)),
        convolutions=tuple(convolutions),
        layout=tuple((at, layout_word(kind, options, place)) for place, (kind, at, options) in enumerate(layers)),
        activation=_activation(sections, name),
        center_reach=_center_reach(yolos, name),
        letter_box=_number(net, "letter_box", name, 1, least=0, most=1) == 1 if "letter_box" in net else None,
        unknown=unknown,
    )


def layout_word(kind: str, options: dict[str, str], place: int) -> str:
    """What a section does besides its weights, as in "convolutional 3/2", "route 79" or "yolo".

    Args:
        kind: of the section.
        options: of it; those that are missing have darknet's defaults.
        place: of the section, 0 for the first after [net]; sections that are named relative to it become absolute.
    """
    stride = options.get("stride", "1")
    if kind in ("convolutional", "maxpool"):
        size = options.get("size", stride if kind == "maxpool" else "1")
        return f"{kind} {size}/{stride}"
    if kind in ("route", "shortcut"):
        parts = [part.strip() for part in options.get("layers", options.get("from", "")).split(",")]
        absolute = [str(int(part) + place) if re.fullmatch(r"-\d{1,6}", part) else part for part in parts]
        return f"{kind} {', '.join(absolute)}"
    return f"{kind} {options.get('stride', '2')}" if kind == "upsample" else kind


def _anchors(
    yolos: list[tuple[int, dict[str, str]]], name: str
) -> tuple[tuple[tuple[float, float], ...], list[tuple[int, ...]]]:
    """(width, height) of the anchors, and the mask of each [yolo] section."""
    lists = [_list(options, "anchors", float, name, at) for at, options in yolos]
    flat = lists[-1]
    if len(flat) % 2 or not flat or not all(0 < side <= 65536 for side in flat):
        raise ModelError(f"{name}:{yolos[-1][0]}: anchors must be pairs of width and height above 0")
    anchors = tuple(zip(flat[::2], flat[1::2], strict=True))
    masks = [tuple(_list(options, "mask", int, name, at)) for at, options in yolos]
    if any(not mask or not all(0 <= index < len(anchors) for index in mask) for mask in masks):
        raise ModelError(f"{name}: a mask names no anchor, or one that does not exist (there are {len(anchors)})")
    if len({len(mask) for mask in masks}) > 1 or any(other != flat for other in lists):
        raise ModelError(f"{name}: its [yolo] sections differ in their anchors; expected the same in all")
    return anchors, masks


def _activation(sections: list[tuple[str, int, dict[str, str]]], name: str) -> str:
    """What all convolutions with a norm have; those before [yolo] have none."""
    chosen = ""
    for (kind, at, options), (following, _, _) in zip(sections, [*sections[1:], ("", 0, {})], strict=True):
        if kind != "convolutional":
            continue
        found = options.get("activation", "logistic")  # darknet's default
        wanted = "linear" if following == "yolo" else chosen or found
        if found != wanted:
            raise ModelError(
                f"{name}:{at}: activation is {found[:40]!a}, but must be {wanted}: one is built for all convolutions, "
                "and linear for those before [yolo]"
            )
        chosen = chosen if following == "yolo" else wanted
    return chosen


def _center_reach(yolos: list[tuple[int, dict[str, str]]], name: str) -> float:
    found = [_list({"scale_x_y": options.get("scale_x_y", "1")}, "scale_x_y", float, name, at) for at, options in yolos]
    if any(one != found[0] or len(one) != 1 or not 1 <= one[0] <= 3 for one in found):
        raise ModelError(
            f"{name}:{yolos[0][0]}: scale_x_y must be one number from 1 to 3, the same in all [yolo] sections"
        )
    return float(found[0][0])


def _checked(kind: str, line: int, options: dict[str, str], name: str) -> list[str]:
    """The options that nothing here knows.

    Raises:
        ModelError: an option makes another function of the network.
    """
    if kind not in READ:
        raise ModelError(f"{name}:{line}: [{kind}] is no section of a YOLOv3 of darknet; other networks are not known")
    fixed = dict(FIXED.get(kind, {}))
    size, stride = options.get("size", "1"), options.get("stride", "1")
    if kind == "convolutional":
        fixed |= {"stride_x": stride, "stride_y": stride, "padding": str(int(size) // 2) if size.isdecimal() else "0"}
        fixed["pad"] = options.get("pad", "0") if size == "1" or "padding" in options else "1"
        options = {"pad": "0", **options}
    if kind == "maxpool":
        fixed["padding"] = str(int(size) - 1) if size.isdecimal() else "0"
    for key, value in fixed.items():
        if options.get(key, value) != value:
            raise ModelError(
                f"{name}:{line}: {key}={options[key][:40]} of [{kind}] is not known here; expected {key}={value}, "
                "as YOLOv3 has it"
            )
    known = {*fixed, *READ[kind].split(), *TRAINING.get(kind, "").split()}
    return [f"{key} (line {line})" for key in options if key not in known]


def _sections(text: str, name: str) -> list[tuple[str, int, dict[str, str]]]:
    """(kind, line, options) of each section; of an option that is there twice the first counts, as in darknet."""
    sections: list[tuple[str, int, dict[str, str]]] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].partition(";")[0].strip()
        if not line:
            continue
        if found := re.fullmatch(r"\[\s*(\w+)\s*\]", line):
            kind = found[1].lower()
            sections.append((KINDS.get(kind, kind), number, {}))
            if len(sections) > MOST_SECTIONS:
                raise ModelError(f"{name}:{number}: has more than {MOST_SECTIONS} sections")
            continue
        key, separator, value = line.partition("=")
        if not separator or not sections:
            raise ModelError(f"{name}:{number}: expected [section] or key=value, but got {line[:60]!a}")
        sections[-1][2].setdefault(key.strip(), value.strip())
    return sections


def _number(
    options: dict[str, str], key: str, name: str, line: int, *, most: int, least: int = 1, default: int | None = None
) -> int:
    text = options.get(key, "" if default is None else str(default))
    if not re.fullmatch(r"\d{1,9}", text) or not least <= int(text) <= most:
        raise ModelError(f"{name}:{line}: {key} must be a number from {least} to {most}, but is {text[:40]!a}")
    return int(text)


def _list(options: dict[str, str], key: str, kind: Any, name: str, line: int) -> list[Any]:
    parts = [part.strip() for part in options.get(key, "").split(",") if part.strip()]
    try:
        return [kind(part) for part in parts]
    except ValueError:
        raise ModelError(f"{name}:{line}: {key} must be numbers, but is {options[key][:60]!a}") from None
