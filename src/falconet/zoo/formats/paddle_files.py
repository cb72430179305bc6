"""Weights of Paddle (`.pdparams`) as NumPy arrays, without Paddle and without running them.

`paddle.save` writes a pickle of {name: array}. Beside the weights it holds a table of Paddle's own names, and weights
may be pairs (name, array); newer versions write them that way where a tensor is not a parameter of the model.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import ModelError
from falconet.zoo.formats.pickles import arrays, read_pickle

NAMES = "StructuredToParameterName@@"
PIECES = "UnpackBigParamInfor@@"
"""Names the pieces into which arrays above a gigabyte are cut."""

BESIDE = {
    ".pdopt": "the state of an optimiser",
    ".pdema": "the weights beside their moving average (the .pdparams holds the average)",
}
"""Files that lie beside the weights, and what they hold."""


def read_paddle(path: Path) -> dict[str, NDArray[Any]]:
    """The weights in a `.pdparams` by Paddle's names; numbers in float32 or as they are.

    Raises:
        ModelError: unreadable, damaged, no weights in it, or it asks for anything but arrays and containers.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    if data[:1] != b"\x80":
        raise ModelError(
            f"{path}: is not a file of paddle.save: it starts with {data[:4]!r}, expected a pickle. Models that were "
            "exported (.pdmodel, .pdiparams) are not supported; import the .pdparams they were made of"
        )
    tree = read_pickle(io.BytesIO(data), str(path))
    if not isinstance(tree, dict):
        raise ModelError(f"{path}: expected a mapping from names to arrays, but found a {type(tree).__name__}")
    if tree.get(PIECES):
        raise ModelError(f"{path}: has arrays in pieces ({PIECES}), as old versions of Paddle wrote very large ones")
    single = {key: _values(value) for key, value in tree.items() if key not in (NAMES, PIECES)}
    found = arrays(single, str(path), limit=4 * len(data) + 4096)
    if not found:
        shown = ", ".join(str(key)[:30] for key in list(tree)[:8])
        raise ModelError(f"{path}: holds no arrays; its entries are {shown or 'none'}")
    return {key: _numbers(key, value, str(path)) for key, value in found.items()}


def _values(value: Any) -> Any:
    """The array of a pair (name, array), or `value` itself."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return value[1]
    return value


def _numbers(key: str, value: NDArray[Any], name: str) -> NDArray[Any]:
    """Floating point numbers; Paddle hands out bfloat16 as 16-bit integers."""
    if value.dtype == np.uint16:
        return (value.astype(np.uint32) << 16).view(np.float32)
    if value.dtype.kind not in "fiu":
        raise ModelError(f"{name}: {key} holds {value.dtype} instead of numbers")
    return value
