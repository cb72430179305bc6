"""Which pictures a model learnt from, so that nobody takes figures on these for figures on new ones."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from falconet.core.errors import DataError
from falconet.core.tar_index import file_size
from falconet.core.types import Ints, Record
from falconet.data.columns import paths


def fingerprints(records: Sequence[Record]) -> Ints:
    """A number for the picture of each record, [N], from its file's name and size in bytes.

    It stays the same when the pictures move to another folder. A file that cannot be looked at gets the number of an
    empty one.
    """
    return np.fromiter(map(_fingerprint, paths(records)), np.int64, len(records))


def _fingerprint(path: Path) -> int:
    try:
        size = file_size(path)
    except (OSError, DataError):
        size = 0
    digest = hashlib.blake2b(f"{path.name}\0{size}".encode(errors="surrogateescape"), digest_size=8)
    return int.from_bytes(digest.digest(), "little", signed=True)
