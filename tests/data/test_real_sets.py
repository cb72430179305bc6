"""The real data sets beside the repository: what their README says, and what is in the files."""

from pathlib import Path

import numpy as np
import pytest

from falconet.core import images
from falconet.core.images import image_size, read_image
from falconet.data.check import class_counts, open_splits
from falconet.data.convert import convert
from falconet.data.formats import open_dataset
from tests.data.build import mistakes

SHARED = Path(__file__).parents[3] / "shared" / "datasets"

pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real data sets are not in {SHARED}")


def test_bccd() -> None:
    splits = open_splits(SHARED / "bccd")
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 205, "val": 87, "test": 72}
    everything = open_dataset(SHARED / "bccd")
    assert sum(class_counts(everything).values()) == 4888
    assert everything.names == ("Platelets", "RBC", "WBC")
    problems = mistakes(splits, decode=False)
    assert sum(problem.kind == "drawn-twice" for problem in problems) == 7
    others = [problem for problem in problems if problem.kind != "drawn-twice"]
    assert [(problem.kind, problem.where.rpartition("/")[2]) for problem in others] == [
        ("no-area", "BloodImage_00343.xml:50"),
        ("no-area", "BloodImage_00338.xml:158"),
    ]


def test_fruit() -> None:
    splits = open_splits(SHARED / "fruit")
    assert {name: len(dataset) for name, dataset in splits.items()} == {"test": 60, "train": 240}
    assert sum(sum(class_counts(dataset).values()) for dataset in splits.values()) == 582
    assert splits["train"].names == ("apple", "banana", "orange")
    # Pictures of several formats, many of them PNG under the name of JPEG, and one with chroma at 4 x 2.
    problems = mistakes(splits)
    assert [problem for problem in problems if problem.kind not in ("broken-file", "wrong-size")] == []
    sizes = {record.path: (record.height, record.width) for dataset in splits.values() for record in dataset.records}
    broken = [problem.what for problem in problems]
    for path, size in list(sizes.items())[::10]:
        if not any(path.name in text for text in broken):
            assert read_image(path)[1] == image_size(path) == size


def test_coco_val_mini() -> None:
    splits = open_splits(SHARED / "coco-val-mini")
    (dataset,) = splits.values()
    assert (len(dataset), len(dataset.names), sum(class_counts(dataset).values())) == (122, 80, 854)
    assert {problem.kind for problem in mistakes(splits)} == {"unused-class", "two-classes"}


@pytest.mark.parametrize("name", ["bccd", "coco-val-mini"])
def test_both_decoders_agree(name: str) -> None:
    for record in open_dataset(SHARED / name).records[::15]:
        image, _ = read_image(record.path)
        other = images._decode_with_opencv(record.path.read_bytes(), record.path.name)
        assert np.abs(image.astype(int) - other).mean() < 1


def test_bccd_as_yolo_and_coco(tmp_path: Path) -> None:
    source = {"val": open_dataset(SHARED / "bccd", split="val")}
    convert(source, "yolo", tmp_path / "yolo", transfer="link")
    convert(open_splits(tmp_path / "yolo"), "coco", tmp_path / "coco", transfer="link")
    dataset = open_dataset(tmp_path / "coco")
    assert dataset.names == source["val"].names
    assert sum(class_counts(dataset).values()) == 1138 - 1
    np.testing.assert_allclose(dataset.records[0].boxes, source["val"].records[0].boxes, atol=1e-3)
