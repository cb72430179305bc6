"""The smallest classification: pictures of one colour, named after it, and a network of few channels."""

from pathlib import Path

import numpy as np

from falconet.core.images import write_image
from falconet.training import RunConfig, read_run

COLOURS = {"blue": (230, 40, 40), "green": (40, 230, 40), "red": (40, 40, 230)}

MODEL = [
    "model.input.height=48",
    "model.input.width=64",
    "model.backbone.width=0.25",
    "model.backbone.with_last_conv=false",
]


def draw_colours(folder: Path, *, count: int = 6, seed: int = 0) -> Path:
    """Write `count` noisy pictures of each colour, of several sizes; returns the folder."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        for number in range(count):
            height, width = rng.integers(40, 90, size=2).tolist()
            noise = rng.normal(0, 20, (height, width, 3))
            write_image(folder / name / f"{number}.png", np.clip(colour + noise, 0, 255).astype(np.uint8))
    return folder


def tiny_classifier(data: Path, output: Path, *overrides: str) -> RunConfig:
    """A tiny run; overrides come last."""
    options = [
        *MODEL,
        f"data.train={data}/train",
        f"data.val={data}/val",
        f"output={output}",
        "train.batch_size=6",
        "train.epochs=3",
        "data.workers=0",
        *overrides,
    ]
    return read_run("mobilenet-v2-0.5", options)
