"""The drawn data set: the same bytes for the same seed, and boxes that say the truth."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from falconet.core.errors import DataError
from falconet.data.check import open_splits
from falconet.data.drawn import NAMES, SMALLEST, draw_sample, write_drawn_dataset
from tests.data.build import mistakes

SIZE = (96, 128)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_same_seed_same_bytes_whatever_the_count(tmp_path: Path) -> None:
    write_drawn_dataset(tmp_path / "a", train=4, val=2, seed=3, size=SIZE)
    write_drawn_dataset(tmp_path / "b", train=4, val=2, seed=3, size=SIZE)
    write_drawn_dataset(tmp_path / "c", train=2, val=2, seed=3, size=SIZE)
    write_drawn_dataset(tmp_path / "d", train=4, val=2, seed=4, size=SIZE)
    first = _digests(tmp_path / "a")
    assert len(first) == 4 + 2 + 2
    assert _digests(tmp_path / "b") == first
    pictures = {name: digest for name, digest in _digests(tmp_path / "c").items() if name.endswith(".jpg")}
    assert pictures.items() <= first.items()
    assert not set(_digests(tmp_path / "d").values()) & set(first.values())
    assert len(set(first.values())) == len(first)


def test_the_data_set_has_no_problems(tmp_path: Path) -> None:
    write_drawn_dataset(tmp_path, train=40, val=10, size=SIZE)
    splits = open_splits(tmp_path)
    assert mistakes(splits) == []
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 40, "val": 10}
    assert splits["train"].names == NAMES


def test_boxes_lie_inside_and_have_the_sizes_promised() -> None:
    longest: list[float] = []
    for index in range(60):
        sample = draw_sample(0, "train", index, SIZE)
        assert sample.image.shape == (*SIZE, 3)
        assert (sample.boxes >= 0).all()
        assert (sample.boxes <= [SIZE[1], SIZE[0]] * 2).all()
        longest += (sample.boxes[:, 2:] - sample.boxes[:, :2]).max(1).tolist()
    # The picture's edge may cut a shape; a mask is a pixel wider than its shape.
    assert min(longest) >= SMALLEST * SIZE[0] * 0.7 - 1
    assert 0.45 * SIZE[0] < max(longest) <= 0.6 * SIZE[0] + 2
    assert np.quantile(longest, 0.2) < 0.2 * SIZE[0]  # sizes are evenly spread


def test_pictures_without_shapes_and_with_hidden_ones_occur() -> None:
    samples = [draw_sample(0, "train", index, SIZE) for index in range(80)]
    assert 1 <= sum(len(sample.boxes) == 0 for sample in samples) <= 20
    labels = np.concatenate([sample.labels for sample in samples])
    assert set(labels.tolist()) == set(range(len(NAMES)))


def test_boxes_are_tight_around_the_shapes() -> None:
    # A shape stands out from what it covers: across each side of a lone box the colours change.
    changes: list[float] = []
    for index in range(200):
        sample = draw_sample(1, "train", index, SIZE)
        if len(sample.boxes) != 1:
            continue
        x1, y1, x2, y2 = sample.boxes[0].astype(int).tolist()
        if x1 < 3 or x2 > SIZE[1] - 3 or x2 - x1 < 20:
            continue
        image = sample.image.astype(int)
        inner, outer = image[y1:y2, x1 + 1 : x1 + 3], image[y1:y2, x1 - 3 : x1 - 1]
        changes.append(float(np.abs(inner - outer).sum(-1).max()))
    assert len(changes) >= 5
    assert np.median(changes) > 60


@pytest.mark.parametrize("arguments", [{"train": 0}, {"val": 0}, {"size": (63, 320)}])
def test_refusals(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(
        DataError, match=r"out: cannot draw \d+ \+ \d+ pictures of \d+ x \d+ pixels; expected at least 1"
    ):
        write_drawn_dataset(tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
