"""Pictures that look alike, show nothing, or are unlike the rest."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from falconet.core.images import read_image, write_image
from falconet.core.types import Pixels, Record
from falconet.data.check import check_splits, open_splits
from falconet.data.looks import LEAST, Look, alike, look_problems
from tests.data.build import coco_tree, voc_text, write_coco, write_voc


def scene(seed: int, *, height: int = 120, width: int = 160) -> Pixels:
    """Blobs of colour, different for each seed."""
    chance = np.random.default_rng(seed)
    coarse = chance.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(image + chance.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def record(name: str) -> Record:
    nothing = np.zeros((0, 4), np.float32)
    return Record(name, Path(name), 160, 120, nothing, np.zeros(0, np.int64), np.zeros(0, np.bool_), source=name)


def kinds(images: list[Pixels]) -> list[tuple[str, str]]:
    parts = [(record(f"{number}.png"), Look.of(image)) for number, image in enumerate(images)]
    return [(problem.kind, problem.where) for problem in look_problems({"train": parts})]


def test_other_pictures_do_not_look_alike() -> None:
    assert alike([Look.of(scene(seed)) for seed in range(300)]) == []


@pytest.mark.parametrize("change", ["smaller", "jpeg", "brighter", "noise"])
def test_the_same_picture_in_another_form(change: str) -> None:
    image = scene(1)
    if change == "smaller":
        other = cv2.resize(image, (80, 60), interpolation=cv2.INTER_AREA)
    elif change == "jpeg":
        other = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    elif change == "brighter":
        other = np.clip(image.astype(np.int16) + 12, 0, 255).astype(np.uint8)
    else:
        other = np.clip(image + np.random.default_rng(2).normal(0, 8, image.shape), 0, 255).astype(np.uint8)
    looks = [Look.of(scene(seed)) for seed in range(2, 30)]
    looks.insert(7, Look.of(image))
    assert alike([*looks, Look.of(np.asarray(other, np.uint8))]) == [(7, 29)]


def test_flat_pictures_are_told_and_do_not_look_alike() -> None:
    flat, dark = np.full((60, 80, 3), 90, np.uint8), (scene(3) // 25).astype(np.uint8)
    assert kinds([flat, flat.copy(), dark]) == [
        ("flat-picture", "0.png"),
        ("flat-picture", "1.png"),
        ("flat-picture" if Look.of(dark).deviation < 3 else "dark-picture", "2.png"),
    ]
    night = (scene(3) // 12).astype(np.uint8)
    assert kinds([night]) == [("dark-picture", "0.png")]


def test_a_blurred_picture_and_a_grey_one_among_others() -> None:
    images = [scene(seed) for seed in range(LEAST + 5)]
    images[4] = cv2.GaussianBlur(images[4], (0, 0), 12)
    images[9] = np.repeat(cv2.cvtColor(images[9], cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
    assert kinds(images) == [("blurred-picture", "4.png"), ("odd-colour", "9.png")]
    assert kinds(images[:10]) == []  # too few to say what is usual


def test_a_coloured_picture_among_grey_ones() -> None:
    grey = [np.repeat(cv2.cvtColor(scene(n), cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2) for n in range(LEAST + 5)]
    assert kinds([*grey, scene(99)]) == [("odd-colour", f"{LEAST + 5}.png")]


def test_a_picture_of_another_split_in_another_form(tmp_path: Path) -> None:
    root = write_voc(
        tmp_path / "voc",
        {name: voc_text([("x", 1, 1, 20, 20)], size="160 120") for name in ("a", "b", "c")},
        {"train": ["a", "b"], "val": ["c"]},
    )
    for name, seed in (("a", 1), ("b", 2), ("c", 1)):
        write_image(root / "JPEGImages" / f"{name}.jpg", scene(seed))
    again = read_image(root / "JPEGImages" / "a.jpg")[0]
    write_image(root / "JPEGImages" / "c.jpg", again, jpeg_quality=50)
    (problem,) = (one for one in check_splits(open_splits(root)) if one.kind == "similar-in-splits")
    assert "c.jpg in split 'val' looks like" in problem.what


def test_copies_are_told_once(tmp_path: Path) -> None:
    path = write_coco(
        tmp_path / "x.json", coco_tree({name: [(0, 1, 1, 20, 20)] for name in ("a.png", "b.png", "c.png")})
    )
    for name, seed in (("a.png", 1), ("b.png", 2), ("c.png", 1)):
        (found,) = tmp_path.rglob(name)
        write_image(found, scene(seed))
    found_kinds = [one.kind for one in check_splits(open_splits(path))]
    assert "duplicate-file" in found_kinds
    assert "similar-pictures" not in found_kinds
    (third,) = tmp_path.rglob("c.png")
    write_image(third, np.clip(scene(1).astype(np.int16) + 2, 0, 255).astype(np.uint8))
    (hint,) = (one for one in check_splits(open_splits(path)) if one.kind == "similar-pictures")
    assert hint.what.startswith("1 picture of 3 in split 'all' looks almost like another one of it, for example c.png")
