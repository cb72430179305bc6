"""Large COCO files as tables on disk: the same records as those of the reader that holds the whole file."""

import json
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from falconet.core.errors import DataError
from falconet.core.lock import LOCK
from falconet.core.manifest import Preprocess
from falconet.core.types import Record
from falconet.data import annotation_tables, coco, coco_entries, coco_table, json_stream, problem_list, records, table
from falconet.data.anchors import widths_heights_in_input
from falconet.data.coco import read_coco
from falconet.data.columns import JoinedRecords, class_counts, classes_of, columns, paths
from falconet.data.dataset import DataSet
from falconet.data.fingerprint import fingerprints
from falconet.data.json_files import read_json
from falconet.data.records import drop_invalid
from falconet.data.spill import Spill, SpiltTexts, id_number, repeated
from falconet.data.subset import subset
from falconet.data.table import TableRecords
from falconet.training.run_data import train_val_split
from tests.data import test_coco
from tests.data.build import coco_tree, picture, write_coco


@pytest.fixture(autouse=True)
def tables(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    monkeypatch.setenv(annotation_tables.VARIABLE, str(folder))
    return folder


@pytest.fixture
def as_table(monkeypatch: pytest.MonkeyPatch) -> Callable[..., DataSet]:
    """Reads as a table, however small the file is; pieces and blocks are small, so that there are several."""
    monkeypatch.setattr(json_stream, "CHUNK", 64)
    monkeypatch.setattr(coco_table, "_BLOCK", 2)
    for module in (table, coco_table):
        monkeypatch.setattr(module, "ROWS", 2)

    def read(path: Path, images: Path | None = None) -> DataSet:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(coco, "LARGE", 0)
            return read_coco(path, images)

    return read


def _same(one: DataSet, other: DataSet) -> None:
    assert replace(one, records=()) == replace(other, records=())
    _same_records(one.records, other.records)


def _same_records(one: Any, other: Any) -> None:
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        _same_record(first, second)


def _same_record(one: Record, other: Record) -> None:
    for name in ("image_id", "path", "width", "height", "source", "box_keys"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours == theirs, name
        assert type(ours) is type(theirs), name
    assert [type(key) for key in one.box_keys] == [type(key) for key in other.box_keys]
    for name in ("boxes", "labels", "crowd", "areas"):
        ours, theirs = getattr(one, name), getattr(other, name)
        assert ours.dtype == theirs.dtype, name
        np.testing.assert_array_equal(ours, theirs, name)
        assert ours.flags.writeable


def _both(as_table: Callable[..., DataSet]) -> Callable[..., DataSet]:
    """Reads both ways, and compares what is read, or refused."""

    def read(path: Path, images: Path | None = None) -> DataSet:
        for made in annotation_tables.tables_folder().iterdir():  # what lies beside counts as it was then
            shutil.rmtree(made)
        whole, mapped = _read_or_refuse(read_coco, path, images), _read_or_refuse(as_table, path, images)
        if isinstance(whole, DataError) or isinstance(mapped, DataError):
            assert str(mapped) == str(whole)
            raise DataError(str(mapped))
        assert isinstance(mapped.records, TableRecords)
        _same(mapped, whole)
        return mapped

    return read


def _read_or_refuse(read: Callable[..., DataSet], path: Path, images: Path | None) -> DataSet | DataError:
    try:
        return read(path, images)
    except DataError as error:
        return error


@pytest.fixture(autouse=True)
def _read_both_ways(as_table: Callable[..., DataSet], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_coco, "read_coco", _both(as_table))


# All that the other reader is tested with is read both ways.
globals().update({name: test for name, test in vars(test_coco).items() if name.startswith("test_")})


PROBLEMS = [
    {"bbox": [70, 5, 10, 10]},
    {"bbox": [50, 5, 30, 10]},
    {"bbox": [-0.25, 0, 20, 10]},
    {"bbox": [5, 5, 0, 10]},
    {"bbox": [0.1, 0.1, 0.2, 0.2]},
    {"bbox": [1e39, 5, 5, 5]},
    {"image_id": 77},
    {"category_id": 9},
    {"category_id": True},
    {"id": 1},
    {"id": "1"},
    {"id": 2**70},
    {"iscrowd": 1},
    {"area": -3},
]


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """Boxes of every kind, before the pictures and in another order; a picture that is missing, a broken one, one of
    another size, one without boxes, one with an EXIF rotation."""
    pictures = {f"{number}.png": [(number % 2, 5, 5, 25, 25), (0, 10, 10, 40, 30)] for number in range(9)}
    tree = coco_tree({**pictures, "empty.png": []})
    for entry, change in zip(tree["annotations"], PROBLEMS, strict=False):
        entry.update(change)
    tree = {"annotations": tree["annotations"][::-1], "images": tree["images"], "categories": tree["categories"]}
    path = write_coco(tmp_path / "odd.json", tree)
    (path.parent / "images" / "1.png").unlink()
    (path.parent / "images" / "2.png").write_bytes(b"no picture")
    picture(path.parent / "images" / "3.png", 30, 50)
    return path


def test_what_can_be_used_is_the_same(odd: Path, as_table: Callable[..., DataSet]) -> None:
    (one, problems), (other, theirs) = drop_invalid(as_table(odd)), drop_invalid(read_coco(odd))
    assert isinstance(one.records, TableRecords)
    assert problems == theirs
    _same(one, other)
    _same_records(one.records[1:6:2], other.records[1:6:2])
    _same_records(one.records[::-1], other.records[::-1])
    (fewer, gone), (others, also) = one.only(["dog"]), other.only(["dog"])
    assert gone == also > 0
    _same(fewer, others)
    with pytest.raises(IndexError):
        one.records[len(one.records)]


def test_of_many_problems_the_number_is_told(
    odd: Path, as_table: Callable[..., DataSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = read_coco(odd).problems
    monkeypatch.setattr(problem_list, "LISTED", 2)
    problems = as_table(odd).problems
    assert problems[:2] == whole[:2]
    numbers = {problem.kind: int(problem.what.split()[0]) for problem in problems[2:]}
    assert numbers == Counter(problem.kind for problem in whole[2:])
    assert all("more of this kind, which are not listed one by one" in problem.what for problem in problems[2:])
    _, every = drop_invalid(read_coco(odd))
    monkeypatch.setattr(records, "SHOWN", 1)
    _, told = drop_invalid(as_table(odd))
    concerned = {problem.picture for problem in every} - {None}
    assert len(concerned) > 1
    assert f"{len(concerned) - 1} more pictures have problems with their file, size or boxes" in told[-1].what


def test_columns_are_those_of_the_records(odd: Path, as_table: Callable[..., DataSet]) -> None:
    lazy, whole = drop_invalid(as_table(odd))[0].records, drop_invalid(read_coco(odd))[0].records
    assert list(paths(lazy)) == [record.path for record in whole]
    for one, other in ((lazy, whole), (JoinedRecords([lazy, whole[:2]]), (*whole, *whole[:2]))):
        ours, theirs = (
            [np.concatenate([getattr(block, name) for block in columns(each)]) for name in ("boxes", "labels", "sizes")]
            for each in (one, other)
        )
        for first, second in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(first, second)
        np.testing.assert_array_equal(class_counts(one, 2), class_counts(other, 2))
        np.testing.assert_array_equal(classes_of(one), classes_of(other))
        _same_records(one, other)
        _same_records(one[1::3], other[1::3])
        _same_records(subset(one, fraction=0.5, seed=3), subset(other, fraction=0.5, seed=3))
        np.testing.assert_array_equal(fingerprints(one), fingerprints(other))
        for rule in (Preprocess(height=64, width=48), Preprocess(height=64, width=48, resize="letterbox")):
            np.testing.assert_array_equal(widths_heights_in_input(one, rule), widths_heights_in_input(other, rule))
        for part, same in zip(train_val_split(one, fraction=0.3), train_val_split(other, fraction=0.3), strict=True):
            _same_records(part, same)


def test_a_pickle_holds_the_path(odd: Path, as_table: Callable[..., DataSet]) -> None:
    records = as_table(odd).records
    pickled = pickle.dumps(records)
    assert b"0.png" not in pickled
    _same_records(pickle.loads(pickled), records)
    fewer = drop_invalid(as_table(odd))[0].records
    _same_records(pickle.loads(pickle.dumps(fewer)), fewer)


def test_a_file_is_converted_once_and_again_when_it_changes(
    odd: Path, as_table: Callable[..., DataSet], tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_table(odd)
    (made,) = tables.glob("*/*")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotation_tables, "convert_coco", None)
        as_table(odd)
        monkeypatch.chdir(odd.parent)
        _same(as_table(Path(odd.name)), read_coco(Path(odd.name)))
    tree = json.loads(odd.read_text())
    tree["categories"][0]["name"] = "tiger"
    odd.write_text(json.dumps(tree))
    assert as_table(odd).names == ("tiger", "dog")
    (again,) = tables.glob("*/*")
    assert again != made
    again.write_bytes(b"half a table")
    annotation_tables.open_table.cache_clear()
    assert as_table(odd).names == ("tiger", "dog")


def test_what_a_killed_process_left_goes(odd: Path, as_table: Callable[..., DataSet], tables: Path) -> None:
    as_table(odd)
    (made,) = tables.glob("*/*")
    made.unlink()
    (made.parent / "x.part").mkdir()
    (made.parent / "x.part" / "boxes").write_bytes(b"1234")
    as_table(odd)
    assert [file.name for file in made.parent.iterdir()] == [made.name]


def test_nothing_is_left_of_a_file_that_is_refused(odd: Path, as_table: Callable[..., DataSet], tables: Path) -> None:
    odd.write_text(odd.read_text()[:-40])
    with pytest.raises(DataError, match=r"odd\.json:1:\d+: is not valid JSON"):
        as_table(odd)
    assert not list(tables.iterdir())


def test_another_process_is_waited_for(
    odd: Path, as_table: Callable[..., DataSet], tables: Path, caplog: pytest.LogCaptureFixture
) -> None:
    as_table(odd)
    (made,) = tables.glob("*/*")
    aside = made.rename(tables / "aside")
    lock = made.parent / LOCK
    lock.write_text(f"{os.getppid()} {socket.gethostname()}\n")
    done = threading.Timer(0.3, lambda: (aside.rename(made), lock.unlink()))
    done.start()
    with pytest.MonkeyPatch.context() as patch, caplog.at_level(logging.INFO):
        patch.setattr(annotation_tables, "convert_coco", None)
        patch.setattr(annotation_tables, "_WAIT", 0.02)
        assert len(as_table(odd)) == 10
    done.join()
    assert "waiting for its table" in caplog.text


def test_a_folder_that_cannot_be_written(
    odd: Path, as_table: Callable[..., DataSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(annotation_tables.VARIABLE, str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot be written"):
        as_table(odd)


def test_without_pyarrow_a_large_file_is_read_or_refused(
    odd: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(coco, "LARGE", 0)
    monkeypatch.setattr(coco, "find_spec", lambda _: None)
    assert isinstance(read_coco(odd).records, tuple)
    assert "is read into memory; with pyarrow it is converted once into a table on disk: pip install" in caplog.text
    monkeypatch.setattr(coco, "free_memory", lambda: 1000)
    with pytest.raises(DataError, match=r"reading takes about .* GB of memory, but 0\.0 GB are free; with pyarrow"):
        read_coco(odd)


def test_small_sets_do_without_pyarrow(odd: Path) -> None:
    program = (
        "import sys; from falconet.data.formats import open_dataset; from falconet.data.records import drop_invalid;"
        f"drop_invalid(open_dataset({str(odd)!r})); sys.exit('pyarrow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@given(
    listed=st.lists(
        st.sampled_from([0, 1, -1, 12, 2**70, "0", "-0", "1", "01", "-1", "12", "x", str(2**70)]), unique=True
    )
)
def test_ids_in_another_form_mean_the_same_as_in_a_whole_file(listed: list[int | str]) -> None:
    table = coco_entries.by_either(listed)
    places = {key: place for place, key in enumerate(listed)}
    for key in (0, 1, -1, 12, 2**70, 5, "0", "-0", "1", "01", "-1", "12", "x", "+1", str(2**70), "5"):
        assert coco_entries.meant(key, places) == table.get(key)


@given(keys=st.lists(st.sampled_from([1, 2, 3, "1", "a", "b", 2**80, -(2**63)]), max_size=12))
def test_repeated_ids(keys: list[int | str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        spill = Spill(Path(folder))
        texts = SpiltTexts(spill, "texts")
        pairs = [id_number(key) for key in keys]
        for start in range(0, len(pairs), 3):
            texts.write([text for _, text in pairs[start : start + 3]])
        found = repeated(np.array([number for number, _ in pairs], np.int64), texts)
        spill.close()
    assert found.tolist() == [key in keys[:place] for place, key in enumerate(keys)]


@given(text=st.recursive(st.none() | st.floats(allow_nan=False) | st.integers() | st.text(), st.lists, max_leaves=6))
def test_a_stream_is_what_json_reads(text: Any) -> None:
    tree = {"first": [text, [text], {"a": text}], "é": text, "last": [], "more": {"x": [text]}}
    for written in (json.dumps(tree), json.dumps(tree, indent=1, ensure_ascii=False).encode(errors="replace").decode()):
        for size in (1, 7, 64):
            assert _streamed(written, size) == json.loads(written)


def _streamed(text: str, size: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", size)
        path = Path(folder) / "x.json"
        path.write_text(text, encoding="utf-8")
        for key, position, value in json_stream.entries(path, hook=dict, told=max):
            if position < 0:
                found[key] = value
            else:
                found[key].append(value)
    return found


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2}',
        '{"a": [1 2]}',
        '{"a": 1,}',
        '{"a" 1}',
        '{"a": 1} x',
        '{"a": [1,\n  "b]}',
        "{",
        '{"a": tru}',
        '{"a": ["\\x"]}',
    ],
)
def test_a_stream_names_the_place_that_json_names(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(DataError) as whole:
        read_json(path)
    for size in (1, 7, 64):
        with pytest.raises(DataError) as streamed:
            _streamed(text, size)
        assert str(streamed.value).partition("x.json")[2] == str(whole.value).partition("x.json")[2]
