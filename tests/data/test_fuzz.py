"""Damaged annotations of every format end in a data set or in a sentence, never in anything else."""

import copy
import io
import json
import random
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from falconet.core.errors import DataError
from falconet.data.check import check_splits, open_splits
from falconet.data.dataset import Format
from falconet.data.fix import fix
from falconet.data.formats import FORMATS
from falconet.data.kinds import HINTS
from falconet.data.records import drop_invalid
from tests.data.test_formats import WRITE

ENDINGS = (".tar", ".json", ".xml", ".txt", ".csv", ".yaml", ".data", ".names")
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 2**70, "", "a", "\0", "\ud800", "x" * 5000, "/", "..",
    [], {}, [[]], [None], {"a": 1}, "1", [1, 2, 3, 4], ["1"],
)  # fmt: skip
BYTES = (b"\0", b"\xff", b"1e999", b"-", b",", b'"', b"<", b"\n", b"nan", b"&#0;", b"9" * 30, b"[" * 300)


def _places(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield (*place, key)
        yield from _places(tree[key], (*place, key))


def _other_values(tree: Any, rng: random.Random) -> Any:
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        places = list(_places(tree))
        if not places:
            break
        *way, last = rng.choice(places)
        parent = tree
        for key in way:
            parent = parent[key]
        if isinstance(parent, dict) and rng.random() < 0.2:
            del parent[last]
        else:
            parent[last] = copy.deepcopy(rng.choice(VALUES))
    return tree


def _other_bytes(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed) + 1)
        what = rng.random()
        if what < 0.4:
            changed[place : place + 1] = bytes([rng.randrange(256)])
        elif what < 0.6:
            del changed[place : place + rng.randint(1, 8)]
        else:
            changed[place:place] = rng.choice(BYTES)
    return bytes(changed)


def _damaged(file: Path, data: bytes, rng: random.Random) -> bytes:
    """Other values where the form is kept, else other bytes."""
    kept = rng.random() < 0.7
    if kept and file.suffix == ".json":
        return json.dumps(_other_values(json.loads(data), rng)).encode()
    if kept and file.suffix == ".tar":
        return _other_member(data, rng)
    return _other_bytes(data, rng)


def _other_member(data: bytes, rng: random.Random) -> bytes:
    """A tar of which one description is damaged."""
    written = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, tarfile.open(fileobj=written, mode="w") as new:
        members = old.getmembers()
        chosen = rng.choice([one for one in members if one.name.endswith(".json")])
        for member in members:
            content = old.extractfile(member).read()  # type: ignore[union-attr]  # all are files
            if member is chosen:
                content = _damaged(Path(member.name), content, rng)
                member.size = len(content)
            new.addfile(member, io.BytesIO(content))
    return written.getvalue()


def _read(root: Path) -> None:
    """All that is done with a data set; every text can be printed."""
    splits = open_splits(root)
    for problem in check_splits(splits, decode=False):
        str(problem).encode()
    for dataset in splits.values():
        for record in dataset.records:
            for index in range(len(record.boxes)):
                dataset.box_source(record, index).encode()
        "".join(dataset.names).encode()
        drop_invalid(dataset)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("count", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_annotations(tmp_path: Path, form: Format, count: int) -> None:
    rng = random.Random(form)
    root = tmp_path / "in"
    root.mkdir()
    WRITE[form](root)
    originals = {file: file.read_bytes() for file in sorted(root.rglob("*")) if file.suffix in ENDINGS}
    for _ in range(count):
        file = rng.choice(list(originals))
        file.write_bytes(_damaged(file, originals[file], rng))
        with suppress(DataError):
            _read(root)
        file.write_bytes(originals[file])


SOMETIMES = frozenset({"wrong-size", "duplicate-file", "shared-picture", "spelt-twice", "out-of-image"})
"""Kinds of which some problems are left to the user."""


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("count", [15, pytest.param(1000, marks=pytest.mark.slow)])
def test_damaged_annotations_are_repaired_or_refused(tmp_path: Path, form: Format, count: int) -> None:
    """A copy has no problem that the original has not, and none of those that were repaired."""
    rng = random.Random(f"{form} fix")
    root, out = tmp_path / "in", tmp_path / "out"
    root.mkdir()
    WRITE[form](root)
    originals = {file: file.read_bytes() for file in sorted(root.rglob("*")) if file.suffix in ENDINGS}
    for _ in range(count):
        file = rng.choice(list(originals))
        file.write_bytes(_damaged(file, originals[file], rng))
        with suppress(DataError):
            splits = open_splits(root)
            problems = check_splits(splits, decode=False)
            repaired = {one.kind for one in fix(splits, problems, out, decode=False).repairs}
            left = {problem.kind for problem in check_splits(open_splits(out), decode=False)} - HINTS
            assert left <= {problem.kind for problem in problems}
            assert not left & repaired - SOMETIMES
        assert {one.name for one in tmp_path.iterdir()} <= {"in", "out"}
        shutil.rmtree(out, ignore_errors=True)
        file.write_bytes(originals[file])
