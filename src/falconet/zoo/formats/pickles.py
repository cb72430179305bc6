"""Pickles of other people, read as plain values by a small machine of our own: nothing in them is ever called.

Python's unpickler imports and calls whatever a file names, so opening a checkpoint can run any program. This
machine knows no import and no call. It walks the opcodes (the decoder is the standard library's
`pickletools`), keeps plain values, and replaces the few callables that describe tensors and containers by
functions of this file. A file that asks for anything else is refused by name. Memory stays in proportion to
the file: memo indices are dictionary keys, lengths are checked against what is there, sizes of arrays against
the bytes they claim to describe, and the number of opcodes is limited.
"""

import io
import pickletools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from falconet.core.errors import ModelError
from falconet.zoo.formats.pickled_values import (
    BUILDERS,
    MENTIONED,
    LazyArray,
    LazyDtype,
    Name,
    TensorView,
    plain_key,
    plain_set,
)

MAX_OPCODES = 2_000_000
"""A Lightning checkpoint of a detector with optimizer state has about a tenth of this."""


class _Machine:
    """Runs one pickle. See the module's docstring for what it refuses."""

    def __init__(self, persistent: Callable[[Any], Any] | None) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.budget = 0

    def run(self, stream: io.BytesIO) -> Any:
        self.budget = 2**28 + 4 * len(stream.getbuffer())
        for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
            if count >= MAX_OPCODES:
                raise ModelError(f"has more than {MAX_OPCODES} pickle instructions; that is no checkpoint")
            self.step(opcode.name, argument)
        return self.stack.pop()

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSHES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ModelError(f"uses the pickle instruction {name}, which no checkpoint needs")

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def take(self, count: int) -> tuple[Any, ...]:
        if count > len(self.stack):
            raise IndexError(count)
        items = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return items

    def pop(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def name(self, module: Any, attribute: Any) -> None:
        if not isinstance(module, str) or not isinstance(attribute, str):
            raise ModelError("names something without text")
        module = {"__builtin__": "builtins", "copy_reg": "copyreg"}.get(module, module)
        text = f"{module}.{attribute}"
        if text not in BUILDERS and not MENTIONED.fullmatch(text):
            raise _refusal(text)
        self.stack.append(Name(text))

    def call(self) -> None:
        arguments = self.stack.pop()
        target = self.stack.pop()
        if not isinstance(target, Name) or not isinstance(arguments, tuple):
            raise ModelError(f"calls a {type(target).__name__}")
        builder = BUILDERS.get(target.text)
        if builder is None:
            raise _refusal(target.text)
        self.spend(arguments)
        self.stack.append(builder(*arguments))

    def spend(self, arguments: tuple[Any, ...]) -> None:
        """Counts what a call may copy: one long value, named many times, would otherwise fill the memory."""
        for value in arguments:
            if isinstance(value, (str, bytes, bytearray)):
                self.budget -= len(value)
            elif isinstance(value, (list, tuple, dict)):
                self.budget -= 100 * len(value)
        if self.budget < 0:
            raise ModelError("builds more than the file could hold")

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, (LazyArray, LazyDtype)):
            self.spend(state if isinstance(state, tuple) else ())
            target.build(state)
        elif not isinstance(target, dict):  # attributes of a mapping (torch keeps versions there) are not needed
            raise ModelError(f"sets attributes of a {type(target).__name__}")

    def put_items(self, items: Sequence[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ModelError("sets items of something that is no mapping")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[plain_key(key)] = value

    def mapping(self) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.put_items(items)

    def extend(self, items: Sequence[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(plain_key(item) for item in items)
        else:
            raise ModelError(f"appends to a {type(target).__name__}")

    def reference(self) -> None:
        if self.persistent is None:
            raise ModelError("refers to data outside of the pickle")
        self.stack.append(self.persistent(self.stack.pop()))


def _refusal(text: str) -> ModelError:
    return ModelError(
        f"asks for {text[:120]!a}, which is not on the list of plain tensors and containers; refused, nothing "
        "was run. Where the file can be trusted, save its state_dict alone and import that"
    )


_PUSHES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "EMPTY_DICT": lambda m, _: m.stack.append({}),
    "EMPTY_LIST": lambda m, _: m.stack.append([]),
    "EMPTY_TUPLE": lambda m, _: m.stack.append(()),
    "EMPTY_SET": lambda m, _: m.stack.append(set()),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.pop(),
    "POP_MARK": lambda m, _: m.since_mark().clear(),
    "DUP": lambda m, _: m.stack.append(m.stack[-1]),
    "TUPLE": lambda m, _: m.stack.append(tuple(m.since_mark())),
    "TUPLE1": lambda m, _: m.stack.append(m.take(1)),
    "TUPLE2": lambda m, _: m.stack.append(m.take(2)),
    "TUPLE3": lambda m, _: m.stack.append(m.take(3)),
    "LIST": lambda m, _: m.stack.append(m.since_mark()),
    "FROZENSET": lambda m, _: m.stack.append(plain_set(m.since_mark())),
    "DICT": lambda m, _: m.mapping(),
    "APPEND": lambda m, _: m.extend(m.take(1)),
    "APPENDS": lambda m, _: m.extend(m.since_mark()),
    "ADDITEMS": lambda m, _: m.extend(m.since_mark()),
    "SETITEM": lambda m, _: m.put_items(m.take(2)),
    "SETITEMS": lambda m, _: m.put_items(m.since_mark()),
    "PUT": lambda m, a: m.memo.__setitem__(a, m.stack[-1]),
    "BINPUT": lambda m, a: m.memo.__setitem__(a, m.stack[-1]),
    "LONG_BINPUT": lambda m, a: m.memo.__setitem__(a, m.stack[-1]),
    "MEMOIZE": lambda m, _: m.memo.__setitem__(len(m.memo), m.stack[-1]),
    "GET": lambda m, a: m.stack.append(m.memo[a]),
    "BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "LONG_BINGET": lambda m, a: m.stack.append(m.memo[a]),
    "GLOBAL": lambda m, a: m.name(*a.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.name(*m.take(2)),
    "INST": lambda m, a: m.name(*a.split(" ", 1)),
    "REDUCE": lambda m, _: m.call(),
    "NEWOBJ": lambda m, _: m.call(),
    "BUILD": lambda m, _: m.build(),
    "BINPERSID": lambda m, _: m.reference(),
}


def read_pickle(stream: io.BytesIO, name: str, *, persistent: Callable[[Any], Any] | None = None) -> Any:
    """One pickle from `stream` as plain values; tensors and arrays are `Lazy`.

    Args:
        stream: in memory (a buffered file would set aside whatever length a hostile file claims).
        name: of the file, for messages.
        persistent: answers references to data outside of the pickle (torch's storages).

    Raises:
        ModelError: the file is damaged, or asks for something that is not on the list.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # the decoder warns of text that no pickler writes
            return _Machine(persistent).run(stream)
    except ModelError as error:
        raise ModelError(f"{name}: {error}") from None
    except (IndexError, KeyError, ValueError, TypeError, OverflowError, AttributeError, Warning) as error:
        raise ModelError(f"{name}: is damaged, its pickle cannot be read ({str(error)[:80]})") from error


def arrays(values: Any, name: str, *, limit: int) -> dict[str, NDArray[Any]]:
    """The tensors among the entries of a mapping, under their keys.

    Args:
        limit: bytes that all of them together may take (shared data could be named very often).

    Raises:
        ModelError: `values` is no mapping, a tensor does not fit its data, or they are larger than `limit`.
    """
    if not isinstance(values, dict):
        raise ModelError(f"{name}: expected a mapping from names to tensors, but found a {type(values).__name__}")
    result: dict[str, NDArray[Any]] = {}
    total = 0
    for key, value in values.items():
        if not isinstance(key, str) or not isinstance(value, (TensorView, LazyArray)):
            continue
        try:
            array = value.array()
        except ModelError as error:
            raise ModelError(f"{name}: {key[:80]!a}: {error}") from None
        total += array.nbytes
        if total > limit:
            raise ModelError(f"{name}: its tensors are larger than the file could hold ({total} bytes at {key[:80]!a})")
        result[key] = array
    return result
