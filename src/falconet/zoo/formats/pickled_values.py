"""What stands for tensors, arrays and containers while a foreign pickle is read, and the functions that make them.

The functions in `BUILDERS` are all that a pickle can reach; each checks its arguments.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from falconet.core.errors import ModelError


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function a pickle names, as text. It is never imported."""

    text: str


class Lazy(Protocol):
    """Something that turns into an array once all of the file has been read."""

    def array(self) -> NDArray[Any]: ...


class Storage:
    """A flat run of numbers that tensors look into; `data` arrives after the pickle has been read.

    Args:
        code: NumPy type code, or "bf16".
        count: how many numbers the file says there are.
    """

    def __init__(self, key: str, code: str, count: int) -> None:
        self.key, self.code, self.count = key, code, count
        self.data: bytes | memoryview | None = None

    @property
    def item(self) -> int:
        """Bytes per number."""
        return 2 if self.code == "bf16" else np.dtype(self.code).itemsize

    def values(self) -> NDArray[Any]:
        """[count] the numbers; bfloat16 comes back as float32.

        Raises:
            ModelError: the file holds another number of bytes than it says.
        """
        if self.data is None or len(self.data) != self.count * self.item:
            found = 0 if self.data is None else len(self.data)
            raise ModelError(f"tensor data {self.key[:40]!a}: expected {self.count * self.item} bytes, found {found}")
        if self.code == "bf16":
            return (np.frombuffer(self.data, "<u2").astype(np.uint32) << 16).view(np.float32)
        return np.frombuffer(self.data, self.code)


class TensorView:
    """A strided look into a storage, checked to lie within it and not to be larger than it."""

    def __init__(self, storage: Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        last, size = offset, 1
        for side, stride in zip(shape, strides, strict=True):
            size *= side
            last += max(side - 1, 0) * stride
        if size == 0:
            _sides_of_nothing(shape)
        elif last >= storage.count or size > storage.count:
            raise ModelError(
                f"a tensor of shape {list(shape)} does not fit its data: {storage.count} numbers are stored"
            )
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> NDArray[Any]:
        """The tensor as a read-only view."""
        values = self.storage.values()
        if 0 in self.shape:
            return np.zeros(self.shape, values.dtype)
        steps = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps, writeable=False)


class LazyDtype:
    """`numpy.dtype` under construction: numbers and booleans only."""

    def __init__(self, code: object) -> None:
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?(f[248]|[iu][1248]|b1)", code):
            found = ascii(code[:40]) if isinstance(code, str) else f"a {type(code).__name__}"
            raise ModelError(f"asks for arrays of type {found}; expected numbers")
        self.code, self.order = code.lstrip("<>|="), "<"

    def build(self, state: object) -> None:
        if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">", "|", "="):
            self.order = ">" if state[1] == ">" else "<"

    @property
    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class LazyArray:
    """`numpy.ndarray` under construction."""

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def build(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], LazyDtype):
            raise ModelError("holds an array in a form that is not known")
        self.value = _from_bytes(state[4], state[2], state[1], fortran=bool(state[3]))

    def array(self) -> NDArray[Any]:
        if self.value is None:
            raise ModelError("holds an array without content")
        return self.value


def _from_bytes(data: object, dtype: LazyDtype, shape: object, *, fortran: bool) -> NDArray[Any]:
    sides = whole_numbers(shape, "the shape of an array")
    if not isinstance(data, (bytes, bytearray, str)):
        raise ModelError("holds an array whose content is not bytes")
    raw = data.encode("latin-1") if isinstance(data, str) else bytes(data)
    expected = dtype.numpy.itemsize * math.prod(sides)
    if expected == 0:
        _sides_of_nothing(sides)
    if len(raw) != expected:
        raise ModelError(f"an array of shape {list(sides)} needs {expected} bytes, but {len(raw)} are stored")
    return np.frombuffer(raw, dtype.numpy).reshape(sides, order="F" if fortran else "C")


def _sides_of_nothing(shape: tuple[int, ...]) -> None:
    """NumPy wants even an empty array's other sides to multiply to something that fits."""
    if math.prod(side for side in shape if side) > 2**40:
        raise ModelError(f"an array of shape {list(shape)} is absurd")


def whole_numbers(value: Any, what: str) -> tuple[int, ...]:
    """`value` as a tuple of at most 16 integers from 0 on.

    Raises:
        ModelError: it is something else; `what` names it.
    """
    short = isinstance(value, (tuple, list)) and len(value) <= 16
    if short and all(type(v) is int and 0 <= v < 2**48 for v in value):
        return tuple(value)
    raise ModelError(f"{what} is not a short list of whole numbers from 0 on")


def _rebuild_tensor(*args: Any) -> TensorView:
    if len(args) < 4 or not isinstance(args[0], Storage):
        raise ModelError("describes a tensor without its storage")
    (offset,) = whole_numbers((args[1],), "the offset of a tensor")
    shape = whole_numbers(args[2], "the shape of a tensor")
    strides = whole_numbers(args[3], "the strides of a tensor")
    if len(shape) != len(strides):
        raise ModelError("describes a tensor with another number of strides than sides")
    return TensorView(args[0], offset, shape, strides)


def _parameter(*args: Any) -> Any:
    if not args or not isinstance(args[0], TensorView):
        raise ModelError("describes a parameter without its tensor")
    return args[0]


def _ordered_dict(*args: Any) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    pairs = args[0] if args and isinstance(args[0], list) else []
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ModelError("holds a mapping in a form that is not known")
        result[plain_key(pair[0])] = pair[1]
    return result


def _default_dict(*_: Any) -> dict[Any, Any]:
    return {}


def _counter(*args: Any) -> dict[Any, Any]:
    return dict(args[0]) if args and isinstance(args[0], dict) else {}


def plain_set(*args: Any) -> set[Any]:
    items = args[0] if args and isinstance(args[0], (list, tuple)) else ()
    return {plain_key(item) for item in items}


def _plain_tuple(*args: Any) -> tuple[Any, ...]:
    """How Paddle pairs a parameter's name with its values."""
    if len(args) != 1 or not isinstance(args[0], (tuple, list)):
        raise ModelError("holds a tuple in a form that is not known")
    return tuple(args[0])


def _size(*args: Any) -> tuple[int, ...]:
    return whole_numbers(args[0] if args else (), "a size")


def _device(*args: Any) -> Name:
    return Name(f"device {args[0]}" if args and isinstance(args[0], str) else "device")


def _encode(*args: Any) -> bytes:
    """How protocol 2 stores bytes: as text in latin-1."""
    if not args or not isinstance(args[0], str) or args[1:] not in ((), ("latin1",), ("latin-1",)):
        raise ModelError("encodes text in a way that is not known")
    return args[0].encode("latin-1")


def _dtype(*args: Any) -> LazyDtype:
    return LazyDtype(args[0] if args else None)


def _reconstruct(*_: Any) -> LazyArray:
    return LazyArray()


def _scalar(*args: Any) -> Any:
    if len(args) != 2 or not isinstance(args[0], LazyDtype):
        raise ModelError("holds a number in a form that is not known")
    return _from_bytes(args[1], args[0], (), fortran=False).item()


def _frombuffer(*args: Any) -> LazyArray:
    if len(args) != 4 or not isinstance(args[1], LazyDtype):
        raise ModelError("holds an array in a form that is not known")
    holder = LazyArray()
    holder.value = _from_bytes(args[0], args[1], args[2], fortran=args[3] == "F")
    return holder


BUILDERS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "collections.defaultdict": _default_dict,
    "collections.Counter": _counter,
    "builtins.set": plain_set,
    "builtins.frozenset": plain_set,
    "builtins.tuple": _plain_tuple,
    "_codecs.encode": _encode,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "torch.device": _device,
    "numpy.dtype": _dtype,
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    "numpy.core.multiarray.scalar": _scalar,
    "numpy._core.multiarray.scalar": _scalar,
    "numpy.core.numeric._frombuffer": _frombuffer,
    "numpy._core.numeric._frombuffer": _frombuffer,
}
"""What a pickle may call, and what is done instead: plain tensors and containers."""

MENTIONED = re.compile(
    r"torch\.(\w+Storage|storage\.\w+Storage|(float|bfloat|complex|u?int|q?u?int)\d+|bool)"
    r"|numpy\.(ndarray|float\d+|int\d+|bool_)|builtins\.(dict|list|int|float|set)"
    r"|(pytorch_lightning|lightning\.pytorch)\.callbacks\.[\w.]+"
)
"""Names that may stand in a file as data (a type of storage, a callback's class as a key); calling them is refused."""


def plain_key(value: Any) -> Any:
    """`value` if it is plain enough for a dictionary key (hashing nested tuples can take forever)."""
    plain = (str, int, float, bytes, Name, type(None))
    if isinstance(value, plain) or (isinstance(value, tuple) and all(isinstance(v, plain) for v in value)):
        return value
    raise ModelError(f"uses a {type(value).__name__} as a key")
