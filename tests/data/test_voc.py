"""Pascal VOC: folders with and without lists, odd files, hostile files."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.records import drop_invalid
from falconet.data.voc import read_voc, voc_splits
from tests.data.build import picture, voc_text, write_voc

TWO = {
    "a": voc_text([("dog", 1, 2, 30, 40), ("ant", 0, 0.5, 60, 20.25)]),
    "b": voc_text([]),
    "c": voc_text([("cat", 5, 5, 9, 9)]),
}


def test_by_hand(tmp_path: Path) -> None:
    dataset = read_voc(write_voc(tmp_path / "voc", TWO))
    assert dataset.names == ("ant", "cat", "dog")
    assert dataset.problems == ()
    first = dataset.records[0]
    assert (first.image_id, first.width, first.height) == ("a", 60, 40)
    assert first.path == tmp_path / "voc" / "JPEGImages" / "a.png"
    np.testing.assert_array_equal(first.boxes, [[1, 2, 30, 40], [0, 0.5, 60, 20.25]])
    assert first.labels.tolist() == [2, 0]
    assert first.areas is None
    assert dataset.box_source(first, 1) == f"{tmp_path / 'voc' / 'Annotations' / 'a.xml'}:4"
    assert dataset.records[1].boxes.shape == (0, 4)


def test_splits_have_the_classes_of_all_files(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", TWO, {"train": ["a", "b"], "val": ["c"], "trainval": ["a", "b", "c"]})
    assert voc_splits(root) == ("train", "val")
    train, val = read_voc(root, split="train"), read_voc(root / "ImageSets" / "Main" / "val.txt")
    assert [record.image_id for record in train.records] == ["a", "b"]
    assert [record.image_id for record in val.records] == ["c"]
    assert train.names == val.names == ("ant", "cat", "dog")
    assert len(read_voc(root, split="trainval")) == 3


def test_a_file_of_names_fixes_the_order(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", TWO)
    (root / "labels.txt").write_text("dog\ncat\n")
    dataset = read_voc(root)
    assert dataset.names == ("dog", "cat")
    assert dataset.records[0].labels.tolist() == [0]
    (problem,) = dataset.problems
    assert problem.kind == "unknown-class"
    assert problem.what == "class 'ant' is not in the list of classes (dog, cat); left out"
    assert problem.where.endswith("a.xml:4")


def test_annotations_folder_and_flat_folder(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", TWO)
    assert [record.path.is_file() for record in read_voc(root / "Annotations").records] == [True] * 3
    flat = tmp_path / "flat"
    flat.mkdir()
    (flat / "a.xml").write_text(TWO["a"])
    picture(flat / "a.jpg")
    assert read_voc(flat).records[0].path == flat / "a.jpg"


def test_pictures_elsewhere(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"a": TWO["a"]})
    picture(tmp_path / "other" / "a.jpg")
    assert read_voc(root, tmp_path / "other").records[0].path == tmp_path / "other" / "a.jpg"
    with pytest.raises(DataError, match=r"nowhere: no such folder; expected the pictures of the Pascal VOC data set"):
        read_voc(root, tmp_path / "nowhere")


def test_file_name_in_the_annotation_is_the_second_choice(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"a": voc_text([]).replace("x.png", "C:\\data\\other.png")})
    (root / "JPEGImages" / "a.png").rename(root / "JPEGImages" / "other.png")
    assert read_voc(root).records[0].path.is_file()


def test_difficult_objects_become_crowd(tmp_path: Path) -> None:
    text = voc_text([("a", 1, 1, 5, 5), ("a", 2, 2, 6, 6)]).replace("</name>", "</name><difficult>1</difficult>", 1)
    assert read_voc(write_voc(tmp_path / "voc", {"a": text})).records[0].crowd.tolist() == [True, False]


def test_parts_of_objects_are_not_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    text = voc_text([("person", 1, 1, 9, 9)]).replace("</object>", f"{part}</object>")
    dataset = read_voc(write_voc(tmp_path / "voc", {"a": text}))
    assert dataset.names == ("person",)
    np.testing.assert_array_equal(dataset.records[0].boxes, [[1, 1, 9, 9]])


def test_size_of_zero_means_unknown(tmp_path: Path) -> None:
    dataset = read_voc(write_voc(tmp_path / "voc", {"a": voc_text([], size="0 0"), "b": voc_text([])}))
    assert (dataset.records[0].width, dataset.records[0].height) == (None, None)
    (problem,) = dataset.problems
    assert (problem.kind, problem.what.partition(" do ")[0]) == ("no-size", "1 of 2 annotation files")
    assert "a.xml" in problem.what


@pytest.mark.parametrize(
    ("old", "kind"),
    [
        ("<size><width>60</width><height>40</height><depth>3</depth></size>", "no-size"),
        ("<width>60</width>", "no-size"),
        ("<filename>x.png</filename>", "no-file-name"),
        ("x.png", "no-file-name"),
    ],
)
def test_what_other_readers_ask_for_is_told(tmp_path: Path, old: str, kind: str) -> None:
    text = voc_text([("cat", 1, 1, 9, 9)])
    dataset = read_voc(write_voc(tmp_path / "voc", {"a": text.replace(old, "")}))
    assert [problem.kind for problem in dataset.problems] == [kind]
    assert dataset.records[0].path.name == "a.png"


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("<annotation>\n<object>\n</annotation>", ":3", "is not valid XML: mismatched tag"),
        ("", ":1", "is not valid XML: no element found"),
        ("<html/>", ":1", "starts with <html>; expected <annotation>"),
        (
            "<annotations/>",
            ":1",
            "is in CVAT's own form (<annotations>); export from CVAT as COCO, Pascal VOC or YOLO instead",
        ),
        ("<!DOCTYPE annotation>\n<annotation/>", ":1", "has a DTD or an entity, which is refused; remove it"),
    ],
)
def test_broken_files_are_left_out_and_said(tmp_path: Path, text: str, place: str, what: str) -> None:
    root = write_voc(tmp_path / "voc", {"a": text, "b": voc_text([("x", 1, 1, 2, 2)])})
    dataset = read_voc(root)
    (problem,) = dataset.problems
    assert problem.where == f"{root / 'Annotations' / 'a.xml'}{place}"
    assert problem.what == f"{what}; file and picture left out"
    assert [record.image_id for record in dataset.records] == ["b"]


def test_entity_bomb_does_not_blow_up(tmp_path: Path) -> None:
    entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha"}">' for i in range(12))
    bomb = f"<!DOCTYPE annotation [{entities}]><annotation><filename>&e11;</filename></annotation>"
    with pytest.raises(DataError, match=r"a\.xml:1: has a DTD or an entity, which is refused.*No other annotation"):
        read_voc(write_voc(tmp_path / "voc", {"a": bomb}))


def test_huge_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("falconet.data.voc_xml.MAX_BYTES", 400)
    root = write_voc(tmp_path / "voc", {"a": voc_text([]), "b": " " * 500})
    (problem,) = read_voc(root).problems
    assert problem.what == "has 500 bytes; the annotation of one picture has at most 400; file and picture left out"


@pytest.mark.parametrize(
    ("old", "new", "lacks"),
    [
        ("<name>x</name>", "", "a 'name'"),
        ("<xmin>1</xmin>", "", "numbers in 'bndbox': xmin, ymin, xmax, ymax"),
        ("<xmin>1</xmin>", "<xmin>one</xmin>", "numbers in 'bndbox': xmin, ymin, xmax, ymax"),
    ],
)
def test_incomplete_objects(tmp_path: Path, old: str, new: str, lacks: str) -> None:
    text = voc_text([("x", 1, 1, 2, 2), ("y", 3, 3, 4, 4)]).replace(old, new)
    dataset = read_voc(write_voc(tmp_path / "voc", {"a": text}))
    (problem,) = dataset.problems
    assert problem.what == f"an 'object' lacks {lacks}; left out"
    assert problem.where.endswith("a.xml:3")
    assert len(dataset.records[0].boxes) == 1


def test_lists_name_what_is_missing_or_doubled(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", TWO, {"train": ["a", "zzz", "a", "", "b  1"]})
    dataset = read_voc(root, split="train")
    assert [record.image_id for record in dataset.records] == ["a", "b"]
    missing, doubled, unlisted = dataset.problems
    assert (missing.kind, doubled.kind) == ("missing-file", "duplicate-file")
    assert missing.where.endswith("train.txt:2")
    assert doubled.where.endswith("train.txt:3")
    assert tuple(unlisted)[:3] == (
        str(root / "Annotations"), "1 file is not used, being in none of the lists train.txt: c.xml", "unused-files"
    )  # fmt: skip


def test_unknown_split_and_empty_folder(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", TWO, {"train": ["a"]})
    with pytest.raises(DataError, match=r"test\.txt: no such split; 'ImageSets/Main' of this data set has: train$"):
        read_voc(root, split="test")
    (tmp_path / "empty" / "Annotations").mkdir(parents=True)
    with pytest.raises(DataError, match=r"Annotations: holds no \.xml files; expected Pascal VOC annotations"):
        read_voc(tmp_path / "empty")


def _text(name: str, label: str = "cat") -> str:
    return voc_text([(label, 5, 5, 30, 30)]).replace("x.png", name)


def test_names_with_blanks(tmp_path: Path) -> None:
    names = ["IMG 20 (1)", "Image 2021-03-01 at 10.00.01", "last 1", "plain"]
    lines = ["IMG 20 (1)", "Image 2021-03-01 at 10.00.01  -1", "last 1", "plain 0", "plain 7"]
    root = write_voc(tmp_path / "voc", {name: _text(f"{name}.png") for name in names}, {"train": lines})
    dataset = read_voc(root, split="train")
    assert [record.image_id for record in dataset.records] == names
    (problem,) = dataset.problems
    assert problem.what == f"'plain 7' has no annotation file {root / 'Annotations' / 'plain 7.xml'}; left out"


def test_of_two_pictures_the_file_name_decides(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"a": _text("a.jpg")})
    picture(root / "JPEGImages" / "a.jpg")
    dataset = read_voc(root)
    assert dataset.records[0].path.name == "a.jpg"
    (problem,) = dataset.problems
    assert str(problem) == f"{root / 'JPEGImages'}: 1 file is not used, having no annotation file: a.png"


def test_what_the_file_name_leaves_open_is_said(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"a": _text("c.png")})
    picture(root / "JPEGImages" / "a.jpg")
    dataset = read_voc(root)
    assert dataset.records[0].path.name == "a.jpg"
    assert dataset.problems[0].kind == "other-picture"
    assert dataset.problems[0].what == "may belong to a.jpg or to a.png ('filename' is 'c.png'); the first is taken"


def test_a_file_name_that_belongs_to_another_picture_is_said(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"a": _text("b.png"), "b": _text("b.png")})
    dataset = read_voc(root)
    assert [record.path.name for record in dataset.records] == ["a.png", "b.png"]
    (problem,) = dataset.problems
    assert problem.where == str(root / "Annotations" / "a.xml")
    assert problem.what == "may belong to a.png or to b.png ('filename' is 'b.png'); the first is taken"


def _nested(root: Path) -> Path:
    for number, name in enumerate(("cam1/0001", "cam2/0001", "top")):
        picture(root / "JPEGImages" / f"{name}.jpg", value=20 + number)
        file = root / "Annotations" / f"{name}.xml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_text(f"{name}.jpg", ("cat", "dog", "top")[number]))
    return root


def test_sub_folders(tmp_path: Path) -> None:
    root = _nested(tmp_path)
    dataset = read_voc(root)
    assert [record.image_id for record in dataset.records] == ["cam1/0001", "cam2/0001", "top"]
    assert [record.path.relative_to(root / "JPEGImages").as_posix() for record in dataset.records] == [
        "cam1/0001.jpg",
        "cam2/0001.jpg",
        "top.jpg",
    ]
    assert dataset.problems == ()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("cam2/0001\ncam1/0001\n")
    train = read_voc(root, split="train")
    assert [record.labels.tolist() for record in train.records] == [[1], [0]]
    (problem,) = train.problems
    assert problem.what == "1 file is not used, being in none of the lists train.txt: top.xml"


def test_sub_folders_on_one_side(tmp_path: Path) -> None:
    root = _nested(tmp_path)
    (root / "JPEGImages" / "cam1" / "0001.jpg").rename(root / "JPEGImages" / "0001.jpg")
    (root / "Annotations" / "top.xml").rename(root / "Annotations" / "cam1" / "top.xml")
    paths = {record.image_id: record.path.name for record in read_voc(root).records}
    assert paths == {"cam1/0001": "0001.jpg", "cam1/top": "top.jpg", "cam2/0001": "0001.jpg"}
    # A camera's picture is not taken for another's.
    (root / "JPEGImages" / "0001.jpg").unlink()
    missing = {record.image_id: record.path for record in read_voc(root).records}["cam1/0001"]
    assert missing == root / "JPEGImages" / "cam1" / "0001.jpg"


def test_pictures_without_annotation_and_other_files(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"a": _text("a.png"), "b": "<broken"})
    for name in "cdefghi":
        picture(root / "JPEGImages" / f"{name}.jpg")
    (root / "JPEGImages" / "j.heic").write_bytes(b"x")
    (root / "JPEGImages" / "Thumbs.db").write_bytes(b"x")
    (root / "Annotations" / "a.txt").write_text("0 0.5 0.5 0.2 0.2")
    assert [str(problem) for problem in read_voc(root).problems if problem.kind == "unused-files"] == [
        f"{root / 'Annotations'}: 1 file is not used: a.txt",
        f"{root / 'JPEGImages'}: 7 files are not used, having no annotation file (.jpg 7): "
        "c.jpg, d.jpg, e.jpg, f.jpg, g.jpg and 2 more",
        f"{root / 'JPEGImages'}: 1 file is not used: j.heic",
    ]


def test_endings_and_accents(tmp_path: Path) -> None:
    root = tmp_path / "voc"
    (root / "Annotations").mkdir(parents=True)
    (root / "Annotations" / "A.XML").write_text(_text("A.jfif"))
    (root / "Annotations" / "U\u0308bung.xml").write_text(_text("U\u0308bung.jpg"))
    picture(root / "JPEGImages" / "A.png").rename(root / "JPEGImages" / "A.JFIF")
    picture(root / "JPEGImages" / "\u00dcbung.jpg")
    dataset = read_voc(root)
    assert [record.path.is_file() for record in dataset.records] == [True, True]
    assert dataset.problems == ()


@pytest.mark.parametrize(
    ("declared", "encoding", "label"),
    [
        ("gb2312", "gb18030", "苹果"),
        ("GBK", "gbk", "苹果"),
        ("shift_jis", "cp932", "りんご"),
        ("big5", "big5", "蘋果"),
        ("euc-kr", "euc_kr", "사과"),
        ("koi8-r", "koi8_r", "яблоко"),
        ("windows-1251", "cp1251", "яблоко"),
        ("utf8", "utf-8", "苹果"),
        ("UTF-8", "utf-8-sig", "苹果"),
        ("utf-16", "utf-16", "苹果"),
        ("ISO-8859-1", "latin-1", "Äpfel"),
    ],
)
def test_encodings(tmp_path: Path, declared: str, encoding: str, label: str) -> None:
    root = write_voc(tmp_path / "voc", {"a": ""})
    text = f'<?xml version="1.0" encoding="{declared}"?>\n{_text("a.png", label)}'
    (root / "Annotations" / "a.xml").write_bytes(text.encode(encoding))
    dataset = read_voc(root)
    assert (dataset.names, dataset.problems) == ((label,), ())


@pytest.mark.parametrize(
    ("declared", "content", "what"),
    [
        ("foo", b"", "declares the encoding 'foo', which is unknown; expected UTF-8"),
        ("zlib", b"", "declares the encoding 'zlib', which is none of texts; expected UTF-8"),
        ("punycode", b"", "declares the encoding 'punycode', which is none of texts; expected UTF-8"),
        ("utf-7", b"", "declares the encoding 'utf-7', which is none of texts; expected UTF-8"),
        ("gb2312", b"\xff\xff", "is not in the encoding 'gb2312' that it declares; expected UTF-8"),
    ],
)
def test_wrong_encodings_cost_one_file(tmp_path: Path, declared: str, content: bytes, what: str) -> None:
    root = write_voc(tmp_path / "voc", {"a": "", "b": _text("b.png")})
    head = f'<?xml version="1.0" encoding="{declared}"?>'.encode()
    (root / "Annotations" / "a.xml").write_bytes(head + content + _text("a.png").encode())
    dataset = read_voc(root)
    assert [record.image_id for record in dataset.records] == ["b"]
    (problem,) = dataset.problems
    assert problem.what == f"{what}; file and picture left out"


def test_deep_nesting_is_refused_at_once(tmp_path: Path) -> None:
    deep = "<annotation>" + "<a>" * 200_000 + "</a>" * 200_000 + "</annotation>"
    root = write_voc(tmp_path / "voc", {"a": deep, "b": _text("b.png")})
    (problem,) = read_voc(root).problems
    assert problem.what == "nests more than 64 elements; file and picture left out"


@pytest.mark.parametrize(("name", "what"), [("x" * 5000 + ".png", "is too long"), ("&#xD800;.png", None)])
def test_impossible_file_names(tmp_path: Path, name: str, what: str | None) -> None:
    root = write_voc(tmp_path / "voc", {"a": _text(name), "b": _text("b.png")})
    (root / "JPEGImages" / "a.png").unlink()
    kept, problems = drop_invalid(read_voc(root))
    assert [record.path.name for record in kept.records] == ["b.png"]
    assert {problem.kind for problem in problems} >= {"bad-annotation"}
    assert what is None or f"'filename' {what}" in problems[0].what
