"""Records of a data set as an Arrow table on disk, which is mapped and never read as a whole.

The file is one of Arrow's IPC format, uncompressed, so that its columns are used where they lie: processes on one
machine share its pages, and a page that nobody looks at takes no memory. A row is a picture, with its boxes in columns
of lists; batches of `ROWS` rows. pyarrow is imported where a table is opened or written, and nowhere else.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from falconet.core.types import Floats, Ints, Record
from falconet.data.columns import BLOCK, Columns, LazyRecords
from falconet.data.usable_boxes import cut, usable

ROWS = 1 << 16
"""Pictures in each batch of a file but the last one."""

_HEAD = b"falconet"
"""Of the schema's metadata: JSON."""


class Rows(NamedTuple):
    """Some pictures with their boxes, as they are written.

    Attributes:
        ids: of the pictures.
        id_texts: the ids that are no 64-bit numbers as JSON, empty for others.
        paths: files, below a folder that is not part of the table.
        sizes: [R, 2] (height, width), -1 where unknown.
        starts: [R + 1] where the boxes of each begin, and the end.
        boxes: [N, 4] xyxy.
        labels, crowd, areas: [N]
        keys: [N] of the boxes.
        key_texts: those that are no 64-bit numbers as JSON, empty for others; None where all are.
    """

    ids: Ints
    id_texts: list[str]
    paths: list[str]
    sizes: NDArray[np.int32]
    starts: Ints
    boxes: Floats
    labels: NDArray[np.int32]
    crowd: NDArray[np.uint8]
    areas: Floats
    keys: Ints
    key_texts: list[str] | None


def write_table(path: Path, head: Mapping[str, Any], batches: Iterator[Rows], *, key_texts: bool) -> None:
    """Write a table of batches that have `ROWS` pictures, the last one fewer.

    Args:
        path: nothing is there.
        head: what JSON can hold of the whole.
        key_texts: whether batches have some.

    Raises:
        OSError: the file cannot be written.
    """
    import pyarrow as pa

    schema = pa.schema(
        [
            ("image_id", pa.int64()),
            ("image_id_text", pa.string()),
            ("path", pa.string()),
            ("height", pa.int32()),
            ("width", pa.int32()),
            ("boxes", pa.list_(pa.list_(pa.float32(), 4))),
            ("labels", pa.list_(pa.int32())),
            ("crowd", pa.list_(pa.uint8())),
            ("areas", pa.list_(pa.float32())),
            ("keys", pa.list_(pa.int64())),
            *([("key_texts", pa.list_(pa.string()))] if key_texts else []),
        ],
        {_HEAD: json.dumps(head)},
    )
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for rows in batches:
            starts = pa.array(rows.starts.astype(np.int32))
            corners = pa.FixedSizeListArray.from_arrays(
                pa.array(rows.boxes.reshape(-1)), type=schema.field("boxes").type.value_type
            )
            boxes = [corners, *map(pa.array, (rows.labels, rows.crowd, rows.areas, rows.keys))]
            if key_texts:
                boxes.append(pa.array(rows.key_texts or [""] * len(rows.keys), pa.string()))
            lists = [
                pa.ListArray.from_arrays(starts, values, type=schema.field(5 + place).type)
                for place, values in enumerate(boxes)
            ]
            texts = [pa.array(values, pa.string()) for values in (rows.id_texts, rows.paths)]
            sizes = [pa.array(rows.sizes[:, side]) for side in (0, 1)]
            writer.write_batch(pa.record_batch([pa.array(rows.ids), *texts, *sizes, *lists], schema=schema))


@dataclass(frozen=True, slots=True, eq=False)
class _Texts:
    """A column of texts."""

    starts: NDArray[np.int32]
    data: NDArray[np.uint8]

    def __getitem__(self, place: int) -> str:
        return self.data[self.starts[place] : self.starts[place + 1]].tobytes().decode()


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """The columns of a batch, where they lie in the mapped file."""

    ids: Ints
    id_texts: _Texts
    paths: _Texts
    height: NDArray[np.int32]
    width: NDArray[np.int32]
    starts: NDArray[np.int32]
    boxes: Floats
    labels: NDArray[np.int32]
    crowd: NDArray[np.uint8]
    areas: Floats
    keys: Ints
    key_texts: _Texts | None


class Table:
    """A mapped table. What pickles is its path: another process maps the same file.

    Attributes:
        path: of the file.
        head: what `write_table` was given.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, or ValueError where the file is no such table."""
        import pyarrow as pa

        self.path = path
        self._file = pa.memory_map(str(path))
        reader = pa.ipc.open_file(self._file)
        self.head: dict[str, Any] = json.loads(reader.schema.metadata[_HEAD])
        self._batches = [_mapped(reader.get_batch(number)) for number in range(reader.num_record_batches)]
        self._count = sum(len(batch.ids) for batch in self._batches)

    def __len__(self) -> int:
        return self._count

    def __reduce__(self) -> tuple[Any, ...]:
        return open_table, (self.path,)

    def place(self, row: int) -> tuple[_Batch, int]:
        """The batch of a row, and its place in that."""
        return self._batches[row // ROWS], row % ROWS

    def runs(self, rows: Ints) -> Iterator[tuple[_Batch, Ints]]:
        """Neighbouring rows of the same batch, by their places in it."""
        number = rows // ROWS
        begins = np.flatnonzero(np.diff(number, prepend=-1)).tolist()
        for begin, end in zip(begins, [*begins[1:], len(rows)], strict=True):
            yield self._batches[number[begin]], rows[begin:end] % ROWS


@lru_cache(maxsize=16)
def open_table(path: Path) -> Table:
    """The table in a file, mapped once in a process; files are replaced under new names, never changed."""
    return Table(path)


class TableRecords(LazyRecords):
    """Records of a table, or some of them; see `falconet.data.columns.LazyRecords`.

    Args:
        table: where they lie.
        folder: below which the pictures lie.
        source: the annotation file, for messages.
        rows: [R] which of the table's; None: all.
        sizes: [T, 2] (height, width) of the files of all rows of the table, to which boxes are cut; boxes of which
            nothing is left go. None: boxes and sizes are those of the annotations.
        to_new: [C] the label that each of the table's becomes, -1 for boxes that go; None: labels stay.
    """

    def __init__(
        self,
        table: Table,
        folder: Path,
        source: str,
        *,
        rows: NDArray[np.int32] | None = None,
        sizes: NDArray[np.int32] | None = None,
        to_new: Ints | None = None,
    ) -> None:
        self.table, self.folder, self.source = table, folder, source
        self._rows, self._sizes, self._to_new = rows, sizes, to_new

    def __len__(self) -> int:
        return len(self.table) if self._rows is None else len(self._rows)

    @property
    def rows(self) -> NDArray[np.int32]:
        """[R] The row of each in the table."""
        return np.arange(len(self.table), dtype=np.int32) if self._rows is None else self._rows

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.table, self.folder, self.source, self._rows, self._sizes, self._to_new)

    def record(self, place: int) -> Record:
        row = self._row(place)
        batch, inside = self.table.place(row)
        first, end = int(batch.starts[inside]), int(batch.starts[inside + 1])
        every = Columns(
            batch.boxes[first:end],
            batch.labels[first:end].astype(np.int64),
            batch.crowd[first:end].astype(np.bool_),
            np.array([0, end - first]),
            self._sizes_of(batch, np.array([inside]), np.array([row])),
        )
        chosen, kept = self._changed(every)
        height, width = every.sizes[0].tolist()
        keys: list[int | str] = batch.keys[first:end][kept].tolist()
        if batch.key_texts is not None:
            texts = [batch.key_texts[first + index] for index in np.flatnonzero(kept).tolist()]
            keys = [json.loads(text) if text else key for text, key in zip(texts, keys, strict=True)]
        image_id = json.loads(text) if (text := batch.id_texts[inside]) else int(batch.ids[inside])
        return Record(
            image_id=image_id,
            path=self.folder / batch.paths[inside],
            width=None if width < 0 else width,
            height=None if height < 0 else height,
            boxes=np.array(chosen.boxes),
            labels=chosen.labels,
            crowd=chosen.crowd,
            areas=batch.areas[first:end][kept],
            source=f"{self.source} (image {image_id})",
            box_keys=tuple(keys),
        )

    def take(self, places: Ints) -> "TableRecords":
        return self._with(rows=(places if self._rows is None else self._rows[places]).astype(np.int32))

    def relabelled(self, to_new: Ints) -> "TableRecords":
        old = self._to_new
        return self._with(to_new=to_new if old is None else np.where(old < 0, -1, to_new[old]))

    def cut_to(self, sizes: NDArray[np.int32]) -> "TableRecords":
        """Those with the sizes of files, [T, 2] for all rows of the table; boxes are cut to them."""
        return self._with(sizes=sizes)

    def columns(self) -> Iterator[Columns]:
        for start in range(0, len(self), BLOCK):
            rows = self._chosen(start, start + BLOCK)
            for batch, inside in self.table.runs(rows):
                lengths = batch.starts[inside + 1] - batch.starts[inside]
                starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
                index = np.repeat(batch.starts[inside] - starts[:-1], lengths) + np.arange(starts[-1])
                every = Columns(
                    batch.boxes[index],
                    batch.labels[index].astype(np.int64),
                    batch.crowd[index].astype(np.bool_),
                    starts,
                    self._sizes_of(batch, inside, rows[: len(inside)]),
                )
                rows = rows[len(inside) :]
                yield self._changed(every)[0]

    def paths(self) -> Iterator[Path]:
        for start in range(0, len(self), BLOCK):
            for batch, inside in self.table.runs(self._chosen(start, start + BLOCK)):
                for place in inside.tolist():
                    yield self.folder / batch.paths[place]

    def _row(self, place: int) -> int:
        return place if self._rows is None else int(self._rows[place])

    def _chosen(self, start: int, end: int) -> Ints:
        if self._rows is None:
            return np.arange(start, min(end, len(self)))
        return self._rows[start:end].astype(np.int64)

    def _sizes_of(self, batch: _Batch, inside: Ints, rows: Ints) -> Ints:
        """[R, 2] (height, width) as annotated, or those of the files."""
        if self._sizes is not None:
            return self._sizes[rows].astype(np.int64)
        return np.stack([batch.height[inside], batch.width[inside]], 1).astype(np.int64)

    def _changed(self, every: Columns) -> tuple[Columns, NDArray[np.bool_]]:
        """The columns with boxes cut and labels changed, and which boxes [N] stay."""
        boxes, labels = every.boxes, every.labels
        kept = np.ones(len(boxes), np.bool_)
        if self._sizes is not None and len(boxes):
            kept = usable(boxes, every.limits)
            # What is not finite goes anyway.
            boxes = cut(np.where(kept[:, None], boxes, 0), every.limits)
        if self._to_new is not None:
            labels = self._to_new[labels]
            kept = kept & (labels >= 0)
        if kept.all():
            return every._replace(boxes=boxes, labels=labels), kept
        starts = np.concatenate([[0], np.cumsum(kept)])[every.starts]
        return Columns(boxes[kept], labels[kept], every.crowd[kept], starts, every.sizes), kept

    def _with(self, **changed: Any) -> "TableRecords":
        same = {"rows": self._rows, "sizes": self._sizes, "to_new": self._to_new}
        return TableRecords(self.table, self.folder, self.source, **(same | changed))


def _again(table: Table, folder: Path, source: str, rows: Any, sizes: Any, to_new: Any) -> TableRecords:
    return TableRecords(table, folder, source, rows=rows, sizes=sizes, to_new=to_new)


def _mapped(batch: Any) -> _Batch:
    """The columns of a batch of pyarrow's as arrays that share its memory."""
    column = {name: batch.column(name) for name in batch.schema.names}
    lists = {name: column[name].values.to_numpy(zero_copy_only=True) for name in ("labels", "crowd", "areas", "keys")}
    plain = {name: column[name].to_numpy(zero_copy_only=True) for name in ("image_id", "height", "width")}
    return _Batch(
        plain["image_id"],
        _texts(column["image_id_text"]),
        _texts(column["path"]),
        plain["height"],
        plain["width"],
        column["boxes"].offsets.to_numpy(zero_copy_only=True),
        column["boxes"].values.values.to_numpy(zero_copy_only=True).reshape(-1, 4),
        **lists,
        key_texts=_texts(column["key_texts"].values) if "key_texts" in column else None,
    )


def _texts(array: Any) -> _Texts:
    _, starts, data = array.buffers()
    empty = np.zeros(0, np.uint8)
    return _Texts(np.frombuffer(starts, np.int32), empty if data is None else np.frombuffer(data, np.uint8))
