"""Darknet's files: `.weights`, a row of numbers without names, and `.cfg`, the network it belongs to. Needs no torch.

Layout of `.weights` (https://github.com/pjreddie/darknet, src/parser.c): three 32-bit integers major, minor, revision;
how many pictures training saw, as 64 bits from version 0.2 on and as 32 bits before; then float32 numbers, little
endian, convolution after convolution in the order of the configuration. A convolution with batch norm has shifts,
scales, means, variances and then its kernel; one without has biases and then its kernel.
"""

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import ModelError

Numbers = NDArray[np.float32]

MOST_SECTIONS = 4096


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


@dataclass(frozen=True, slots=True)
class Cfg:
    """What a `.cfg` file says that the weights do not.

    Attributes:
        height, width: of the network input, pixels.
        classes: how many.
        anchors: (width, height), network-input pixels.
        masks: anchors of each level, finest first.
        convolutions: of the whole network, in order: (filters, kernel size, with batch norm).
    """

    height: int
    width: int
    classes: int
    anchors: tuple[tuple[float, float], ...]
    masks: tuple[tuple[int, ...], ...]
    convolutions: tuple[tuple[int, int, bool], ...]


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
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    return parse_cfg(text, str(path))


def parse_cfg(text: str, name: str) -> Cfg:
    """The content of a `.cfg` file; errors as `read_cfg`."""
    sections = _sections(text, name)
    net = next((options for kind, _, options in sections if kind in ("net", "network")), None)
    yolos = [(line, options) for kind, line, options in sections if kind == "yolo"]
    if net is None or not yolos:
        raise ModelError(f"{name}: has no [net] or no [yolo] section; expected the configuration of a YOLOv3")
    line, last = yolos[-1]
    flat = _list(last, "anchors", float, name, line)
    if len(flat) % 2 or not flat or not all(0 < side <= 65536 for side in flat):
        raise ModelError(f"{name}:{line}: anchors must be pairs of width and height above 0")
    anchors = tuple(zip(flat[::2], flat[1::2], strict=True))
    masks = [tuple(_list(options, "mask", int, name, at)) for at, options in yolos]
    if any(not mask or not all(0 <= index < len(anchors) for index in mask) for mask in masks):
        raise ModelError(f"{name}: a mask names no anchor, or one that does not exist (there are {len(anchors)})")
    if len({len(mask) for mask in masks}) > 1 or len({options.get("anchors") for _, options in yolos}) > 1:
        raise ModelError(f"{name}: its [yolo] sections differ in their anchors; expected the same in all")
    convolutions = [
        (
            _number(options, "filters", name, at, most=65536),
            _number(options, "size", name, at, most=64),
            _number(options, "batch_normalize", name, at, default=0, least=0, most=1) == 1,
        )
        for kind, at, options in sections
        if kind in ("convolutional", "conv")
    ]
    return Cfg(
        height=_number(net, "height", name, 1, default=416, least=32, most=8192),
        width=_number(net, "width", name, 1, default=416, least=32, most=8192),
        classes=_number(last, "classes", name, line, most=100_000),
        anchors=anchors,
        masks=tuple(reversed(masks)),
        convolutions=tuple(convolutions),
    )


def _sections(text: str, name: str) -> list[tuple[str, int, dict[str, str]]]:
    """(kind, line, options) of each section."""
    sections: list[tuple[str, int, dict[str, str]]] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.partition("#")[0].partition(";")[0].strip()
        if not line:
            continue
        if found := re.fullmatch(r"\[\s*(\w+)\s*\]", line):
            sections.append((found[1].lower(), number, {}))
            if len(sections) > MOST_SECTIONS:
                raise ModelError(f"{name}:{number}: has more than {MOST_SECTIONS} sections")
            continue
        key, separator, value = line.partition("=")
        if not separator or not sections:
            raise ModelError(f"{name}:{number}: expected [section] or key=value, but got {line[:60]!a}")
        sections[-1][2][key.strip()] = value.strip()
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
