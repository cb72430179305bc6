"""Checkpoints of torch (`.ckpt`, `.pth`, `.pt`) as NumPy arrays, without torch and without running them.

Two containers are read: the zip archive (torch 1.6 and later) and the older row of pickles followed by raw
data. See `pickles` for how the pickle inside is kept from doing anything.
"""

import io
import re
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from falconet.core.errors import ModelError
from falconet.zoo.formats.pickled_values import Name, Storage
from falconet.zoo.formats.pickles import arrays, read_pickle

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_CODES = {
    "Float": "<f4",
    "Double": "<f8",
    "Half": "<f2",
    "BFloat16": "bf16",
    "Long": "<i8",
    "Int": "<i4",
    "Short": "<i2",
    "Char": "|i1",
    "Byte": "|u1",
    "Bool": "|b1",
}


class _Storages:
    """The storages a pickle refers to, each once."""

    def __init__(self) -> None:
        self.by_key: dict[str, Storage] = {}

    def __call__(self, reference: Any) -> Storage:
        """The storage of a reference ("storage", type, key, device, count, ...)."""
        if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
            raise ModelError("refers to data in a way that is not known")
        _, kind, key, _, count = reference[:5]
        match = re.fullmatch(r"torch\.(?:storage\.)?(\w+)Storage", kind.text) if isinstance(kind, Name) else None
        if match is None or match[1] not in _CODES:
            found = ascii(kind.text[:80]) if isinstance(kind, Name) else "something else"
            raise ModelError(f"stores numbers as {found}; expected one of {', '.join(_CODES)}")
        if not isinstance(key, str) or type(count) is not int or not 0 <= count < 2**48:
            raise ModelError("refers to data in a way that is not known")
        if len(reference) > 5 and reference[5] is not None:
            raise ModelError("holds a view of a storage; save the checkpoint again with torch 1.6 or later")
        storage = self.by_key.setdefault(key, Storage(key, _CODES[match[1]], count))
        if storage.code != _CODES[match[1]] or storage.count != count:
            raise ModelError(f"describes the data {key[:40]!a} in two ways")
        return storage


def read_checkpoint(path: Path) -> Any:
    """What `torch.load` would return, as plain values; tensors are `pickles.Lazy` (see `pickles.arrays`).

    Raises:
        ModelError: unreadable, damaged, no checkpoint, or it asks for something that is not on the list.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error}") from error
    if data[:2] == b"PK":
        return _read_zip(data, str(path))
    if data[:1] == b"\x80":
        return _read_legacy(data, str(path))
    raise ModelError(
        f"{path}: is not a checkpoint of torch: it starts with {data[:4]!r}, expected a zip archive or a pickle"
    )


def _read_zip(data: bytes, name: str) -> Any:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _read_members(archive, name, len(data))
    except (
        zipfile.BadZipFile,
        struct.error,
        OSError,
        ValueError,
        EOFError,
        NotImplementedError,
        RuntimeError,
        OverflowError,  # a place above 2^63
    ) as error:
        raise ModelError(f"{name}: is a damaged zip archive ({error})") from error


def _read_members(archive: zipfile.ZipFile, name: str, size: int) -> Any:
    members = {info.filename: info for info in archive.infolist()}
    if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
        raise ModelError(f"{name}: has compressed members; torch stores them as they are, so this is no checkpoint")
    if sum(info.file_size for info in members.values()) > size:
        raise ModelError(f"{name}: claims members larger than the file")
    pickled = [member for member in members if member == "data.pkl" or member.endswith("/data.pkl")]
    if len(pickled) != 1:
        raise ModelError(f"{name}: holds {len(pickled)} entries named data.pkl; expected one, as torch.save writes")
    root = pickled[0].removesuffix("data.pkl")
    if f"{root}constants.pkl" in members:
        raise ModelError(f"{name}: is a TorchScript program; expected weights saved with torch.save")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise ModelError(f"{name}: was written on a big-endian machine, which is not supported")
    storages = _Storages()
    tree = read_pickle(io.BytesIO(archive.read(pickled[0])), name, persistent=storages)
    for key, storage in storages.by_key.items():
        member = f"{root}data/{key}"
        if member not in members:
            raise ModelError(f"{name}: the tensor data {member[:80]!a} are missing")
        storage.data = archive.read(member)
    return tree


def _read_legacy(data: bytes, name: str) -> Any:
    stream = io.BytesIO(data)
    if read_pickle(stream, name) != _LEGACY_MAGIC:
        raise ModelError(f"{name}: is a pickle, but not one of torch.save")
    if read_pickle(stream, name) != 1001:
        raise ModelError(f"{name}: was written by a version of torch that is not known")
    system = read_pickle(stream, name)
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise ModelError(f"{name}: was written on a big-endian machine, which is not supported")
    storages = _Storages()
    tree = read_pickle(stream, name, persistent=storages)
    order = read_pickle(stream, name)
    if not isinstance(order, list):
        raise ModelError(f"{name}: is damaged, the list of its tensor data is missing")
    for key in order:
        storage = storages.by_key.get(key) if isinstance(key, str) else None
        header = stream.read(8)
        if storage is None or len(header) < 8:
            raise ModelError(f"{name}: is damaged or truncated in the tensor data")
        if struct.unpack("<q", header)[0] != storage.count:
            raise ModelError(f"{name}: is damaged: tensor data {key[:40]!a} have another length than announced")
        size = storage.count * storage.item
        storage.data = stream.read(size)
        if len(storage.data) < size:
            raise ModelError(f"{name}: is truncated in the tensor data {key[:40]!a}: expected {size} bytes")
    if stream.read(1):
        raise ModelError(f"{name}: has bytes left over after the last tensor")
    return tree


@dataclass(frozen=True, slots=True)
class Chosen:
    """The weights to import from a checkpoint, under the original's names.

    Attributes:
        state: without prefixes.
        note: which of several sets of weights it is; empty where there is one only.
    """

    state: dict[str, NDArray[Any]]
    note: str


def choose_weights(tree: Any, name: str, *, limit: int) -> Chosen:
    """The weights in what a checkpoint holds: the moving average where there is one, as the original detects with it.

    Raises:
        ModelError: there are no tensors where they should be.
    """
    if not isinstance(tree, dict):
        raise ModelError(f"{name}: expected a mapping with a state_dict, but found a {type(tree).__name__}")
    inner = next((tree[key] for key in ("state_dict", "model", "net") if isinstance(tree.get(key), dict)), tree)
    state = {key.removeprefix("module."): value for key, value in arrays(inner, name, limit=limit).items()}
    if not state:
        raise ModelError(f"{name}: holds no tensors; its entries are {', '.join(str(k)[:30] for k in list(tree)[:8])}")
    average = _below(state, "avg_model.")
    model = _below(state, "model.") or {k: v for k, v in state.items() if not k.startswith("avg_model.")}
    if average and all(key in average for key in model):
        return Chosen(
            average, "the moving average of the weights was taken (avg_model), as the original detects with it"
        )
    if average:
        return Chosen(model, f"the moving average is incomplete ({len(average)} tensors) and was left out")
    return Chosen(model, "")


def _below(state: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    found = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    return {key.removeprefix("module."): value for key, value in found.items()}
