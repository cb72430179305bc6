"""What every preset and classifier costs, counted once, so that `falconet models` needs no torch; tests count anew."""

import json
from importlib.resources import files
from typing import Literal, NamedTuple


class Preset(NamedTuple):
    """One network. Its class count is 80 of a detector, 1000 of a classifier."""

    task: Literal["detect", "classify"]
    height: int
    """The input's, pixels."""
    width: int
    parameters: int
    macs: int
    """Multiply-adds of convolutions and linear layers, at this input."""


def read_presets() -> dict[str, Preset]:
    """All of them by name, in the order of the documentation."""
    text = files("falconet.zoo.published").joinpath("presets.json").read_text(encoding="utf-8")
    return {name: Preset(*row) for name, row in json.loads(text).items()}
