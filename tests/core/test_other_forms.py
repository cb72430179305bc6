"""Detections as other programs take them."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from falconet.core import other_forms
from falconet.core.errors import ConfigError, DataError
from falconet.core.images import write_image
from falconet.core.types import Detections

NAMES = ("person", "car")
COLUMNS = ["file", "class", "label", "score", "x1", "y1", "x2", "y2"]


def found(count: int = 2, source: object = Path("street.jpg")) -> Detections:
    boxes = np.array([[10, 20, 50, 40], [0, 0, 100, 80.5]], np.float32)[:count]
    return Detections(boxes, np.array([0.5, 0.25], np.float32)[:count], np.array([1, 0])[:count], NAMES, source)


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
@pytest.mark.parametrize("count", [2, 0])
def test_tables(kind: str, count: int) -> None:
    table = getattr(found(count), f"to_{kind}")()
    names = table.column_names if kind == "arrow" else list(table.columns)
    assert names == COLUMNS
    assert len(table) == count
    rows = (
        table.to_dict("records") if kind == "pandas" else (table.to_pylist() if kind == "arrow" else table.to_dicts())
    )
    if count:
        assert rows[0] == {
            "file": "street.jpg",
            "class": "car",
            "label": 1,
            "score": 0.5,
            "x1": 10.0,
            "y1": 20.0,
            "x2": 50.0,
            "y2": 40.0,
        }


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow"])
def test_tables_of_several_pictures_fit_together(kind: str) -> None:
    """Also where one of them holds nothing, or was given as pixels."""
    tables = [getattr(one, f"to_{kind}")() for one in (found(), found(0), found(1, np.zeros((4, 4, 3), np.uint8)))]
    module = import_module({"arrow": "pyarrow"}.get(kind, kind))
    joined = module.concat_tables(tables) if kind == "arrow" else module.concat(tables)
    assert len(joined) == 3


def test_supervision() -> None:
    made = found().to_supervision()
    np.testing.assert_array_equal(made.xyxy, found().boxes)
    np.testing.assert_array_equal(made.class_id, [1, 0])
    np.testing.assert_allclose(made.confidence, [0.5, 0.25])
    assert list(made.data["class_name"]) == ["car", "person"]
    assert len(made[made.confidence > 0.3]) == 1
    assert len(found(0).to_supervision()) == 0


def test_coco() -> None:
    assert found().to_coco(7) == [
        {"image_id": 7, "category_id": 2, "bbox": [10, 20, 40, 20], "score": 0.5},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 100, 80.5], "score": 0.25},
    ]


def test_yolo(tmp_path: Path) -> None:
    expected = "1 0.300000 0.300000 0.400000 0.200000 0.5000\n0 0.500000 0.402500 1.000000 0.805000 0.2500\n"
    assert found().to_yolo((100, 100)) == expected
    assert found(source=np.zeros((100, 100, 3), np.uint8)).to_yolo() == expected
    write_image(tmp_path / "a.png", np.zeros((100, 100, 3), np.uint8))
    assert found(source=tmp_path / "a.png").to_yolo() == expected
    assert found(0).to_yolo((100, 100)) == ""
    with pytest.raises(DataError, match=r"expected size=\(height, width\) in pixels"):
        found(source=None).to_yolo()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_forms, "find_spec", lambda _: None)
    for kind, name in (("pandas", "pandas"), ("arrow", "pyarrow"), ("supervision", "supervision")):
        with pytest.raises(ConfigError, match=f"{name} is not installed; install it with: pip install {name}"):
            getattr(found(), f"to_{kind}")()


def test_nothing_is_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, falconet; from falconet.core.types import Detections; import numpy as n; "
        "Detections(n.zeros((1, 4)), n.ones(1), n.zeros(1)).to_coco(1); "
        "assert not {'pandas', 'polars', 'pyarrow', 'supervision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
