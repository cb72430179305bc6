"""One table of formats: what is recognised, and in which order."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.testing import CliRunner

from falconet.cli.data import app
from falconet.core.errors import DataError
from falconet.core.files import exists
from falconet.data.check import open_splits
from falconet.data.convert import convert
from falconet.data.dataset import Format
from falconet.data.format_titles import TITLES
from falconet.data.formats import FORMATS, open_dataset, splits_of
from falconet.data.json_files import json_kind
from tests.data.build import (
    coco_tree,
    mistakes,
    picture,
    png,
    voc_text,
    write_coco,
    write_tar,
    write_voc,
    write_yolo,
)  # fmt: skip

BOX = {"x": 10, "y": 25, "width": 40, "height": 50}
"""in percent; of 60 x 40 pixels: 6, 10, 30, 30"""


def _darknet(root: Path) -> None:
    picture(root / "obj_train_data" / "a.png")
    (root / "obj_train_data" / "a.txt").write_text("0 0.3 0.5 0.4 0.5")
    (root / "obj.names").write_text("cat\n")
    (root / "train.txt").write_text("data/obj_train_data/a.png\n")
    (root / "obj.data").write_text("train = data/train.txt\nnames = data/obj.names\n")


def _labelimg(root: Path) -> None:
    picture(root / "a.png")
    (root / "a.txt").write_text("0 0.3 0.5 0.4 0.5")
    (root / "classes.txt").write_text("cat\n")


def _json(tree: Any, root: Path, name: str = "set.json") -> None:
    picture(root / "a.png")
    (root / name).write_text(json.dumps(tree))


def _label_studio(root: Path) -> None:
    value = {**BOX, "rotation": 0, "rectanglelabels": ["cat"]}
    result = [{"id": "r1", "type": "rectanglelabels", "original_width": 60, "original_height": 40, "value": value}]
    _json([{"id": 1, "annotations": [{"id": 5, "result": result}], "data": {"image": "/data/upload/1/a.png"}}], root)


def _labelme(root: Path) -> None:
    shapes = [{"label": "cat", "points": [[6, 10], [30, 30]], "shape_type": "rectangle"}]
    tree = {"version": "5", "shapes": shapes, "imagePath": "a.png", "imageHeight": 40, "imageWidth": 60}
    _json(tree, root, "a.json")


def _createml(root: Path) -> None:
    box = {"label": "cat", "coordinates": {"x": 18, "y": 20, "width": 24, "height": 20}}
    _json([{"image": "a.png", "annotations": [box]}], root)


def _table(root: Path) -> None:
    picture(root / "a.png")
    (root / "set.csv").write_text("filename,width,height,class,xmin,ymin,xmax,ymax\na.png,60,40,cat,6,10,30,30\n")


def _open_images(root: Path) -> None:
    picture(root / "a.jpg")
    (root / "set.csv").write_text("ImageID,LabelName,XMin,XMax,YMin,YMax\na,cat,0.1,0.5,0.25,0.75\n")


def _coco(root: Path) -> None:
    write_coco(root / "set.json", coco_tree({"a.png": [(0, 6, 10, 30, 30)]}, names=("cat",)), folder=".")


def _voc(root: Path) -> None:
    write_voc(root, {"a": voc_text([("cat", 6, 10, 30, 30)])})


def _yolo(root: Path) -> None:
    write_yolo(root, {"a": "0 0.3 0.5 0.4 0.5"}, yaml="train: images/train\nnames: [cat]\n")


def _shards(root: Path) -> None:
    about = {"annotations": [{"bbox": [6, 10, 24, 20], "category": "cat"}]}
    write_tar(root / "set-0.tar", {"a.png": png(), "a.json": json.dumps(about)})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


WRITE = {
    "voc": _voc,
    "yolo": _yolo,
    "darknet": _darknet,
    "coco": _coco,
    "label-studio": _label_studio,
    "createml": _createml,
    "labelme": _labelme,
    "csv": _table,
    "open-images": _open_images,
    "shards": _shards,
    "labelimg": _labelimg,
}


PLACES = {
    "voc": "Annotations/a.xml:3",
    "yolo": "labels/train/a.txt:1",
    "darknet": "obj_train_data/a.txt:1",
    "coco": "set.json (annotation 1)",
    "label-studio": "set.json (task 1, region r1)",
    "createml": "set.json (image a.png, box 1)",
    "labelme": "a.json (shape 1)",
    "csv": "set.csv:2",
    "open-images": "set.csv:2",
    "shards": "set-0.tar/a.json (box 1)",
    "labelimg": "a.txt:1",
}


def test_every_format_has_a_row() -> None:
    assert set(FORMATS) == set(WRITE) == set(get_args(Format))


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_recognised_read_and_converted(tmp_path: Path, form: Format) -> None:
    (tmp_path / "in").mkdir()
    WRITE[form](tmp_path / "in")
    splits = open_splits(tmp_path / "in")
    (dataset,) = splits.values()
    assert (dataset.format, dataset.names) == (form, ("cat",))
    assert mistakes(splits) == []
    (record,) = dataset.records
    assert exists(record.path)
    assert record.boxes.tolist() == [pytest.approx([6, 10, 30, 30], abs=1e-4)]
    assert dataset.box_source(record, 0) == str(tmp_path / "in" / PLACES[form])
    convert(splits, "coco", tmp_path / "out")
    assert open_dataset(tmp_path / "out").records[0].boxes.tolist() == [pytest.approx([6, 10, 30, 30], abs=1e-4)]


@pytest.mark.parametrize("form", ["coco", "label-studio", "createml", "labelme", "csv", "open-images"])
def test_folders_that_are_splits(tmp_path: Path, form: Format) -> None:
    for folder in ("train", "valid"):
        (tmp_path / folder).mkdir()
        WRITE[form](tmp_path / folder)
    assert splits_of(tmp_path) == ("train", "val")
    dataset = open_dataset(tmp_path, split="valid")
    assert dataset.format == form
    assert dataset.records[0].path.parent == tmp_path / "valid"
    with pytest.raises(DataError, match=r"holds several data sets; choose one \(--split, .*\): train, val"):
        open_dataset(tmp_path)


def test_xml_in_folders_that_are_splits(tmp_path: Path) -> None:
    for folder in ("train", "test"):
        picture(tmp_path / folder / "a.png")
        (tmp_path / folder / "a.XML").write_text(voc_text([("cat", 6, 10, 30, 30)]).replace("x.png", "a.png"))
    assert splits_of(tmp_path) == ("train", "test")
    assert open_dataset(tmp_path, split="test").format == "voc"
    (tmp_path / "train").rename(tmp_path / "cam1")
    (tmp_path / "test").rename(tmp_path / "cam2")
    assert [record.image_id for record in open_dataset(tmp_path).records] == ["cam1/a", "cam2/a"]


def test_help_names_every_format() -> None:
    said = " ".join(CliRunner().invoke(app, ["check", "--help"]).stdout.split())
    assert all(row.title in said for row in FORMATS.values())
    assert len(FORMATS) == len(TITLES)


def test_splits_of_different_formats_and_names(tmp_path: Path) -> None:
    for folder, form in (("train", "coco"), ("val", "csv")):
        (tmp_path / folder).mkdir()
        WRITE[form](tmp_path / folder)
    with pytest.raises(
        DataError, match=r"its splits have different formats: COCO \(\.json\), a table \(.*\); give one"
    ):
        open_dataset(tmp_path, split="train")
    (tmp_path / "val" / "set.csv").unlink()
    for name in ("val", "valid"):
        (tmp_path / name).mkdir(exist_ok=True)
        WRITE["coco"](tmp_path / name)
    assert splits_of(tmp_path) == ("train", "val", "valid")
    assert open_dataset(tmp_path, split="valid").records[0].path.parent.name == "valid"
    _json([], tmp_path / "val", "two.json")
    (tmp_path / "val" / "two.json").write_text((tmp_path / "val" / "set.json").read_text())
    with pytest.raises(DataError, match=r"val: holds several data sets \(set, two\); give one of them"):
        open_dataset(tmp_path, split="train")


def test_other_formats_in_the_folder_are_said(tmp_path: Path) -> None:
    _voc(tmp_path)
    _table(tmp_path)
    (tmp_path / "classes.txt").write_text("cat\n")
    (problem,) = open_dataset(tmp_path).problems
    assert str(problem) == (
        f"{tmp_path}: holds annotations of another format, too, which are not used: "
        "a table (.csv with filename, class, xmin, ...)"
    )


def test_one_file_per_picture_of_createml_and_labelme(tmp_path: Path) -> None:
    for form in ("createml", "labelme"):
        for number in range(30):
            folder = tmp_path / form
            picture(folder / f"{number}.png", value=number)
            (folder / "one").mkdir(exist_ok=True)
            WRITE[form](folder / "one")
            file = next((folder / "one").glob("*.json"))
            (folder / f"{number}.json").write_text(file.read_text().replace("a.png", f"{number}.png"))
        for file in (tmp_path / form / "one").iterdir():
            file.unlink()
        dataset = open_dataset(tmp_path / form)
        assert (dataset.format, len(dataset), dataset.problems) == (form, 30, ())


def test_other_json_does_not_hide_a_data_set(tmp_path: Path) -> None:
    _coco(tmp_path)
    (tmp_path / "notes.json").write_text('{"categories": [], "info": {"year": 2024}}')
    assert splits_of(tmp_path) == ("set",)
    assert open_dataset(tmp_path).format == "coco"


def test_export_of_label_studio_for_yolo(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"}, split=".").unlink()
    (tmp_path / "classes.txt").write_text("cat\n")
    (tmp_path / "notes.json").write_text('{"categories": [{"id": 0, "name": "cat"}], "info": {"year": 2024}}')
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.problems, len(dataset.records[0].boxes)) == ("labelimg", (), 1)


def test_broken_json_is_still_named(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text('{"images": [')
    for path in (tmp_path, tmp_path / "train.json"):
        with pytest.raises(DataError, match=r"train\.json:1:13: is not valid JSON"):
            open_dataset(path)


def test_labels_without_names_of_classes(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"}).unlink()
    with pytest.raises(
        DataError, match=r"no data set found; .* write a classes\.txt with the names of the classes beside"
    ):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"info": {}, "images": []', "coco"),
        ('{"annotations": []}', "coco"),
        ('{"shapes": [{"images": 1}]}', "labelme"),
        ('{"imageData": "' + "x" * 100_000, "labelme"),
        ('{"licenses": [' + '{"a": 1},' * 10_000, "coco"),
        ('{"categories": [], "info": {}}', None),
        ('[{"image": "a.png", "annotations": [{"label": "x", "coordinates": {}}]}]', "createml"),
        ('[{"annotations": [{"result": [', "label-studio"),
        ('[{"image": "a.png", "id": 1, "label": [{"original_width": 60}]}]', "label-studio"),
        ("[]", None),
        ("nothing", None),
        ("", None),
        ('{"a\\"images": 1, "b": "\\\\", "images": []}', "coco"),
    ],
)
def test_kinds_of_json(tmp_path: Path, text: str, kind: str | None) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert json_kind(path) == kind
    path.write_text(f"\ufeff{text}", encoding="utf-8")
    assert json_kind(path) == kind
    assert json_kind(tmp_path / "nowhere.json") is None
