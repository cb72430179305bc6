"""Checkpoints of torch without torch: both containers, and what is refused."""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from falconet.core.errors import ModelError
from falconet.zoo.formats.pickles import arrays
from falconet.zoo.formats.torch_files import read_checkpoint
from tests.zoo import files
from tests.zoo.shared import CHECKPOINT, need


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.ckpt"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_equals_torch(tmp_path: Path, zipped: bool) -> None:
    path = write(tmp_path, files.torch_checkpoint(zipped=zipped))
    tree = read_checkpoint(path)
    expected = torch.load(path, weights_only=True)
    assert tree["epoch"] == 3
    assert tree["optimizer_states"] == expected["optimizer_states"]
    found = arrays(tree["state_dict"], "x", limit=10_000)
    assert list(found) == list(expected["state_dict"])
    for key, value in expected["state_dict"].items():
        wide = value.float() if value.dtype == torch.bfloat16 else value
        np.testing.assert_array_equal(found[key], wide.numpy())
        assert found[key].shape == tuple(value.shape)


def test_parameters_numbers_and_lightning_callbacks(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    layer = torch.nn.Linear(3, 2)
    torch.save({"weight": layer.weight, "score": np.float64(0.25), "size": torch.Size([3, 4])}, path)
    tree = read_checkpoint(path)
    np.testing.assert_array_equal(arrays(tree, "x", limit=1000)["weight"], layer.weight.detach().numpy())
    assert tree["score"] == 0.25
    assert tree["size"] == (3, 4)


def test_the_real_checkpoint_equals_torch() -> None:
    need(CHECKPOINT)
    found = arrays(read_checkpoint(CHECKPOINT)["state_dict"], "x", limit=CHECKPOINT.stat().st_size)
    expected = torch.load(CHECKPOINT, weights_only=True)["state_dict"]
    assert list(found) == list(expected)
    assert all(np.array_equal(found[key], value.numpy()) for key, value in expected.items())


class Runs:
    """Makes a folder when unpickled by Python."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_program_inside_is_refused_by_name_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    mark = tmp_path / "it-ran"
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": Runs(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match=r"model\.ckpt: asks for '(posix|nt)\.mkdir', .*refused, nothing was run"):
        read_checkpoint(path)
    assert not mark.exists()


def test_zip_bomb(tmp_path: Path) -> None:
    data = files.rezip(files.torch_checkpoint(), {"data/0": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert len(data) < 100_000
    with pytest.raises(ModelError, match="has compressed members"):
        read_checkpoint(write(tmp_path, data))


def test_members_that_overlap(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/data/0", bytes(1000))
        entry = archive.infolist()[1]
        for index in range(50):
            twin = zipfile.ZipInfo(f"a/data/{index + 1}")
            twin.header_offset, twin.file_size, twin.compress_size, twin.CRC = (
                entry.header_offset,
                1000,
                1000,
                entry.CRC,
            )
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
    with pytest.raises(ModelError, match="claims members larger than the file"):
        read_checkpoint(write(tmp_path, stream.getvalue()))


def test_a_directory_beyond_all_files(tmp_path: Path) -> None:
    data = bytearray(files.torch_checkpoint())
    place = data.rindex(b"PK\x06\x06") + 48
    data[place : place + 8] = struct.pack("<Q", 0xFF << 56)
    with pytest.raises(ModelError, match="is a damaged zip archive"):
        read_checkpoint(write(tmp_path, bytes(data)))


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_anywhere(tmp_path: Path, zipped: bool) -> None:
    data = files.torch_checkpoint(zipped=zipped)
    for length in range(0, len(data), 41):
        with pytest.raises(ModelError, match=r"model\.ckpt: "):
            read_checkpoint(write(tmp_path, data[:length]))


@pytest.mark.parametrize("missing", [1, 9, 47])
def test_truncated_in_the_last_tensor(tmp_path: Path, missing: int) -> None:
    # Which tensor of several comes last depends on their addresses; this is the only one, of 48 bytes.
    import torch

    stream = io.BytesIO()
    torch.save({"w": torch.arange(12.0)}, stream, _use_new_zipfile_serialization=False)
    with pytest.raises(ModelError, match=r"model\.ckpt: is truncated in the tensor data '\d+': expected 48 bytes"):
        read_checkpoint(write(tmp_path, stream.getvalue()[:-missing]))


def test_tensor_data_of_another_length(tmp_path: Path) -> None:
    data = files.rezip(files.torch_checkpoint(), {"data/0": bytes(8)})
    tree = read_checkpoint(write(tmp_path, data))
    with pytest.raises(ModelError, match=r"x: 'model\.conv\.weight': tensor data '0': expected 432 bytes, found 8"):
        arrays(tree["state_dict"], "x", limit=10_000)


def _tensor(count: bytes, offset: bytes, shape: bytes, strides: bytes, *, key: bytes = b"0") -> bytes:
    """The pickle of {"w": tensor} with numbers of our choice, as torch writes it."""
    text = b"X" + struct.pack("<I", len(key)) + key
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n" + text + b"X\x03\x00\x00\x00cpu" + count + b"tQ"
    arguments = b"(" + storage + offset + b"(" + shape + b"t(" + strides + b"t\x89ccollections\nOrderedDict\n)Rt"
    return b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def _number(value: int) -> bytes:
    return pickle.dumps(value, protocol=2)[2:-1]


@pytest.mark.parametrize(
    ("count", "offset", "shape", "strides", "message"),
    [
        (6, 0, (2, 3), (3, 1), None),
        (6, 1, (2, 3), (3, 1), "does not fit its data"),
        (6, 0, (2, 3), (4, 1), "does not fit its data"),
        (6, 0, (1000, 1000), (0, 0), "does not fit its data"),
        (6, 0, (2, 3), (-3, 1), "is not a short list of whole numbers"),
        (6, -1, (2, 3), (3, 1), "is not a short list of whole numbers"),
        (6, 0, (-2, -3), (3, 1), "is not a short list of whole numbers"),
        (6, 0, (2**47, 2**47), (1, 1), "does not fit its data"),
        (6, 0, (2**70,), (1,), "is not a short list of whole numbers"),
        (6, 0, (2, 3), (1,), "another number of strides"),
        (2**40, 0, (2**40,), (1,), "expected 4398046511104 bytes, found 24"),
        (-6, 0, (2, 3), (3, 1), "refers to data in a way that is not known"),
        (6, 0, (0, 2**47), (1, 1), "is absurd"),
    ],
)
def test_shapes_and_strides(
    tmp_path: Path, count: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], message: str | None
) -> None:
    sides = [b"".join(_number(v) for v in values) for values in (shape, strides)]
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", _tensor(_number(count), _number(offset), *sides))
        archive.writestr("a/data/0", np.arange(6, dtype="<f4").tobytes())
    path = write(tmp_path, stream.getvalue())
    if message is None:
        assert arrays(read_checkpoint(path), "x", limit=100)["w"].tolist() == [[0, 1, 2], [3, 4, 5]]
        return
    with pytest.raises(ModelError, match=message):
        arrays(read_checkpoint(path), "x", limit=100)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is not a checkpoint of torch: it starts with b''"),
        (b"GIF89a", r"is not a checkpoint of torch: it starts with b'GIF8'"),
        (pickle.dumps([1, 2], protocol=2), "is a pickle, but not one of torch.save"),
        (b"PK\x03\x04" + bytes(100), "is a damaged zip archive"),
    ],
)
def test_other_files(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_checkpoint(write(tmp_path, data))


def test_a_torchscript_program_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", pickle.dumps({}))
        archive.writestr("m/constants.pkl", pickle.dumps(()))
    with pytest.raises(ModelError, match="is a TorchScript program; expected weights saved with"):
        read_checkpoint(path)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ModelError, match=r"holds 0 entries named data\.pkl"):
        read_checkpoint(path)


def test_missing_data_and_big_endian(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/data.pkl", _tensor(b"K\x06", b"K\x00", b"K\x06", b"K\x01", key=b"9"))
    with pytest.raises(ModelError, match=r"the tensor data 'a/data/9' are missing"):
        read_checkpoint(write(tmp_path, stream.getvalue()))
    with pytest.raises(ModelError, match="big-endian"):
        read_checkpoint(write(tmp_path, files.rezip(files.torch_checkpoint(), {"byteorder": b"big"})))


def test_reading_needs_no_torch() -> None:
    modules = "falconet.zoo.formats.torch_files, falconet.zoo.nanodet.ncnn_to_onnx"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
