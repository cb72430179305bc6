"""Foreign pickles: plain arrays come out, everything else is refused by name, and nothing ever runs."""

import io
import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from falconet.core.errors import ModelError
from falconet.zoo.formats.pickles import arrays, read_pickle
from tests.zoo import files


def read(data: bytes) -> Any:
    return read_pickle(io.BytesIO(data), "model.pkl")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_of_every_protocol(protocol: int) -> None:
    data = files.array_pickle(protocol)
    expected = pickle.loads(data)
    found = arrays(read(data), "model.pkl", limit=len(data))
    assert list(found) == ["conv.weight", "norm.mean", "steps"]
    for key, value in found.items():
        np.testing.assert_array_equal(value, expected[key])
        assert value.dtype == expected[key].dtype


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back_as_they_are(protocol: int) -> None:
    tree = {
        "none": None,
        "flags": [True, False],
        "numbers": (1, -300, 2**40, -(2**70), 0.5, float("inf")),
        "texts": {"a": "ä", "b": b"\x00\xff"},
        "empty": [[], {}, (), set()],
        "set": {1, 2},
        (1, "key"): 3,
    }
    assert read(pickle.dumps(tree, protocol=protocol)) == tree


class Evil:
    """Pickles as a call of `target(*arguments)`."""

    def __init__(self, target: Any, *arguments: Any) -> None:
        self.target, self.arguments = target, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.target, self.arguments


@pytest.mark.parametrize("protocol", range(2, 6))
def test_a_call_is_refused_by_name_and_does_not_run(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "it-ran"
    data = pickle.dumps({"state_dict": Evil(os.mkdir, str(mark))}, protocol=protocol)
    with pytest.raises(ModelError, match=r"model\.pkl: asks for '(posix|nt)\.mkdir', .*nothing was run"):
        read(data)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"cos\nsystem\n(S'touch x'\ntR.", "os.system"),
        (b"(S'touch x'\nios\nsystem\n.", "os.system"),
        (b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93\x8c\x01a\x85R.", "builtins.exec"),
        (b"\x80\x02c__builtin__\neval\nq\x00X\x01\x00\x00\x001\x85R.", "builtins.eval"),
        (b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x01a\x85R.", "torch.storage._load_from_bytes"),
        (b"\x80\x02ccopyreg\n_reconstructor\n)R.", "copyreg._reconstructor"),
        (b"\x80\x02cnumpy\nload\n)R.", "numpy.load"),
        (b"\x80\x02cbuiltins\ngetattr\n)R.", "builtins.getattr"),
        (b"\x80\x02cpytorch_lightning.callbacks.early_stopping\nEarlyStopping\n)\x81.", "EarlyStopping"),
        (b"\x80\x02ccollections\nOrderedDict.__reduce__\n)R.", "collections.OrderedDict.__reduce__"),
    ],
)
def test_callables_outside_of_the_list(data: bytes, name: str) -> None:
    with pytest.raises(ModelError, match="refused, nothing was run") as caught:
        read(data)
    assert name in str(caught.value)


def test_a_class_may_stand_in_a_file_as_long_as_it_is_not_called() -> None:
    data = b"\x80\x02}cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\nK\x01s."
    (key,) = read(data)
    assert key.text == "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is damaged"),
        (b"\x80\x04", "is damaged"),
        (b"\x80\x04N", "is damaged"),
        (b"\xff.", "is damaged"),
        (b"0.", "is damaged"),
        (b"e.", "is damaged"),
        (b"\x80\x05]r\xff\xff\xff\x7f.", None),
        (b"\x80\x04B\xff\xff\xff\xff.", "is damaged"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "is damaged"),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "is damaged"),
        (b"\x80\x04N)R.", "calls a NoneType"),
        (b"\x80\x04]Nb.", "sets attributes of a list"),
        (b"\x80\x04N(K\x01e.", "appends to a NoneType"),
        (b"\x80\x04](K\x01K\x02u.", "sets items of something that is no mapping"),
        (b"\x80\x04}](K\x01e](s.", None),
        (b"\x80\x04}]K\x01s.", "uses a list as a key"),
        (b"\x80\x04NQ.", "refers to data outside of the pickle"),
        (b"\x80\x05\x97.", "uses the pickle instruction NEXT_BUFFER"),
        (b"\x80\x02\x82\x01.", "uses the pickle instruction EXT1"),
        (b"(cos\nsystem\no.", "asks for 'os.system'"),
        (b"\x80\x04K\x01K\x02\x93.", "names something without text"),
        (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.", "asks for arrays of type 'O8'"),
    ],
)
def test_damaged_and_hostile_pickles(data: bytes, message: str | None) -> None:
    if message is None:  # odd, but harmless
        try:
            read(data)
        except ModelError:
            return
        return
    with pytest.raises(ModelError) as caught:
        read(data)
    assert str(caught.value).startswith("model.pkl: ")
    assert message in str(caught.value)


def _array(shape: tuple[int, ...], data: bytes) -> bytes:
    """A protocol-2 pickle of one float32 array in a mapping, with a shape of our choice."""
    out = b"\x80\x02}X\x01\x00\x00\x00acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    sides = b"(" + b"".join(pickle.dumps(side, protocol=2)[2:-1] for side in shape) + b"t"
    dtype = b"cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R"
    content = b"B" + len(data).to_bytes(4, "little") + data
    return out + b"(K\x01" + sides + dtype + b"\x89" + content + b"tbs."


def test_hand_made_array() -> None:
    found = arrays(read(_array((2, 3), np.arange(6, dtype=np.float32).tobytes())), "x", limit=100)
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("shape", [(2, 4), (-1, 6), (2**60,), (2**31, 2**31), (1,) * 40])
def test_arrays_with_absurd_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"needs \d+ bytes, but 24 are stored|not a short list of whole numbers"):
        read(_array(shape, bytes(24)))


def test_an_empty_array_with_absurd_sides() -> None:
    with pytest.raises(ModelError, match="is absurd"):
        read(_array((0, 2**40, 2**40), b""))


def test_one_long_text_copied_very_often_is_refused() -> None:
    text = b"X" + (10_000_000).to_bytes(4, "little") + b"a" * 10_000_000
    call = b"h\x00h\x01\x85R0"
    data = b"\x80\x02c_codecs\nencode\nq\x000" + text + b"q\x010" + call * 1000 + b"N."
    with pytest.raises(ModelError, match="builds more than the file could hold"):
        read(data)


def test_nested_tuples_cannot_be_keys() -> None:
    # Each level names the one before twice: hashing the last would take 2 ** 60 steps.
    data = b"\x80\x02}K\x01\x85" + b"2\x86" * 60 + b"K\x01s."
    with pytest.raises(ModelError, match="uses a tuple as a key"):
        read(data)


def test_shared_data_cannot_multiply() -> None:
    array = np.zeros(1000, np.float32)
    data = pickle.dumps({str(index): array for index in range(1000)})
    with pytest.raises(ModelError, match="larger than the file could hold"):
        arrays(read(data), "x.pdparams", limit=4 * len(data))


def test_a_mapping_is_expected() -> None:
    with pytest.raises(ModelError, match=r"x: expected a mapping from names to tensors, but found a list"):
        arrays([], "x", limit=1)


def test_every_instruction_is_handled_or_refused() -> None:
    from falconet.zoo.formats import pickles

    handled = set(pickles._PUSHES) | set(pickles._CONSTANTS) | set(pickles._ACTIONS) | {"PROTO", "FRAME", "STOP"}
    refused = {opcode.name for opcode in pickletools.opcodes} - handled
    assert refused == {
        *("EXT1", "EXT2", "EXT4", "NEWOBJ_EX", "NEXT_BUFFER", "OBJ", "PERSID", "READONLY_BUFFER"),
    }
