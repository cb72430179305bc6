"""The learning curve in the report: found beside the run or named, told with intervals, refused where it is none."""

import json
from pathlib import Path

import pytest

from falconet.api.curve_picture import picture
from falconet.api.report_curve import own_curve, read_curve
from falconet.core.errors import ConfigError
from falconet.core.run_files import CURVE, CURVE_PICTURE
from falconet.eval.report import render
from falconet.eval.report_content import Report
from tests.api.test_curve import made
from tests.eval.test_report import parse

MODEL, TRAIN = {"name": "tiny", "width": 1.0}, {"annotations": "train.json", "images": None}


def drawn(folder: Path, *, model: dict[str, object] = MODEL, values: tuple[float, ...] = (0.3, 0.4, 0.5, 0.55)) -> Path:
    """The folder of a finished curve."""
    done = made({"<i>ant</i>": list(values), "bee": [0.5, 0.52, 0.53, 0.54]})
    folder.mkdir(parents=True)
    told = {"run": {"model": model, "data": {"train": TRAIN}}, **done.as_dict()}
    (folder / CURVE).write_text(json.dumps(told))
    (folder / CURVE_PICTURE).write_text(picture(done))
    return folder


def run_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "run.yaml").write_text(json.dumps({"model": MODEL, "data": {"train": TRAIN}}))
    return path


def test_the_section_has_the_picture_the_sentences_and_a_row_for_each_class(tmp_path: Path) -> None:
    found = read_curve(drawn(tmp_path / "curve"))
    tags = parse(render(Report("r", [], learning_curve=found)))
    text = " ".join("".join(tags.text).split())
    assert "What more pictures would give" in text
    assert all(sentence in text for sentence in found.sentences)
    assert "twice, 400" in text
    assert "four times, 800" in text
    assert "<i>ant</i>" in text  # escaped, and so a text
    assert str(found.expected["bee"][2].interval) in text
    (address,) = tags.addresses
    assert address.startswith("data:image/svg+xml;base64,")


def test_trainings_that_are_too_short_give_no_table(tmp_path: Path) -> None:
    found = read_curve(drawn(tmp_path / "curve", values=(0.7, 0.6, 0.5, 0.2)))
    assert not found.expected
    page = render(Report("r", [], learning_curve=found))
    assert "say nothing about more pictures" in page
    assert "four times," not in page


def test_a_curve_of_the_same_network_and_data_is_found(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "runs" / "mine")
    assert own_curve(None) is None
    assert own_curve(run) is None
    drawn(tmp_path / "runs" / "other-curve", model={"name": "another"})
    (tmp_path / "runs" / "broken").mkdir()
    (tmp_path / "runs" / "broken" / CURVE).write_text("[")
    (tmp_path / "runs" / "begun").mkdir()
    begun = {"run": {"model": MODEL, "data": {"train": TRAIN}}, "plan": {}, "trainings": []}
    (tmp_path / "runs" / "begun" / CURVE).write_text(json.dumps(begun))
    assert own_curve(run) is None
    drawn(tmp_path / "runs" / "mine-curve")
    found = own_curve(run)
    assert found is not None
    assert found.total == 200
    # A training of the curve itself, and a curve within the run's folder.
    assert own_curve(run_folder(tmp_path / "runs" / "mine-curve" / "seed-0-pictures-200")) is not None
    alone = run_folder(tmp_path / "elsewhere" / "runs" / "mine")
    drawn(alone / "curve")
    assert own_curve(alone) is not None


def test_a_folder_that_holds_no_curve_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no curve\.json; expected the folder of 'falconet data curve'"):
        read_curve(tmp_path)
    (tmp_path / CURVE).write_text(json.dumps({"run": {}, "plan": {}, "trainings": []}))
    with pytest.raises(ConfigError, match="its trainings are not finished; the same 'falconet data curve' command"):
        read_curve(tmp_path)
    (tmp_path / CURVE).write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_curve(tmp_path)
