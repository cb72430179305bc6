"""Darknet, as far as YOLOv3 needs it: configurations of small networks, random weights in the order of the file, and
the network run section by section. Shares no code with the package.
"""

import struct
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Section = tuple[str, dict[str, Any]]

ANCHORS = (10, 13, 16, 30, 33, 23, 30, 61, 62, 45, 59, 119, 116, 90, 156, 198, 373, 326)
TINY_ANCHORS = (10, 14, 23, 27, 37, 58, 81, 82, 135, 169, 344, 319)


def conv(filters: int, size: int, *, stride: int = 1, plain: bool = False) -> Section:
    options = {"filters": filters, "size": size, "stride": stride, "pad": 1}
    if plain:
        return "convolutional", {**options, "activation": "linear"}
    return "convolutional", {"batch_normalize": 1, **options, "activation": "leaky"}


def route(*layers: int) -> Section:
    return "route", {"layers": ",".join(map(str, layers))}


def pool(size: int, stride: int) -> Section:
    return "maxpool", {"size": size, "stride": stride}


def yolo(mask: tuple[int, ...], anchors: tuple[float, ...], classes: int) -> Section:
    return "yolo", {
        "mask": ",".join(map(str, mask)),
        "anchors": ", ".join(map(str, anchors)),
        "classes": classes,
        "num": len(anchors) // 2,
    }


def network(name: str, *, classes: int, side: int = 64, share: int = 16, anchors: Any = None) -> list[Section]:
    """yolov3, yolov3-spp or yolov3-tiny, with channels divided by `share`."""
    outputs = 3 * (5 + classes)
    net: list[Section] = [("net", {"batch": 1, "width": side, "height": side, "channels": 3})]
    if name == "yolov3-tiny":
        values = anchors or TINY_ANCHORS
        for index, filters in enumerate((16, 32, 64, 128, 256, 512)):
            net += [conv(filters // share, 3), pool(2, 1 if index == 5 else 2)]
        net += [conv(1024 // share, 3), conv(256 // share, 1), conv(512 // share, 3), conv(outputs, 1, plain=True)]
        net += [yolo((3, 4, 5), values, classes), route(-4), conv(128 // share, 1), ("upsample", {"stride": 2})]
        net += [route(-1, 8), conv(256 // share, 3), conv(outputs, 1, plain=True), yolo((0, 1, 2), values, classes)]
        return net
    values = anchors or ANCHORS
    net.append(conv(32 // share, 3))
    for filters, blocks in ((64, 1), (128, 2), (256, 8), (512, 8), (1024, 4)):
        net.append(conv(filters // share, 3, stride=2))
        for _ in range(blocks):
            net += [conv(filters // 2 // share, 1), conv(filters // share, 3)]
            net.append(("shortcut", {"from": -3, "activation": "linear"}))
    for step, filters in enumerate((512, 256, 128)):
        small, large = filters // share, 2 * filters // share
        if step:
            net += [route(-4), conv(small, 1), ("upsample", {"stride": 2}), route(-1, {1: 61, 2: 36}[step])]
        net += [conv(small, 1), conv(large, 3), conv(small, 1)]
        if name == "yolov3-spp" and step == 0:
            net += [pool(5, 1), route(-2), pool(9, 1), route(-4), pool(13, 1), route(-1, -3, -5, -6), conv(small, 1)]
        net += [conv(large, 3), conv(small, 1), conv(large, 3), conv(outputs, 1, plain=True)]
        net.append(yolo(((6, 7, 8), (3, 4, 5), (0, 1, 2))[step], values, classes))
    return net


def text(sections: list[Section]) -> str:
    lines = []
    for kind, options in sections:
        lines.append(f"[{kind}]")
        lines += [f"{key}={value}" for key, value in options.items()]
        lines.append("")
    return "\n".join(lines)


def header(version: tuple[int, int, int] = (0, 2, 0), seen: int = 32013312) -> bytes:
    wide = version[0] * 10 + version[1] >= 2
    return struct.pack("<3i", *version) + struct.pack("<q" if wide else "<i", seen)


def random_numbers(sections: list[Section], *, seed: int = 0) -> np.ndarray:
    """Weights for a network, as its file holds them after the header."""
    random, parts, channels, shapes = np.random.default_rng(seed), [], 3, []
    for kind, options in sections[1:]:
        if kind == "convolutional":
            filters, size = options["filters"], options["size"]
            kernel = random.normal(0, (1.5 / (channels * size * size)) ** 0.5, filters * channels * size * size)
            shift = random.normal(0, 0.1, filters)
            if options.get("batch_normalize"):
                scale, variance = random.uniform(0.8, 1.2, filters), random.uniform(0.5, 1.5, filters)
                parts += [shift, scale, random.normal(0, 0.1, filters), variance]
            else:
                parts.append(shift)
            parts.append(kernel)
            channels = filters
        elif kind == "route":
            layers = [int(layer) for layer in options["layers"].split(",")]
            channels = sum(shapes[layer] for layer in layers)
        shapes.append(channels)
    return np.concatenate(parts).astype(np.float32)


def run(sections: list[Section], numbers: np.ndarray, images: Tensor) -> list[Tensor]:
    """What enters each [yolo] section, in order: [B, anchors * (5 + classes), H, W]."""
    stream = torch.from_numpy(numbers)
    place = 0

    def take(*shape: int) -> Tensor:
        nonlocal place
        count = int(np.prod(shape))
        place += count
        return stream[place - count : place].reshape(shape)

    x, outputs, found = images, [], []
    for kind, options in sections[1:]:
        if kind == "convolutional":
            filters, size = options["filters"], options["size"]
            normed = bool(options.get("batch_normalize"))
            shift = take(filters)
            scale, mean, variance = (take(filters), take(filters), take(filters)) if normed else (None,) * 3
            x = F.conv2d(x, take(filters, x.shape[1], size, size), stride=options["stride"], padding=size // 2)
            if normed:
                x = (x - mean[:, None, None]) / (variance.sqrt() + 1e-6)[:, None, None] * scale[:, None, None]
            x = x + shift[:, None, None]
            x = torch.where(x > 0, x, 0.1 * x) if options["activation"] == "leaky" else x
        elif kind == "maxpool":
            padding = options["size"] - 1
            low, high = padding // 2, padding - padding // 2
            x = F.max_pool2d(F.pad(x, (low, high, low, high), value=-torch.inf), options["size"], options["stride"])
        elif kind == "route":
            x = torch.cat([outputs[int(layer)] for layer in options["layers"].split(",")], dim=1)
        elif kind == "shortcut":
            x = x + outputs[options["from"]]
        elif kind == "upsample":
            x = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        else:
            found.append(x)
        outputs.append(x)
    assert place == len(stream)
    return found
