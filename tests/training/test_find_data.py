"""`data=photos`: what trains and what validates, in the forms that people have their data in."""

import json
from pathlib import Path

import pytest

from falconet.core.errors import ConfigError
from falconet.data.check import open_splits
from falconet.data.convert import Written, convert
from falconet.training import read_run
from falconet.training.run_config import Data
from falconet.training.run_data import load_data
from tests.training.tiny import draw
from tests.training.tiny_classifier import draw_colours


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train.json and val.json with their folders of pictures beside them."""
    return draw(tmp_path_factory.mktemp("coco"), train=6, val=3)


def asked(*overrides: str, preset: str = "nanodet-plus-demo") -> Data:
    return read_run(preset, list(overrides)).data


def test_train_and_val_of_a_folder(coco: Path) -> None:
    data = asked(f"data={coco}")
    assert (data.train.annotations, data.train.split) == (coco, "train")
    assert data.val is not None
    assert (data.val.annotations, data.val.split) == (coco, "val")
    found = load_data(data)
    assert (len(found.train), len(found.val)) == (6, 3)


@pytest.mark.parametrize("form", ["yolo", "voc"])
def test_other_formats(coco: Path, tmp_path: Path, form: Written) -> None:
    convert(open_splits(coco), form, tmp_path / form)
    found = load_data(asked(f"data={tmp_path / form}"))
    assert (len(found.train), len(found.val)) == (6, 3)


def test_a_file_or_a_folder_without_splits_is_divided(coco: Path) -> None:
    data = asked(f"data={coco}/train.json")
    assert data.val is None
    found = load_data(data)
    assert (len(found.train), len(found.val)) == (5, 1)
    assert any("1 of 6 pictures are set aside" in note for note in found.notes)


def test_a_test_split_is_kept_for_the_end(coco: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, source in (("train", "train"), ("test", "val")):
        (tmp_path / f"{name}.json").write_text((coco / f"{source}.json").read_text())
        (tmp_path / name).symlink_to(coco / source)
    caplog.set_level("INFO")
    data = asked(f"data={tmp_path}")
    assert data.train.split == "train"
    assert data.val is None
    assert "to validate on test instead: data.val.split=test" in caplog.text
    data = asked("data.val.split=test", f"data={tmp_path}")
    assert data.val is not None
    assert (data.val.annotations, data.val.split) == (tmp_path, "test")
    assert len(load_data(data).val) == 3


def test_any_mixture_in_any_order(coco: Path) -> None:
    options = [f"data.val={coco}/val.json", "data.train.images=elsewhere", f"data={coco}/train.json"]
    for order in (options, options[::-1]):
        data = asked(*order)
        assert data.train.annotations == coco / "train.json"
        assert data.train.images == Path("elsewhere")
        assert data.val is not None
        assert data.val.annotations == coco / "val.json"


def test_in_a_run_file(coco: Path, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(f"model: {{name: nanodet-plus}}\ndata: {json.dumps(str(coco))}\n")
    data = read_run(tmp_path / "run.yaml", ["data.val_fraction=0.3"]).data
    assert data.train.split == "train"
    assert data.val is not None
    assert data.val_fraction == 0.3


def test_a_classifier(tmp_path: Path) -> None:
    draw_colours(tmp_path / "all" / "train", count=2)
    draw_colours(tmp_path / "all" / "valid", count=1)
    data = asked(f"data={tmp_path}/all", preset="mobilenet-v2-0.5")
    assert data.train.annotations == tmp_path / "all" / "train"
    assert data.val is not None
    assert data.val.annotations == tmp_path / "all" / "valid"
    # Without a folder called train, the folders are classes, whatever they are called.
    data = asked(f"data={tmp_path}/all/train", preset="mobilenet-v2-0.5")
    assert data.train.annotations == tmp_path / "all" / "train"
    assert data.val is None


def test_errors_are_for_people(coco: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data=nowhere: no such file or folder; expected a data set"):
        asked("data=nowhere")
    for name in ("day", "night"):
        (tmp_path / f"{name}.json").write_text((coco / "val.json").read_text())
    with pytest.raises(ConfigError, match=r"holds day, night, but no split called train; say which .*split=day"):
        asked(f"data={tmp_path}")
    with pytest.raises(ConfigError, match="the data is missing; add data=FOLDER"):
        asked()
