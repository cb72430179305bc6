"""Tars as data sets: forms of the `.json`, names of classes, patterns, and tars that are damaged or foreign."""

import io
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from falconet.core import cache, tar_index
from falconet.core.errors import DataError
from falconet.core.images import MAX_PIXELS, read_image
from falconet.core.tar_members import tar_members
from falconet.data import shard_samples
from falconet.data.check import open_splits
from falconet.data.convert import convert
from falconet.data.dataset import DataSet
from falconet.data.fingerprint import fingerprints
from falconet.data.formats import open_dataset, splits_of
from falconet.data.records import drop_invalid
from falconet.data.shards import read_shards
from falconet.data.write_shards import write_shards
from tests.data.build import coco_tree, mistakes, png, write_coco, write_tar

BOX = [6, 10, 24, 20]
CAT = {"annotations": [{"bbox": BOX, "category": "cat"}]}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def tar_of(folder: Path, about: Any, name: str = "s-0.tar", **members: bytes) -> Path:
    text = about if isinstance(about, str | bytes) else json.dumps(about)
    return write_tar(folder / name, {"a.png": png(), "a.json": text, **members})


@pytest.mark.parametrize(
    "about",
    [
        CAT,
        CAT["annotations"],
        {"objects": [{"bbox": BOX, "label": "cat", "category_id": 7}], "image_id": 3},
        {"objects": {"bbox": [BOX], "category": ["cat"], "area": [480]}, "width": 60, "height": 40},
        {"boxes": [[6, 10, 30, 30]], "labels": ["cat"]},
        {"annotations": [{"bbox": [6, 10, 30, 30], "class": "cat"}], "bbox_format": "pascal_voc"},
        {"annotations": [{"bbox": [0.3, 0.5, 0.4, 0.5], "name": "cat", "bbox_format": "yolo"}]},
        {"objects": {"bbox": [[0.1, 0.25, 0.5, 0.75]], "category": ["cat"], "bbox_format": "albumentations"}},
    ],
)
def test_forms_of_boxes(tmp_path: Path, about: Any) -> None:
    dataset = open_dataset(tar_of(tmp_path, about))
    assert (dataset.names, dataset.format, dataset.problems) == (("cat",), "shards", ())
    (record,) = dataset.records
    assert record.boxes.tolist() == [pytest.approx([6, 10, 30, 30], abs=1e-4)]
    assert (record.height, record.width) == (40, 60)
    assert dataset.box_source(record, 0) == f"{tmp_path}/s-0.tar/a.json (box 1)"


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ("{", r":1:2: is not valid JSON"),
        (b"\xff", r"is not UTF-8 text \(byte 0\); expected JSON"),
        ("3", r"is 3; expected 'annotations' or 'objects', each with 'bbox'"),
        ({"caption": "a cat", "url": "x"}, r'has the keys \["caption", "url"\]; expected \'annotations\''),
        ({"annotations": 3}, r"'annotations' is 3; expected"),
        ({"annotations": [3]}, r"annotations\[0\] is 3; expected an object"),
        ({"annotations": [], "objects": []}, r"has 'annotations' and 'objects'; expected one"),
        ({"annotations": [], "boxes": []}, r"has 'annotations', and 'boxes' beside it; expected one"),
        ({"annotations": [{"category": "cat"}]}, r"annotations\[0\] has the keys .*expected its box as 'bbox'"),
        ({"annotations": [{"bbox": [1, 2, 3], "category": "cat"}]}, r"'bbox' is \[1, 2, 3\]; expected four numbers"),
        ({"annotations": [{"bbox": BOX}]}, r"annotations\[0\]: its class is missing; expected a name"),
        ({"annotations": [{"bbox": BOX, "category": None}]}, r"its class is null; expected a name"),
        (
            {"annotations": [{"bbox": BOX, "category_id": 1}]},
            r"has the class number 1, but no list of classes is there",
        ),
        ({"objects": {"bbox": [BOX], "category": []}}, r"has 1 in 'bbox', but 0 in 'category'; expected one per box"),
        ({**CAT, "bbox_format": "feet"}, r'the form of its boxes is "feet"; expected one of xywh, coco,'),
        ('{"annotations": [], "annotations": []}', r"has a key twice"),
    ],
)
def test_what_is_not_understood_is_told_with_its_place(tmp_path: Path, about: Any, expected: str) -> None:
    path = tar_of(tmp_path, about)
    with pytest.raises(DataError, match=expected) as error:
        read_shards([path])
    assert str(error.value).startswith(f"{path}/a.json")


def test_numbers_get_their_names_from_a_list_or_whoever_reads(tmp_path: Path) -> None:
    about = {"annotations": [{"bbox": BOX, "category_id": 1}, {"bbox": BOX, "category": "dog"}]}
    path = tar_of(tmp_path, about)
    dataset = read_shards([path], ["dog", "cat"])
    assert (dataset.names, dataset.records[0].labels.tolist()) == (("dog", "cat"), [1, 0])
    with pytest.raises(DataError, match=r"a\.json: has the class number 1, but 0 to 0 are known; expected its name"):
        read_shards([path], ["dog"])
    with pytest.raises(DataError, match=r"has the class 'dog', which is not in the list of classes \(cow, dogs\); did"):
        read_shards([path], ["cow", "dogs"])
    (tmp_path / "classes.json").write_text('{"categories": [{"id": 5, "name": "dog"}, {"id": 1, "name": "ox"}]}')
    dataset = read_shards([path], ["dog", "cat"])  # the list beside the tars counts
    assert (dataset.names, dataset.records[0].labels.tolist()) == (("ox", "dog"), [0, 1])
    inside = tar_of(tmp_path / "inside", about, **{"classes.txt": b"dog\ncat\n"})
    assert read_shards([inside]).names == ("dog", "cat")
    with pytest.raises(DataError, match=r"inside/s-0\.tar/classes\.txt: names the classes dog, cat, but another list"):
        read_shards([path, inside])
    (tmp_path / "classes.json").write_text("[]")
    with pytest.raises(DataError, match=r"classes\.json: is no list of classes; expected a name per line"):
        read_shards([path])


def test_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for split, number in (("train", 8), ("train", 9), ("train", 10), ("val", 0)):
        tar_of(tmp_path / "s", CAT, f"{split}-{number:03d}.tar")

    def tars(*patterns: str) -> list[str]:
        return [record.path.parent.name for record in read_shards(patterns).records]

    every = ["train-008.tar", "train-009.tar", "train-010.tar"]
    assert tars("s/train-{008..010}.tar") == tars("s/train-*.tar") == every
    assert tars("s/{val-000,train-0{08..09}}.tar") == ["val-000.tar", *every[:2]]
    assert tars("s/train-010.tar", "s") == [every[2], *every[:2], "val-000.tar"]
    assert splits_of("s") == ("train", "val")
    assert len(open_dataset("s", split="train")) == len(open_dataset("s/train-{008..010}.tar")) == 3
    for pattern, expected in {
        "s/train-{008..012}.tar": r"2 of its 5 tars are not there, the first of them s/train-011\.tar; expected tars",
        "s/x-*.tar": r"s/x-\*\.tar: no such file; expected tars, as in",
        "s/train-008.tar.gz": "is compressed.*unpack it",
        "s3://b/train-0.tar": r"is not on this machine; training reads shards from a file system",
        "s/{0..9999999}.tar": "stands for more than 1,000,000 tars",
    }.items():
        with pytest.raises(DataError, match=expected):
            read_shards([pattern])
    with pytest.raises(DataError, match=r"leave the folder of pictures \(s\) out"):
        open_dataset("s/train-008.tar", "s")


def test_a_tar_beside_other_data_is_no_data_set(tmp_path: Path) -> None:
    write_coco(tmp_path / "train.json", coco_tree({"a.png": [(0, 6, 10, 30, 30)]}))
    write_tar(tmp_path / "images.tar", {"a.png": png()})
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.problems) == ("coco", ())
    tar_of(tmp_path, CAT)
    (problem,) = open_dataset(tmp_path).problems
    assert "holds annotations of another format, too, which are not used: WebDataset" in problem.what


def test_groups_of_tars_in_a_folder(tmp_path: Path) -> None:
    for name in ("train-0.tar", "train-1.tar", "train_b-0.tar", "val.tar"):
        tar_of(tmp_path, CAT, name)
    assert {name: len(open_dataset(tmp_path, split=name)) for name in splits_of(tmp_path)} == {
        "train": 2, "val": 1, "train_b": 1
    }  # fmt: skip


def test_samples_that_are_not_whole(tmp_path: Path) -> None:
    members: dict[str, bytes | str] = {
        "d/a.png": png(), "d/a.json": json.dumps(CAT | {"width": 61, "height": 40}), "d/a.txt": "a caption",
        "b.png": png(), "c.json": json.dumps(CAT), "e.png": png()[:60], "e.json": json.dumps(CAT),
        "d/a.seg.png": png(),
    }  # fmt: skip
    dataset = read_shards([write_tar(tmp_path / "s.tar", members)])
    assert [record.path.name for record in dataset.records] == ["a.png"]
    assert [problem.kind for problem in dataset.problems] == [
        "wrong-size",
        "broken-file",
        "unused-files",
        "orphan-label",
    ]
    told = [str(problem) for problem in dataset.problems]
    assert "says that a.png has 61 x 40 pixels, the file has 60 x 40" in told[0]
    assert told[1].startswith(f"{tmp_path}/s.tar/e.png: ")
    assert told[2].endswith("1 member has no .json of the same key beside it, and is left out (b.png)")
    with pytest.raises(DataError, match=r"has no sample; expected a picture and a \.json with the same key"):
        read_shards([write_tar(tmp_path / "bare.tar", {"b.png": png()})])
    with pytest.raises(DataError, match=r"a\.jpg and a\.png belong to one sample, 'a'; expected one picture"):
        read_shards([write_tar(tmp_path / "two.tar", {"a.jpg": png(), "a.png": png(), "a.json": "[]"})])


def test_pictures_are_read_out_of_the_tar_wherever_pictures_are_read(tmp_path: Path) -> None:
    pictures = {f"{number}.png": png(number) for number in (3, 200, 90)}
    texts = {name.replace("png", "json"): json.dumps(CAT) for name in pictures}
    dataset, problems = drop_invalid(read_shards([write_tar(tmp_path / "s.tar", pictures | texts)]))
    assert problems == []
    assert [int(read_image(record.path)[0][0, 0, 0]) for record in dataset.records] == [3, 200, 90]
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    plain = [record.path.parent.parent / record.path.name for record in dataset.records]
    same = fingerprints(
        [type(record)(**{**_fields(record), "path": path}) for record, path in zip(dataset.records, plain, strict=True)]
    )
    np.testing.assert_array_equal(fingerprints(dataset.records), same)
    with pytest.raises(DataError, match=r"4\.png: no such member in .*s\.tar"):
        read_image(tmp_path / "s.tar" / "4.png")


def _fields(record: Any) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_a_tar_is_counted_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar_of(tmp_path, CAT)
    made: list[str] = []

    def counted(file: Path, kind: str, make: Any) -> Any:
        return cache.kept_arrays(file, kind, lambda: made.append(kind) or make())

    for module in (tar_index, shard_samples):
        monkeypatch.setattr(module, "kept_arrays", counted)

    def forget() -> None:
        tar_index._index.cache_clear()
        shard_samples._samples.cache_clear()

    for _ in range(2):
        forget()
        assert len(read_shards([path])) == 1
    assert made == [shard_samples._KIND, "tars"]
    tar_of(tmp_path, {"annotations": []}, b=b"more")
    os.utime(path, ns=(1, 1))
    assert read_shards([path]).names == ()
    assert made == [shard_samples._KIND, "tars"] * 2
    for kept in (cache.cache_folder() / shard_samples._KIND).iterdir():
        kept.write_bytes(kept.read_bytes()[:100])  # as after a full disk
    forget()
    assert read_shards([path]).names == ()


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    return tar_of(tmp_path, CAT, "whole.tar").read_bytes()


def test_a_cut_off_or_damaged_tar_is_told_with_its_place(tmp_path: Path, whole: bytes) -> None:
    second = 512 + -(-len(png()) // 512) * 512  # the header of a.json
    end = second + 1024
    assert list(tar_members(io.BytesIO(whole), "t"))[1].start == second + 512
    path = tmp_path / "bad.tar"
    for data, expected in {
        whole[: second + 200]: rf"is cut off: it has {second + 200:,} bytes, and the member before byte {second:,}",
        whole[: second + 520]: rf"is cut off: .* before byte {end:,} is not followed",
        whole[:end]: rf"is cut off: .* before byte {end:,} is not followed",
        whole[:second] + b"\x07" * 512 + whole[second + 512 :]: rf"the header at byte {second:,} is damaged; copy",
        b"x" * 2000: "cannot be read as a tar: .* expected one that is not compressed",
        b"": "cannot be read as a tar",
    }.items():
        path.write_bytes(data)
        with pytest.raises(DataError, match=expected) as error:
            read_shards([path])
        assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd.png", "a/../../b.png", "x" * 1200 + ".png", "a\\b.png"])
def test_names_that_lead_out_of_the_tar(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"has a member of the name .* at byte [\d,]+; expected names without '\.\.'"):
        read_shards([write_tar(tmp_path / "s.tar", {name: png()})])


def test_bombs(tmp_path: Path) -> None:
    path = tmp_path / "s.tar"
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 1 << 32
    path.write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(4096))
    with pytest.raises(DataError, match=r"claims 4,294,967,296 bytes; expected some hundred"):
        read_shards([path])
    side = int(MAX_PIXELS**0.5) + 100
    huge = bytearray(png())
    huge[16:24] = side.to_bytes(4, "big") * 2
    write_tar(path, {"a.png": bytes(huge), "a.json": json.dumps(CAT), "b.png": png(), "b.json": json.dumps(CAT)})
    (problem,) = read_shards([path]).problems
    assert f"claims {side} x {side} pixels" in problem.what
    write_tar(path, {"a.png": png(), "a.json": b" " * ((16 << 20) + 1)})
    with pytest.raises(DataError, match=r"a\.json: has 16,777,217 bytes; a description of one picture has at most"):
        read_shards([path])


def _same(dataset: DataSet, expected: DataSet) -> None:
    assert dataset.names == expected.names
    pairs = {}
    for part in (dataset, expected):
        for record in part.records:
            key = read_image(record.path)[0].tobytes()
            pairs.setdefault(key, []).append(
                (record.boxes.round(3).tolist(), record.labels.tolist(), record.crowd.tolist())
            )
    assert len(pairs) == len(dataset) == len(expected)
    assert all(one == other for one, other in pairs.values())


def test_written_shards_are_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = {
        f"{name}.png": [(number % 2, 3.25, 4, 20 + number, 30.5)] * (number > 0)
        for number, name in enumerate("abcdefgh")
    }
    splits = {"train": open_dataset(write_coco(tmp_path / "train.json", coco_tree(pictures, names=("cat ", "苹果"))))}
    assert write_shards(splits, tmp_path / "out") == {"train": []}
    monkeypatch.setattr("falconet.data.write_shards._BYTES", 1 << 11)
    write_shards(splits, tmp_path / "small", shard_mb=1)
    assert [path.name for path in sorted((tmp_path / "out").iterdir())] == ["classes.json", "train-000000.tar"]
    assert len(list((tmp_path / "small").glob("train-*.tar"))) > 2
    for folder in ("out", "small"):
        read = open_splits(tmp_path / folder)
        assert [problem.kind for problem in mistakes({"train": read["all"]})] == ["blank-class"]
        _same(read["all"], splits["train"])
    convert(open_splits(tmp_path / "small"), "coco", tmp_path / "back")
    _same(open_dataset(tmp_path / "back"), splits["train"])
    order = [record.path.name for record in read_shards([tmp_path / "out"]).records]
    assert order == sorted(order)
    with pytest.raises(DataError, match="exists already; give a new or an empty folder"):
        write_shards(splits, tmp_path / "out")
    with pytest.raises(DataError, match=r"lies in a tar, so nothing can link to it"):
        convert(open_splits(tmp_path / "out"), "coco", tmp_path / "linked", transfer="link")
    assert not (tmp_path / "linked").exists()


def test_a_disk_that_fills_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {
        "all": open_dataset(write_coco(tmp_path / "set.json", coco_tree({"a.png": [], "b.png": [(0, 1, 2, 30, 30)]})))
    }

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(DataError, match="out: cannot be written: No space left on device"):
        write_shards(splits, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir() if "out" in path.name] == []


def test_types_of_members(tmp_path: Path) -> None:
    """Links and folders are no files, and sparse files are refused."""
    path = tmp_path / "s.tar"
    members: Mapping[str, bytes] = {"./a.png": png(), "./a.json": json.dumps(CAT).encode()}
    write_tar(path, members)
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        folder = tarfile.TarInfo("c")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    (record,) = read_shards([path]).records
    assert record.path == path / "a.png"


def test_names_with_dots(tmp_path: Path) -> None:
    """Where what follows the first dot is no ending, a key goes on to the last one."""
    text = json.dumps(CAT)
    members = {
        "cam.v2.png": png(), "cam.v2.json": text, "b.left.png": png(), "b.right.png": png(), "b.json": text,
        "a.mask.png": png(), "a.1.png": png(), "a.1.json": text,
    }  # fmt: skip
    dataset = open_dataset(tar_of(tmp_path, CAT, **members))
    assert [record.path.name for record in dataset.records] == ["a.png", "cam.v2.png", "a.1.png"]
    told = [str(problem) for problem in dataset.problems]
    assert "2 members have no .json of the same key beside them, and are left out (b.left.png" in told[0]
    assert "1 member has no picture of the same key beside it (b.json)" in told[1]


def test_descriptions_that_are_not_understood_are_told_together(tmp_path: Path) -> None:
    members = {name: value for at in range(12) for name, value in ((f"{at}.png", png()), (f"{at}.json", "{}"))}
    write_tar(tmp_path / "s-0.tar", {"a.png": png(), "a.json": json.dumps(CAT), **members})
    write_tar(tmp_path / "s-1.tar", {"a.png": png(), "a.json": "["})
    with pytest.raises(DataError) as caught:
        read_shards([tmp_path])
    lines = str(caught.value).splitlines()
    assert len(lines) == 11
    assert lines[0].startswith(f"{tmp_path}/s-0.tar/0.json: has the keys []")
    assert lines[-1] == "... and 3 more"
