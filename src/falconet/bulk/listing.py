"""Which pictures are meant: folders, globs, lists, COCO JSON, Parquet, tar; as a stream of blocks."""

import glob
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from falconet.bulk.ahead import AT_ONCE
from falconet.bulk.blocks import PICTURES, WHOLE, Block, Cells, Cutter, Part, Place
from falconet.bulk.storage import File, Storage, is_remote, join, storage
from falconet.core.errors import ConfigError, DataError
from falconet.core.images import READABLE
from falconet.core.in_order import in_order
from falconet.core.suggest import did_you_mean
from falconet.core.tar_members import PACKED, tar_members

_log = logging.getLogger(__name__)

TABLE, SHARD, LIST, COCO = ".parquet", ".tar", ".txt", ".json"
PATHS = ("path", "file", "file_name", "filename", "source", "image", "url")
"""Names of columns that are taken for paths, where several could be meant."""

BUFFER = 2**20
"""Bytes of a tar in object storage that its listing asks for at once."""


@dataclass
class Sources:
    """The pictures of a run; each round through `blocks` lists them anew.

    Attributes:
        arguments: each a picture, a folder (all below it), a glob, a text list (`.txt`, a path per line), a COCO JSON,
            a Parquet file, a WebDataset tar; on this machine or an address such as `s3://bucket/folder`.
        images: folder that the paths in lists start from; None: that of the list.
        column: of Parquet files; None: the one that holds pictures or paths.
        leave_out: folder whose files are not listed, that of the results.
        pictures: of a block, on average.
        part: that is wanted; tars of other parts are not looked into.
        skipped: tars of other parts, counted by the last round.
        others: files that are neither pictures nor anything else that is read, counted by the last round.
    """

    arguments: Sequence[str]
    images: str | None = None
    column: str | None = None
    leave_out: str = ""
    pictures: int = PICTURES
    part: Part = WHOLE
    others: int = field(default=0, init=False)
    skipped: int = field(default=0, init=False)

    def blocks(self) -> Iterator[Block]:
        """The blocks of all pictures, in order.

        Raises:
            DataError: no such file, a list that cannot be read, no pictures.
            ConfigError: a Parquet file without such a column.
            StorageError: a storage that cannot be reached.
        """
        if not self.arguments:
            raise DataError(
                "nothing to detect in; expected a folder, a glob, a list, a COCO JSON, Parquet or tar files"
            )
        cutter = Cutter(self.pictures)
        self.others = self.skipped = 0
        for argument in self.arguments:
            count, skipped = 0, self.skipped
            for block in self._blocks(argument, cutter):
                count += block.count
                yield block
            if not count and skipped == self.skipped:
                raise DataError(f"{argument}: has no pictures; expected files ending in {', '.join(sorted(READABLE))}")

    def _blocks(self, argument: str, cutter: Cutter) -> Iterator[Block]:
        """Pictures that follow one another are cut together; tars and tables by themselves."""
        waiting: list[File] = []

        def pictures(first: File, rest: Iterator[File]) -> Iterator[Place]:
            yield Place(first.path, first.path, state=first.state)
            for file in rest:
                if not _is_picture(file.path):
                    waiting.append(file)
                    return
                yield Place(file.path, file.path, state=file.state)

        files = self._files(argument)
        while (file := waiting.pop() if waiting else next(files, None)) is not None:
            if file.path.lower().endswith(SHARD) and not self.part.has_file(file.path):
                self.skipped += 1
            elif (expand := self._expand(file.path)) is not None:
                yield from expand(file, cutter)
            else:
                yield from cutter.cut(pictures(file, files))

    def _expand(self, path: str) -> "Callable[[File, Cutter], Iterator[Block]] | None":
        """What takes the file apart; None for a picture."""
        rows = {TABLE: self._table, SHARD: _shard, LIST: self._list, COCO: self._coco}
        return rows.get(PurePosixPath(path).suffix.lower())

    def _files(self, argument: str) -> Iterator[File]:
        """The files an argument stands for: of folders and globs pictures, tars and tables; a named one in any case."""
        where = storage(argument)
        if (file := where.find(argument)) is not None:
            if argument.lower().endswith(PACKED):
                raise DataError(
                    f"{argument}: is compressed, so no picture of it can be read by itself; unpack it to .tar"
                )
            yield file
        elif where.is_folder(argument):
            yield from self._taken(where.walk(argument))
        elif glob.has_magic(argument):
            yield from self._taken(_matching(where, argument))
        else:
            raise DataError(
                f"{argument}: no such file or folder; expected a folder, a glob, a list, Parquet or tar files"
            )

    def _taken(self, files: Iterator[File]) -> Iterator[File]:
        for file in files:
            is_table = file.path.lower().endswith(TABLE)
            if is_table and self.leave_out and _below(file.path, self.leave_out):
                continue
            if is_table or _is_picture(file.path) or file.path.lower().endswith(SHARD):
                yield file
            else:
                self.others += 1

    def _listed(self, names: Iterator[str], owner: str) -> Iterator[Place]:
        """Places of paths in a list; one that is missing stays, and gets a row with its error."""
        folder = self.images if self.images is not None else owner.rpartition("/")[0]

        def place(name: str) -> Place:
            path = name if is_remote(name) or name.startswith("/") or Path(name).is_absolute() else join(folder, name)
            path = plain(path)
            found = storage(path).find(path)
            return Place(path, path, state="" if found is None else found.state)

        first = next(names, None)
        if first is None:
            return iter(())
        again = chain([first], names)
        if is_remote(first) or is_remote(folder):
            return in_order(place, again, threads=AT_ONCE, ahead=2 * AT_ONCE, name="falconet-ask")
        return map(place, again)

    def _list(self, file: File, cutter: Cutter) -> Iterator[Block]:
        def lines() -> Iterator[str]:
            with storage(file.path).open(file.path) as stream:
                for number, line in enumerate(iter(stream.readline, b""), start=1):
                    try:
                        text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
                    except UnicodeDecodeError as error:
                        raise DataError(f"{file.path}:{number}: is not UTF-8; expected a path per line") from error
                    if text:
                        yield text

        yield from cutter.cut(self._listed(lines(), file.path))

    def _coco(self, file: File, cutter: Cutter) -> Iterator[Block]:
        try:
            tree = json.loads(storage(file.path).read(file.path))
            names = [str(one["file_name"]) for one in tree["images"]]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file.path}: is not COCO JSON; expected {{'images': [{{'file_name': ...}}]}} ({error!r})"
            ) from error
        yield from cutter.cut(self._listed(iter(names), file.path))

    def _table(self, file: File, cutter: Cutter) -> Iterator[Block]:
        from pyarrow import ArrowException, parquet

        try:
            with storage(file.path).open(file.path) as stream, parquet.ParquetFile(stream) as table:
                column, encoded = _column(file.path, table.schema_arrow, self.column)
                counts = [table.metadata.row_group(one).num_rows for one in range(table.num_row_groups)]
                if not encoded:
                    yield from cutter.cut(self._listed(_paths(file.path, table, column), file.path))
                    return
        except (ArrowException, OSError) as error:
            raise DataError(f"{file.path}: cannot be read as Parquet: {error}") from error
        first = 0
        for group, count in enumerate(counts):
            if count:
                yield cutter.group(Cells(file.path, group, column, first, count), file.state)
            first += count


def plain(path: str) -> str:
    """A path of this machine without `./`, `a/../` and a slash at its end; addresses stay as they are."""
    return path if not path or is_remote(path) else os.path.normpath(path).replace(os.sep, "/")


def _shard(file: File, cutter: Cutter) -> Iterator[Block]:
    """The pictures of a WebDataset tar; whatever else belongs to its samples is left out.

    Of one that is damaged, those before the damage, and in the end a place for the tar itself, with what is wrong.
    """

    def members() -> Iterator[Place]:
        try:
            with _headers(file.path) as stream:
                for member in tar_members(stream, file.path):
                    if _is_picture(member.name):
                        name = f"{file.path}/{member.name.removeprefix('./')}"
                        yield Place(name, file.path, member.start, member.size, file.state)
        except DataError as error:  # a row says so, as of a picture; one tar of thousands does not end a run
            _log.warning("%s", error)
            yield Place(file.path, file.path, 0, 0, file.state, str(error))

    yield from cutter.cut(members())


def _headers(path: str) -> BinaryIO:
    """A tar to look for headers in: far away a request for each would take longer than all that lies between them."""
    stream = storage(path).open(path)
    return io.BufferedReader(stream, BUFFER) if is_remote(path) else stream  # type: ignore[type-var]


def _matching(where: Storage, pattern: str) -> Iterator[File]:
    if not is_remote(pattern):
        # pathlib's own glob takes no absolute patterns.
        for path in sorted(glob.iglob(pattern, recursive=True)):  # noqa: PTH207
            if (file := where.find(path)) is not None:
                yield file
        return
    folder = pattern[: re.search(r"[*?\[]", pattern).start()].rpartition("/")[0]  # type: ignore[union-attr]
    wanted = re.compile(translate(pattern))
    yield from (file for file in where.walk(folder) if wanted.match(file.path))


def _below(path: str, folder: str) -> bool:
    """Whether a file lies in a folder or below it, whatever both are written like."""
    if is_remote(path) or is_remote(folder):
        return path.startswith(folder.rstrip("/") + "/")
    return os.path.abspath(path).startswith(os.path.join(os.path.abspath(folder), ""))  # noqa: PTH100, PTH118


def _is_picture(path: str) -> bool:
    return PurePosixPath(path).suffix.lower() in READABLE


def _paths(path: str, table: Any, column: str) -> Iterator[str]:
    row = 0
    for batch in table.iter_batches(columns=[column]):
        for value in batch.column(0).to_pylist():
            if value is None:
                raise DataError(f"{path}#{row}: column '{column}' has no path there; leave the row out")
            yield value
            row += 1


def _column(path: str, schema: Any, wanted: str | None) -> tuple[str, bool]:
    """The column with pictures or paths, and whether it is pictures."""
    from pyarrow import types

    def is_picture(kind: Any) -> bool:
        if types.is_struct(kind):
            return any(one.name == "bytes" and is_picture(one.type) for one in kind)
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def is_path(kind: Any) -> bool:
        return bool(types.is_string(kind) or types.is_large_string(kind))

    able = {one.name: is_picture(one.type) for one in schema if is_picture(one.type) or is_path(one.type)}
    if wanted is not None:
        if wanted not in schema.names:
            raise ConfigError(
                f"--column {wanted}: {path} has no such column; {did_you_mean(wanted, schema.names)}".removesuffix("; ")
                + f" (it has {', '.join(schema.names)})"
            )
        if wanted not in able:
            kind = schema.field(wanted).type
            raise ConfigError(
                f"--column {wanted}: {path} has {kind} there; expected paths, or the bytes of picture files"
            )
        return wanted, able[wanted]
    encoded = [name for name, one in able.items() if one]
    named = [name for name in able if name.lower() in PATHS]
    for found in (encoded, list(able) if len(able) == 1 else named):
        if len(found) == 1:
            return found[0], able[found[0]]
    raise ConfigError(
        f"{path}: which column has the pictures? Name it with --column, one of {', '.join(able) or 'none'}: paths, or "
        "the bytes of picture files"
    )
