import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from falconet.core.errors import ConfigError, DataError
from falconet.core.types import Detections
from falconet.runtime.pipeline import Milliseconds, Result
from falconet.runtime.predictor import Predictor
from falconet.runtime.stream import Broken, Camera, Frame, ImageFile, VideoFile
from falconet.runtime.writers import JsonWriter, completed, open_writers
from tests.runtime.test_predictor import Recorder
from tests.runtime.tiny_model import NAMES, picture, save

PREDICTOR = Predictor(Recorder())
ALL = ("images", "json", "csv", "coco", "yolo")


def detections(*found: tuple[int, float, tuple[float, ...]]) -> Detections:
    labels, scores, boxes = ([one[i] for one in found] for i in range(3))
    return Detections(np.array(boxes, np.float32), scores, labels, NAMES)


def result(source, found: Detections, *, index: int | None = None, image=None) -> Result:
    image = picture() if image is None else image
    return Result(Frame(source, index, image, image.shape[:2], 10.0), found, Milliseconds(1, 2, 3))


RED = (2, 0.75, (10, 20, 40, 60))
BLUE = (0, 0.5, (0, 0, 64, 128))


def write(folder: Path, items, kinds=ALL) -> None:
    sources = list(dict.fromkeys(item.source if isinstance(item, Broken) else item.frame.source for item in items))
    with open_writers(kinds, folder, PREDICTOR, sources) as opened:
        for item in items:
            for writer in opened:
                writer.add(item)


@pytest.fixture
def items(tmp_path):
    source = ImageFile(save(tmp_path / "in" / "ä.png", picture()), "ä")
    empty = ImageFile(save(tmp_path / "in" / "deep" / "b.png", picture()), "deep/b")
    gone = ImageFile(tmp_path / "in" / "c.png", "c")
    return [
        result(source, detections(RED, BLUE)),
        Broken(gone, DataError("c.png: is empty")),
        result(empty, detections()),
    ]


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_everything_at_once(tmp_path, items):
    write(tmp_path / "out", items)
    assert files_in(tmp_path / "out") == [
        "annotated/deep/b.jpg",
        "annotated/ä.jpg",
        "detections.csv",
        "detections.json",
        "detections_coco.json",
        "detections_coco_results.json",
        "yolo_labels/deep/b.txt",
        "yolo_labels/ä.txt",
    ]


def test_json(tmp_path, items):
    write(tmp_path, items, ["json"])
    assert json.loads((tmp_path / "detections.json").read_text("utf-8")) == {
        "model": "cells",
        "classes": ["blue", "green", "red"],
        "pictures": [
            {
                "file": str(tmp_path / "in" / "ä.png"),
                "width": 128,
                "height": 128,
                "detections": [
                    {"class": "red", "label": 2, "score": 0.75, "box": [10, 20, 40, 60]},
                    {"class": "blue", "label": 0, "score": 0.5, "box": [0, 0, 64, 128]},
                ],
            },
            {"file": str(tmp_path / "in" / "c.png"), "error": "c.png: is empty"},
            {"file": str(tmp_path / "in" / "deep" / "b.png"), "width": 128, "height": 128, "detections": []},
        ],
    }


def test_json_of_a_video_and_of_nothing_into_a_stream():
    stream = io.StringIO()
    with completed(JsonWriter(stream, PREDICTOR)) as writer:
        writer.add(result(VideoFile(Path("clip.mp4"), "clip"), detections(), index=7))
    assert json.loads(stream.getvalue())["pictures"] == [
        {"file": "clip.mp4", "frame": 7, "width": 128, "height": 128, "detections": []}
    ]
    stream = io.StringIO()
    with completed(JsonWriter(stream, PREDICTOR)):
        pass
    assert json.loads(stream.getvalue())["pictures"] == []


def test_csv(tmp_path, items):
    items.append(result(VideoFile(Path("a,b.mp4"), "a,b"), detections(RED), index=3))
    write(tmp_path, items, ["csv"])
    with (tmp_path / "detections.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream))
    name = str(tmp_path / "in" / "ä.png")
    assert rows == [
        ["file", "frame", "class", "score", "x1", "y1", "x2", "y2"],
        [name, "", "red", "0.75", "10.0", "20.0", "40.0", "60.0"],
        [name, "", "blue", "0.5", "0.0", "0.0", "64.0", "128.0"],
        ["a,b.mp4", "3", "red", "0.75", "10.0", "20.0", "40.0", "60.0"],
    ]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@"])
def test_a_name_that_a_spreadsheet_would_run_is_text(tmp_path, sign):
    names = (f"{sign}1+1", *NAMES[1:])
    found = Detections(np.array([[0, 0, 64, 128]], np.float32), [0.5], [0], names)
    write(tmp_path, [result(VideoFile(Path(f"{sign}a.mp4"), "a"), found, index=3)], ["csv"])
    with (tmp_path / "detections.csv").open(encoding="utf-8", newline="") as stream:
        row = list(csv.reader(stream))[1]
    assert row == [f"'{sign}a.mp4", "3", f"'{sign}1+1", "0.5", "0.0", "0.0", "64.0", "128.0"]


def test_coco_is_read_by_cocos_own_tools(tmp_path, items, capsys):
    write(tmp_path, items, ["coco"])
    data = json.loads((tmp_path / "detections_coco.json").read_text("utf-8"))
    assert data["categories"] == [{"id": 1, "name": "blue"}, {"id": 2, "name": "green"}, {"id": 3, "name": "red"}]
    assert [(image["id"], image["width"], image["height"]) for image in data["images"]] == [
        (1, 128, 128),
        (2, 128, 128),
    ]
    assert data["annotations"][0] == {
        "id": 1,
        "image_id": 1,
        "category_id": 3,
        "bbox": [10, 20, 30, 40],
        "area": 1200,
        "iscrowd": 0,
        "score": 0.75,
    }
    results = json.loads((tmp_path / "detections_coco_results.json").read_text("utf-8"))
    assert results[1] == {"image_id": 1, "category_id": 1, "bbox": [0, 0, 64, 128], "score": 0.5}
    truth = COCO(str(tmp_path / "detections_coco.json"))
    loaded = truth.loadRes(str(tmp_path / "detections_coco_results.json"))
    capsys.readouterr()
    assert len(loaded.anns) == 2


def test_coco_takes_numbers_in_names_as_ids(tmp_path):
    numbered = [result(ImageFile(Path(f"{n}.jpg"), n), detections(RED)) for n in ("000000000139", "deep/42")]
    write(tmp_path, numbered, ["coco"])
    results = json.loads((tmp_path / "detections_coco_results.json").read_text())
    assert [entry["image_id"] for entry in results] == [139, 42]
    doubled = [result(ImageFile(Path(f"{n}.jpg"), n), detections(RED)) for n in ("007", "x/7")]
    write(tmp_path, doubled, ["coco"])
    results = json.loads((tmp_path / "detections_coco_results.json").read_text())
    assert [entry["image_id"] for entry in results] == [1, 2]


def test_coco_of_nothing(tmp_path):
    write(tmp_path, [], ["coco"])
    assert json.loads((tmp_path / "detections_coco_results.json").read_text()) == []
    data = json.loads((tmp_path / "detections_coco.json").read_text())
    assert (data["images"], data["annotations"]) == ([], [])


def test_yolo(tmp_path, items):
    items.append(result(VideoFile(Path("clip.mp4"), "clip"), detections(RED), index=3))
    items.append(result(Camera(0, "camera_0"), detections(), index=0))
    write(tmp_path, items, ["yolo"])
    folder = tmp_path / "yolo_labels"
    assert (folder / "ä.txt").read_text() == (
        "2 0.195312 0.312500 0.234375 0.312500\n0 0.250000 0.500000 0.500000 1.000000\n"
    )
    assert (folder / "deep" / "b.txt").read_text() == ""
    assert (folder / "clip.mp4" / "000003.txt").read_text() == "2 0.195312 0.312500 0.234375 0.312500\n"
    assert (folder / "camera_0" / "000000.txt").read_text() == ""


def test_annotated_picture_at_full_size(tmp_path):
    path = save(tmp_path / "in" / "a.jpg", picture(scale=4))
    reduced = Frame(ImageFile(path, "a"), None, picture(scale=1), (256, 256))
    found = detections((2, 0.9, (20, 40, 200, 220)))
    write(tmp_path, [Result(reduced, found, Milliseconds(0, 0, 0))], ["images"])
    drawn = cv2.imread(str(tmp_path / "annotated" / "a.jpg"))
    assert drawn.shape == (256, 256, 3)
    assert drawn[120:140, 18:23].max() > 60  # the left edge
    assert drawn[100:150, 100:150].max() < 40


def frames(name: str, count: int, side: int = 64) -> list[Result]:
    source = VideoFile(Path(f"{name}.mp4"), name)
    image = np.zeros((side, side, 3), np.uint8)
    return [result(source, detections(), index=index, image=image) for index in range(count)]


def read_video(path: Path) -> tuple[int, float, tuple[int, int]]:
    capture = cv2.VideoCapture(str(path))
    rate, count, size = capture.get(cv2.CAP_PROP_FPS), 0, (0, 0)
    while (frame := capture.read())[0]:
        count, size = count + 1, frame[1].shape[:2]
    capture.release()
    return count, rate, size


def test_annotated_videos_one_after_the_other(tmp_path):
    save(tmp_path / "in" / "p.png", picture())
    between = result(ImageFile(tmp_path / "in" / "p.png", "p"), detections(RED))
    write(tmp_path, [*frames("one", 4), between, *frames("two", 3, side=96)], ["images"])
    assert files_in(tmp_path / "annotated") == ["one.webm", "p.jpg", "two.webm"]
    assert read_video(tmp_path / "annotated" / "one.webm") == (4, 10.0, (64, 64))
    assert read_video(tmp_path / "annotated" / "two.webm") == (3, 10.0, (96, 96))


def test_a_frame_of_another_size_is_fitted(tmp_path):
    first, second = frames("one", 2)
    larger = Frame(first.frame.source, 1, np.zeros((128, 128, 3), np.uint8), (128, 128), 10.0)
    write(tmp_path, [first, Result(larger, second.answer, second.milliseconds)], ["images"])
    assert read_video(tmp_path / "annotated" / "one.webm") == (2, 10.0, (64, 64))


def test_an_error_leaves_what_was_there_before(tmp_path, items):
    out = tmp_path / "out"
    write(out, items[:1])
    before = {name: (out / name).read_bytes() for name in files_in(out)}

    def interrupted() -> None:
        with open_writers(ALL, out, PREDICTOR, [items[0].frame.source]) as opened:
            for item in (items[2], *frames("clip", 2)):
                for writer in opened:
                    writer.add(item)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    # Pictures and label files are whole one by one; nothing else is new, nothing is half-written.
    new = {"annotated/deep/b.jpg", "yolo_labels/deep/b.txt", "yolo_labels/clip.mp4/000000.txt"}
    assert set(files_in(out)) == before.keys() | new | {"yolo_labels/clip.mp4/000001.txt"}
    assert {name: (out / name).read_bytes() for name in before} == before


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for kind in ALL:
        with pytest.raises(DataError, match="is a file; expected a folder"):
            write(tmp_path / "file", frames("clip", 1), [kind])
    assert files_in(tmp_path) == ["file"]


class FullStream(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


def test_a_full_disk(tmp_path, monkeypatch):
    def full(self, *_args, **_options):
        self.touch()
        return FullStream()

    monkeypatch.setattr(Path, "open", full)
    for kind, name in (("json", "detections.json"), ("csv", "detections.csv")):
        with pytest.raises(DataError) as caught:
            write(tmp_path, frames("clip", 1), [kind])
        assert str(caught.value) == f"{tmp_path / name}: cannot be written: No space left on device"
    assert not (tmp_path / "detections.json").exists()


def test_sources_are_never_overwritten(tmp_path):
    path = save(tmp_path / "annotated" / "a.jpg", picture())
    with pytest.raises(DataError) as caught:
        write(tmp_path, [result(ImageFile(path, "a"), detections())], ["images"])
    assert str(caught.value) == (
        f"{path}: lies in {tmp_path / 'annotated'}, where annotated pictures are written, and could be "
        "overwritten; choose another --out folder"
    )


def test_unknown_kind(tmp_path):
    with pytest.raises(ConfigError) as caught:
        write(tmp_path, [], ["json", "xml"])
    assert str(caught.value) == "cannot save 'xml' of a detector; expected some of: images, json, csv, coco, yolo"
    assert PREDICTOR.task.kinds == ALL
    assert files_in(tmp_path) == []


def test_names_that_are_no_text_are_escaped(tmp_path):
    source = ImageFile(Path("\udcff.png"), "p")
    write(tmp_path, [result(source, detections(RED))], ["json", "csv", "coco"])
    assert json.loads((tmp_path / "detections.json").read_text())["pictures"][0]["file"] == "\udcff.png"
    assert json.loads((tmp_path / "detections_coco.json").read_text())["images"][0]["file_name"] == "\udcff.png"
    assert "\\udcff.png" in (tmp_path / "detections.csv").read_text()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond `size` bytes, as if the disk were full."""
    resource = pytest.importorskip("resource", reason="Windows has no limit of a file's size")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", ALL)
def test_a_full_disk_is_an_error_and_leaves_no_half_of_a_file(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 256, (240, 240, 3), np.uint8)
    source = VideoFile(Path("noise.mp4"), "noise")
    items = [result(source, detections(*[RED] * 90), index=index, image=noise) for index in range(40)]
    with full_disk(3000), pytest.raises(DataError, match="cannot be written"):
        write(tmp_path, items, [kind])
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.stat().st_size >= 3000]
    assert not list(tmp_path.rglob("*.part*"))
