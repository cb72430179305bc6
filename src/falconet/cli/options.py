"""Options that several commands read alike."""

from falconet.core.errors import ConfigError
from falconet.core.manifest import LARGEST_SIDE

ENGINE_HELP = (
    "What runs the model: onnxruntime, openvino, ncnn, litert, executorch, torch; auto takes the usual one of the "
    "file's format."
)
PRECISION_HELP = "float32, or bfloat16 with openvino on processors that compute in it; auto is float32."
"""Written out, since the table of engines takes as long to import as a picture takes to detect in."""

SMALLEST, LARGEST = 32, LARGEST_SIDE

LONGEST = 1e6
"""Milliseconds, of a budget."""


def parse_size(text: str, *, smallest: int = SMALLEST, largest: int = LARGEST) -> tuple[int, int]:
    """(height, width) in pixels of 416, or of 320x416 (height x width)."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isdecimal() and smallest <= int(side) <= largest for side in sides):
        raise ConfigError(
            f"--size {text}: expected pixels from {smallest} to {largest}, as in 416, or height x width as in 320x416"
        )
    return int(sides[0]), int(sides[-1])


def parse_milliseconds(text: str) -> float:
    """Milliseconds of 8, 8ms, 8.5 ms or 0.5s."""
    number, unit = text.lower().strip(), 1
    if number.endswith("ms"):
        number = number.removesuffix("ms")
    elif number.endswith("s"):
        number, unit = number.removesuffix("s"), 1000
    try:
        value = unit * float(number)
    except ValueError:
        value = 0.0
    if not 0 < value < LONGEST:
        raise ConfigError(f"--budget {text}: expected milliseconds, as in 8ms")
    return value


def words(text: str) -> list[str]:
    """The words of a,b,c, without blanks around them."""
    return [word.strip() for word in text.split(",") if word.strip()]
