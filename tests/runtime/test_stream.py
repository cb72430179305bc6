import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.runtime.stream import (
    Broken,
    Camera,
    Frame,
    ImageFile,
    VideoFile,
    count_frames,
    find_sources,
    read_frames,
)
from tests.runtime.tiny_model import picture, save

ENDINGS = (
    ".avif, .bmp, .dib, .gif, .jfif, .jp2, .jpe, .jpeg, .jpg, .mpo, .pbm, .pgm, .pjp, .pjpeg, .png, .pnm, .ppm, .tif, "
    ".tiff, .webp or a video's, such as .mp4"
)


def write_video(path: Path, frames: int = 5, side: int = 64) -> Path:
    """A video whose frame i has grey level 20 * i (modulo 256)."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (side, side))
    assert writer.isOpened()
    for index in range(frames):
        writer.write(np.full((side, side, 3), 20 * index % 256, np.uint8))
    writer.release()
    return path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names(sources) -> list[str]:
    return [source.name for source in sources]


def test_a_folder_by_name_without_hidden_and_other_files(tmp_path):
    touch(*(tmp_path / n for n in ("b.JPG", "a.png", ".hidden.jpg", "notes.txt", "c.mp4", "deep/d.jpg", ".x/e.jpg")))
    found = find_sources([tmp_path])
    assert names(found) == ["a", "b", "c"]
    assert [type(source) for source in found] == [ImageFile, ImageFile, VideoFile]
    assert names(find_sources([str(tmp_path)], recursive=True)) == ["a", "b", "c", "deep/d"]


def test_what_is_left_out_is_counted_and_named(tmp_path):
    kept = ("a.jfif", "b.MPO", "c.gif", "d.jp2", "e.avif", "f.mp4")
    left = ("g.heic", "h.HEIC", "i", "j.txt", "Thumbs.db", "README.md", ".hidden", "deep/k.jpg")
    touch(*(tmp_path / name for name in (*kept, *left)))
    said = []
    assert len(find_sources([tmp_path], tell=said.append)) == len(kept)
    assert said == [
        f"{tmp_path}: 4 files are neither pictures nor videos that can be read, and left out "
        "(.heic 2, without ending 1, .txt 1): g.heic, h.HEIC, i, j.txt",
        f"{tmp_path}: its folders are not looked into without --recursive: deep",
    ]
    said.clear()
    find_sources([f"{tmp_path}/[fi]*"], tell=said.append)
    assert said == [
        f"{tmp_path}/[fi]*: 1 file is neither picture nor video that can be read, and left out: {tmp_path / 'i'}"
    ]
    find_sources([tmp_path / "a.jfif", tmp_path / "i"], tell=said.append)
    assert len(said) == 1


def test_globs(tmp_path):
    touch(*(tmp_path / n for n in ("x/a.jpg", "x/b.png", "y/a.jpg", "y/notes.txt")))
    assert names(find_sources([f"{tmp_path}/x/*.jpg"])) == ["a"]
    assert names(find_sources([f"{tmp_path}/**/*"])) == ["x/a", "x/b", "y/a"]
    assert names(find_sources([f"{tmp_path}/y/*"])) == ["a"]


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    touch(tmp_path / "a[1].jpg")
    assert names(find_sources([tmp_path / "a[1].jpg"])) == ["a[1]"]


def test_each_file_once_and_each_name_once(tmp_path, monkeypatch):
    touch(*(tmp_path / n for n in ("x/a.jpg", "x/a.png", "x/A_2.jpg", "y/a.jpg")))
    monkeypatch.chdir(tmp_path)
    found = find_sources(["x/a.jpg", tmp_path / "x", "y/a.jpg", "x/../y/a.jpg"])
    assert [Path(source.path).as_posix().rpartition("x/")[2] for source in found[:1]] == ["a.jpg"]
    assert names(found) == ["a", "A_2", "a_3", "a_4"]
    assert len({os.path.normpath(source.path.absolute()) for source in found}) == 4


def test_cameras(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_sources(["0", "00", "1"]) == [Camera(0, "camera_0"), Camera(1, "camera_1")]
    touch(tmp_path / "0")
    assert find_sources(["0"]) == [ImageFile(Path("0"), "0")]


def test_a_camera_that_is_not_there(capfd):
    (item,) = read_frames([Camera(99, "camera_99")])
    capfd.readouterr()
    assert isinstance(item, Broken)
    assert str(item.error) == (
        "camera 99: cannot be opened; expected the number of a connected camera that no other program uses"
    )
    assert count_frames([Camera(99, "camera_99")]) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to detect in; expected files, folders, globs or the number of a camera"),
        (["none.jpg"], "none.jpg: no such file or folder; expected a picture, a video, a folder or a glob"),
        ([""], "an empty name was given; expected a file, a folder, a glob or the number of a camera"),
        (["*.tga"], f"*.tga: matches no pictures or videos; expected files ending in {ENDINGS}"),
        (
            ["empty"],
            f"empty: has no pictures or videos; expected files ending in {ENDINGS}; "
            "look into its folders too with --recursive",
        ),
    ],
)
def test_nothing_to_read(tmp_path, monkeypatch, arguments, message):
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "a.tga")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        find_sources(arguments)
    assert str(caught.value) == message


def test_an_empty_folder_that_was_searched_deeply(tmp_path):
    with pytest.raises(DataError) as caught:
        find_sources([tmp_path], recursive=True)
    assert str(caught.value) == f"{tmp_path}: has no pictures or videos; expected files ending in {ENDINGS}"


def test_reading_is_lazy_and_goes_on_after_a_broken_picture(tmp_path):
    good = save(tmp_path / "a.png", picture((0, 0, "red")))
    touch(tmp_path / "b.jpg")
    last = save(tmp_path / "c.png", picture((0, 0, "blue")))
    frames = read_frames(find_sources([tmp_path]))
    first = next(frames)
    assert isinstance(first, Frame)
    assert (first.source.path, first.index, first.original) == (good, None, (128, 128))
    last.unlink()
    broken, gone = frames
    assert isinstance(broken, Broken)
    assert str(broken.error) == f"{tmp_path / 'b.jpg'}: is empty; expected a picture"
    assert str(gone.error) == f"{last}: no such picture file"


def test_reduced_scale(tmp_path):
    path = save(tmp_path / "a.jpg", picture(scale=10))
    (frame,) = read_frames(find_sources([path]), at_least=(64, 64))
    assert 64 <= frame.image.shape[0] < 640
    assert frame.original == (640, 640)


def test_a_video(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    sources = find_sources([path])
    assert count_frames(sources) == 5
    frames = list(read_frames(sources))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert {frame.original for frame in frames} == {(64, 64)}
    assert frames[0].rate == pytest.approx(10)
    levels = [float(frame.image.mean()) for frame in frames]
    np.testing.assert_allclose(levels, [0, 20, 40, 60, 80], atol=4)


def test_a_video_whose_name_looks_like_an_address(tmp_path, monkeypatch):
    write_video(tmp_path / "clip.mp4").rename(tmp_path / "2024-01-01T12:30:00.mp4")
    monkeypatch.chdir(tmp_path)
    sources = find_sources(["2024-01-01T12:30:00.mp4", "./2024-01-01T12:30:00.mp4"])
    assert count_frames(sources) == 5
    assert [frame.index for frame in read_frames(sources)] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("step", "rate"), [(33, 1000 / 33), (1, None), (0, None), (np.nan, None)])
def test_a_rate_that_is_only_a_clock(tmp_path, monkeypatch, step, rate):
    """A browser's recording claims 1000 frames per second; its time stamps tell the rate, if anything does."""

    class Recording:
        def __init__(self, address):
            self._capture = real(address)

        def get(self, what):
            if what == cv2.CAP_PROP_FPS:
                return 1000.0
            milliseconds = step * self._capture.get(cv2.CAP_PROP_POS_FRAMES)
            return milliseconds if what == cv2.CAP_PROP_POS_MSEC else self._capture.get(what)

        def __getattr__(self, name):
            return getattr(self._capture, name)

    real = cv2.VideoCapture
    path = write_video(tmp_path / "clip.mp4")
    monkeypatch.setattr(cv2, "VideoCapture", Recording)
    frames = list(read_frames([VideoFile(path, "clip")]))
    assert [frame.index for frame in frames] == [0, 1, 2, 3, 4]
    assert frames[0].rate == (rate if rate is None else pytest.approx(rate))


def test_a_broken_video(tmp_path, capfd):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not a video" * 50)
    sources = find_sources([path])
    assert count_frames(sources) == 1
    (item,) = read_frames(sources)
    capfd.readouterr()
    assert str(item.error) == (
        f"{path}: cannot be opened as a video; the file is damaged, or in a format OpenCV does not know"
    )
    (item,) = read_frames([VideoFile(tmp_path / "none.mp4", "none")])
    assert str(item.error) == f"{tmp_path / 'none.mp4'}: no such video file"
    capfd.readouterr()
