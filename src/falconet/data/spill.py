"""Columns that are too long for memory, written to a folder piece by piece and mapped when they are complete."""

import json
from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PIECE = 1 << 20


class Spill:
    """Columns of numbers in a folder.

    Args:
        folder: exists; whoever made it removes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, Any] = {}

    def write(self, name: str, values: NDArray[Any]) -> None:
        """Append to a column."""
        if name not in self._files:
            self._files[name] = (self._folder / name).open("wb")
        values.tofile(self._files[name])

    def column(self, name: str, kind: Any, width: int = 1) -> NDArray[Any]:
        """[N], or [N, width], as it was written; nothing can be appended any more."""
        if name not in self._files:
            return np.zeros((0, width) if width > 1 else 0, kind)
        self._files[name].close()
        path = self._folder / name
        if not path.stat().st_size:
            return np.zeros((0, width) if width > 1 else 0, kind)
        values: NDArray[Any] = np.memmap(path, kind, "r")
        return values.reshape(-1, width) if width > 1 else values

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()


class SpiltTexts:
    """A column of texts, most of them empty: as long as all are, nothing is written."""

    def __init__(self, spill: Spill, name: str) -> None:
        self._spill, self._name = spill, name
        self._count, self._end = 0, 0
        self._ends: NDArray[np.int64] | None = None
        self._data: NDArray[np.uint8] | None = None

    def __bool__(self) -> bool:
        return self._end > 0

    def write(self, texts: list[str]) -> None:
        """Append some."""
        if any(texts):
            if not self._end:
                for start in range(0, self._count, _PIECE):
                    self._spill.write(f"{self._name}.ends", np.zeros(min(_PIECE, self._count - start), np.int64))
            data = [text.encode() for text in texts]
            ends = self._end + np.cumsum([len(text) for text in data], dtype=np.int64)
            self._spill.write(f"{self._name}.data", np.frombuffer(b"".join(data), np.uint8))
            self._end = int(ends[-1])
            self._spill.write(f"{self._name}.ends", ends)
        elif self._end:
            self._spill.write(f"{self._name}.ends", np.full(len(texts), self._end, np.int64))
        self._count += len(texts)

    def present(self, start: int, end: int) -> NDArray[np.bool_]:
        """[end - start] Which texts from start to end are not empty."""
        if not self._end:
            return np.zeros(end - start, np.bool_)
        ends, _ = self._mapped()
        before = int(ends[start - 1]) if start else 0
        return np.asarray(np.diff(ends[start:end], prepend=before) > 0)

    def __getitem__(self, place: int) -> str:
        if not self._end:
            return ""
        ends, data = self._mapped()
        return data[int(ends[place - 1]) if place else 0 : int(ends[place])].tobytes().decode()

    def _mapped(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        if self._ends is None or self._data is None:
            self._ends = self._spill.column(f"{self._name}.ends", np.int64)
            self._data = self._spill.column(f"{self._name}.data", np.uint8)
        return self._ends, self._data


class Texts:
    """Many texts in memory, without an object for each."""

    def __init__(self) -> None:
        self._data, self._ends = bytearray(), array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        return (self[place] for place in range(len(self)))

    def append(self, text: str) -> None:
        """Add one."""
        self._data += text.encode(errors="surrogatepass")
        self._ends.append(len(self._data))

    def __getitem__(self, place: int) -> str:
        return self._data[self._ends[place] : self._ends[place + 1]].decode(errors="surrogatepass")


class TextSet:
    """Which texts were put in, by 64 bits of each: of a billion texts, one in ten billion others is taken for one."""

    def __init__(self, hashes: Iterable[int]) -> None:
        self._hashes = np.unique(np.fromiter(hashes, np.int64))

    def __contains__(self, text: object) -> bool:
        place = int(np.searchsorted(self._hashes, hash(text)))
        return place < len(self._hashes) and int(self._hashes[place]) == hash(text)

    def union(self, *others: Iterable[str]) -> "TextSet":
        """With other texts."""
        found = TextSet(hash(text) for other in others for text in other)
        found._hashes = np.union1d(self._hashes, found._hashes)
        return found


def id_number(key: int | str) -> tuple[int, str]:
    """(number, text) of an id: text is empty where the id is a number of 64 bits, else JSON, with a hash as number."""
    if isinstance(key, int) and -(2**63) <= key < 2**63:
        return key, ""
    text = json.dumps(key)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True), text


def id_of(number: int, text: str) -> int | str:
    """The id that `id_number` took apart."""
    if not text:
        return int(number)
    key: int | str = json.loads(text)
    return key


def repeated(numbers: NDArray[np.int64], texts: SpiltTexts) -> NDArray[np.bool_]:
    """[N] Ids that stand before, too, given as `id_number` has them."""
    found = np.zeros(len(numbers), np.bool_)
    if len(numbers) < 2 or all(
        (numbers[start + 1 : start + _PIECE + 1] > numbers[start : start + _PIECE][: len(numbers) - start - 1]).all()
        for start in range(0, len(numbers) - 1, _PIECE)
    ):
        return found
    order = np.argsort(numbers, kind="stable")
    same = numbers[order[1:]] == numbers[order[:-1]]
    found[order[1:][same]] = True
    if texts:
        # Equal numbers may be hashes of different texts.
        ends = np.flatnonzero(~np.append(same, False))
        for begin, end in zip(np.append(0, ends[:-1] + 1).tolist(), ends.tolist(), strict=True):
            if end > begin:
                seen: set[str] = set()
                for place in order[begin : end + 1].tolist():
                    found[place] = texts[place] in seen
                    seen.add(texts[place])
    return found
