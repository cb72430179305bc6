"""Small data sets on disk, written by hand: of the package the picture writer alone takes part in that."""

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from falconet.core.images import encode_image, write_image
from falconet.data.check import check_splits
from falconet.data.dataset import DataSet, Problem
from falconet.data.kinds import HINTS


def mistakes(splits: Mapping[str, DataSet], **options: bool) -> list[Problem]:
    """What is wrong with a data set; hints, which small sets of flat pictures give many of, are left out."""
    return [problem for problem in check_splits(splits, **options) if problem.kind not in HINTS]


Box = tuple[int, float, float, float, float]
"""class index, x1, y1, x2, y2"""


def picture(path: Path, height: int = 40, width: int = 60, value: int = 90) -> Path:
    """A picture file whose content depends on `value`."""
    write_image(path, np.full((height, width, 3), value, np.uint8))
    return path


def coco_tree(pictures: dict[str, Sequence[Box]], names: Sequence[str] = ("cat", "dog")) -> dict[str, Any]:
    """A COCO tree of 60 x 40 pictures with boxes."""
    images = [{"id": i, "file_name": name, "width": 60, "height": 40} for i, name in enumerate(pictures, start=1)]
    annotations: list[dict[str, Any]] = []
    for image_id, boxes in enumerate(pictures.values(), start=1):
        for label, x1, y1, x2, y2 in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": label + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories = [{"id": i, "name": name} for i, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_coco(path: Path, tree: dict[str, Any], *, folder: str = "images") -> Path:
    """The tree as a file, and its pictures (each of another grey) in `folder` beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(tree), encoding="utf-8")
    for image in tree["images"]:
        value = sum(image["file_name"].encode()) % 200 + 20
        picture(path.parent / folder / image["file_name"], image["height"], image["width"], value)
    return path


def voc_text(boxes: Sequence[tuple[str, float, float, float, float]], *, extra: str = "", size: str = "60 40") -> str:
    """An annotation, one line per object from line 3 on."""
    width, height = size.split()
    lines = [f"<annotation><filename>x.png</filename>{extra}"]
    lines.append(f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>")
    for name, x1, y1, x2, y2 in boxes:
        corners = f"<xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        lines.append(f"<object><name>{name}</name><bndbox>{corners}</bndbox></object>")
    return "\n".join([*lines, "</annotation>"])


def write_voc(root: Path, annotations: dict[str, str], splits: dict[str, list[str]] | None = None) -> Path:
    """A VOC root with a 60 x 40 picture for each annotation text."""
    (root / "Annotations").mkdir(parents=True)
    for number, (stem, text) in enumerate(annotations.items()):
        (root / "Annotations" / f"{stem}.xml").write_text(text, encoding="utf-8")
        picture(root / "JPEGImages" / f"{stem}.png", value=20 + number)
    for split, stems in (splits or {}).items():
        folder = root / "ImageSets" / "Main"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    return root


def write_yolo(root: Path, labels: dict[str, str], *, yaml: str | None = None, split: str = "train") -> Path:
    """A YOLO folder with a 60 x 40 picture for each label text."""
    for number, (stem, text) in enumerate(labels.items()):
        picture(root / "images" / split / f"{stem}.png", value=20 + number)
        file = root / "labels" / split / f"{stem}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    text = f"{split}: images/{split}\nnames: [cat, dog]\n" if yaml is None else yaml
    (root / "data.yaml").write_text(text, encoding="utf-8")
    return root / "data.yaml"


def write_tar(path: Path, members: Mapping[str, bytes | str]) -> Path:
    """A tar of these members, in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            about = tarfile.TarInfo(name)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return path


def png(value: int = 90, height: int = 40, width: int = 60) -> bytes:
    """A picture's file whose content depends on `value`."""
    return encode_image(np.full((height, width, 3), value, np.uint8), ".png")
