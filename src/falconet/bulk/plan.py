"""The blocks of a run that are still to be done, kept while they are: pictures are listed once."""

import pickle
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO

from falconet.bulk.blocks import Block
from falconet.core.errors import DataError

MEMORY = 64 * 2**20
"""Bytes, compressed, from which on a plan lies in a file of the system's temporary folder instead of in memory."""


class Plan:
    """Blocks that are put in, then taken out in the same order; memory does not grow with their number."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(MEMORY)  # noqa: SIM115  (closed by `close`)

    def put(self, block: Block) -> None:
        """One more. Raises DataError where the temporary folder is full."""
        data = zlib.compress(pickle.dumps(block, pickle.HIGHEST_PROTOCOL), 1)
        try:
            self._file.write(len(data).to_bytes(8, "big") + data)
        except OSError as error:
            raise DataError(
                f"{tempfile.gettempdir()}: the list of pictures cannot be kept there: {error.strerror or error}; let "
                "TMPDIR name a folder with more room"
            ) from error

    def blocks(self) -> Iterator[Block]:
        """All of them."""
        self._file.seek(0)
        while head := self._file.read(8):
            # A file without a name, which this process alone has written and can read.
            block: Block = pickle.loads(zlib.decompress(self._file.read(int.from_bytes(head, "big"))))
            yield block

    def close(self) -> None:
        """Let go of what it holds."""
        self._file.close()
