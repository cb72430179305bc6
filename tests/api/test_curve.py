"""`falconet data curve`: parts of the pictures, minutes shared among trainings, one that goes on where it stopped."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from unittest.mock import Mock
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from falconet.api import curve as drawing
from falconet.api.curve import FIGURES, PICTURE, SUMMARY, Length, curve
from falconet.api.curve_picture import picture
from falconet.api.curve_plan import Plan, Speed, length, measure_speed, part_sizes, plan_minutes
from falconet.api.curve_result import Curve, Trained, curves_of, most_gaining, predictions
from falconet.cli import _register, app
from falconet.core.errors import ConfigError, DataError
from falconet.eval.bootstrap import Drawn
from falconet.training import read_run
from falconet.training.run_data import load_data
from tests.training.tiny import draw, options, tiny_run

_register()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("drawn"))


def words(data: Path, output: Path, *more: str) -> tuple[str, list[str]]:
    """Preset and changes of a tiny run, without its epochs."""
    preset, *overrides = options(data, output)
    return preset, [*(one for one in overrides if not one.startswith("train.epochs=")), *more]


def test_parts_double_up_to_the_whole() -> None:
    assert part_sizes(800) == (100, 200, 400, 800)
    assert part_sizes(205) == (26, 51, 102, 205)
    assert part_sizes(12) == (4, 6, 8, 12)
    assert len(set(part_sizes(8))) == 4
    with pytest.raises(ConfigError, match="7 training pictures: a curve over parts of so few says nothing; expected 8"):
        part_sizes(7)


def test_trainings_have_as_many_steps_each() -> None:
    told = {pictures: length(pictures, 16, 120) for pictures in (26, 205, 12)}
    assert [one["epochs"] for one in told.values()] == [120, 10, 120]
    assert told[205]["validate_every"] == 4
    assert told[205]["minutes"] is None


def test_minutes_are_shared() -> None:
    speed, sizes = Speed(start=5.0, step=0.5, epoch=1.0, batch=16), (25, 50, 100, 200)
    plan = plan_minutes(speed, sizes, val=80, minutes=30, draws=None)
    took = sum(speed.seconds(pictures, plan.steps, 80) for _, pictures in plan.trainings())
    assert 0.85 * 30 * 60 < took <= 30 * 60
    assert plan.draws == 1
    assert plan_minutes(speed, sizes, val=80, minutes=200, draws=None).draws == 3
    assert plan_minutes(speed, sizes, val=80, minutes=120, draws=2).draws == 2


def test_too_few_minutes_say_how_many_are_needed() -> None:
    speed, sizes = Speed(start=5.0, step=0.5, epoch=0.0, batch=16), (25, 50, 100, 200)
    with pytest.raises(ConfigError, match=r"--minutes 1: 4 trainings of 200 steps.*\(0.5 s a step\)") as raised:
        plan_minutes(speed, sizes, val=80, minutes=1, draws=None)
    needed = int(str(raised.value).partition("expected --minutes ")[2].split()[0])
    assert plan_minutes(speed, sizes, val=80, minutes=needed, draws=None).steps >= 200
    with pytest.raises(ConfigError):
        plan_minutes(speed, sizes, val=80, minutes=needed - 1, draws=None)


def test_the_first_draw_is_a_whole_curve() -> None:
    assert Plan((4, 8), 10, 2).trainings() == [(0, 4), (0, 8), (1, 4), (1, 8)]


@pytest.mark.slow
def test_a_step_is_timed(data: Path, tmp_path: Path) -> None:
    speed = measure_speed(tiny_run(data, tmp_path / "none"), 12)
    assert speed.step > 0
    assert speed.start > 0
    assert speed.batch == 4
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (["train.epochs=3"], "train.epochs=3: --minutes or --steps say how long"),
        (["data.fraction=0.5"], "data.fraction=0.5: the parts are those of the curve"),
        (["train.minutes=3"], "train.minutes=3: --minutes says"),
    ],
)
def test_what_the_command_decides_is_not_changed(data: Path, tmp_path: Path, changes: list[str], told: str) -> None:
    preset, overrides = words(data, tmp_path / "out", *changes)
    with pytest.raises(ConfigError, match=told):
        curve(preset, overrides)
    assert not (tmp_path / "out").exists()


def test_a_fraction_in_a_run_file_is_refused(data: Path, tmp_path: Path) -> None:
    from falconet.core.config import write_yaml

    file = tmp_path / "run.yaml"
    file.write_text(write_yaml(tiny_run(data, tmp_path / "out", "data.fraction=0.5")), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"data.fraction=0.5: the parts"):
        curve(file)


def test_nothing_to_measure_on(tmp_path: Path) -> None:
    folder = draw(tmp_path / "drawn")
    tree = json.loads((folder / "val.json").read_text())
    (folder / "val.json").write_text(json.dumps({**tree, "annotations": []}))
    preset, overrides = words(folder, tmp_path / "out")
    with pytest.raises(DataError, match="no validation picture has a box that counts"):
        curve(preset, overrides, length=Length(None, 2))


def test_minutes_and_steps_are_two_ways_to_say_it(data: Path, tmp_path: Path) -> None:
    preset, overrides = words(data, tmp_path / "out")
    done = CliRunner().invoke(app, ["data", "curve", preset, *overrides, "--minutes", "3", "--steps", "4"])
    assert isinstance(done.exception, ConfigError)
    assert "leave one of them out" in str(done.exception)


def test_minutes_that_are_over_are_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The first draw is trained to its end all the same, further ones are left out."""
    trained = []

    def add(self: object, *part: object) -> None:
        trained.append(part[1:])
        self._done.append({"seconds": 25.0})

    monkeypatch.setattr(drawing._Trainings, "_plan", Mock(return_value=Plan((4, 6, 8, 12), 4, 2)))
    monkeypatch.setattr(drawing._Trainings, "_add", add)
    monkeypatch.setattr(drawing._Trainings, "_result", Mock(side_effect=KeyboardInterrupt))
    preset, overrides = words(data, tmp_path / "curve")
    with pytest.raises(KeyboardInterrupt):
        curve(preset, overrides, length=Length(1, None))
    assert trained == [(0, 4), (0, 6), (0, 8), (0, 12)]
    told = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert told == [
        "the minutes are over, but a curve takes all of its 4 parts: training goes on; "
        "Ctrl-C keeps 3 finished trainings",
        "the minutes are over: of 8 trainings the first 4 count",
    ]


@pytest.mark.slow
def test_a_curve_goes_on_and_is_told(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "curve"
    preset, overrides = words(data, out, "seed=5")
    measure, measured = drawing.evaluate, []

    def twice(model: Path, **more: object) -> object:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.append(model)
        return measure(model, **more)

    monkeypatch.setattr(drawing, "evaluate", twice)
    with pytest.raises(KeyboardInterrupt):
        curve(preset, overrides, length=Length(None, 4))
    monkeypatch.setattr(drawing, "evaluate", measure)
    names = ["seed-5-pictures-4", "seed-5-pictures-6", "seed-5-pictures-8", "seed-5-pictures-12"]
    written = [(out / name / FIGURES).stat().st_mtime_ns for name in names[:2]]
    done = curve(preset, overrides, length=Length(None, 4))
    assert [(out / name / FIGURES).stat().st_mtime_ns for name in names[:2]] == written
    assert [one.path.name for one in done.trained] == names
    assert [one.pictures for one in done.predicted] == [12, 24, 48]
    told = json.loads((out / SUMMARY).read_text())
    assert [one["folder"] for one in told["trainings"]] == names
    assert told["predicted"][1]["interval"] == list(done.predicted[1].interval)
    ElementTree.fromstring((out / PICTURE).read_text())
    runs = [read_run(out / name / "run.yaml") for name in names]
    parts = [{record.image_id for record in load_data(run.data).train} for run in runs]
    assert [len(part) for part in parts] == [4, 6, 8, 12]
    assert all(small < large for small, large in pairwise(parts))
    assert len({tuple(r.image_id for r in load_data(run.data).val) for run in runs}) == 1
    assert [run.train.epochs for run in runs] == [4, 4, 2, 1]
    with pytest.raises(ConfigError, match="holds something else than this curve"):
        curve(preset, overrides, length=Length(None, 5))
    command = ["data", "curve", preset, *overrides, "--steps", "4"]
    printed = CliRunner().invoke(app, [*command, "--json"], catch_exceptions=False).stdout
    assert json.loads(printed)["predicted"] == told["predicted"]
    assert "Twice the pictures (24): AP" in CliRunner().invoke(app, command, catch_exceptions=False).stdout


def made(per_class: dict[str, list[float]], pictures: tuple[int, ...] = (25, 50, 100, 200)) -> Curve:
    """A curve of trainings that reached this; the figure of all is their mean."""
    shift = np.random.default_rng(0).normal(0, 0.01, 50)
    trained = tuple(
        Trained(
            Path(f"seed-0-pictures-{count}"),
            0,
            count,
            Drawn(float(np.mean([one[place] for one in per_class.values()])), shift + 0.5, 50),
            {name: Drawn(values[place], shift + 0.5, 50) for name, values in per_class.items()},
        )
        for place, count in enumerate(pictures)
    )
    curves = {
        name: curves_of(pictures, [one.per_class[name] for one in trained], seed=seed)
        for seed, name in enumerate(per_class, start=1)
    }
    whole = curves_of(pictures, [one.reached for one in trained])
    return Curve(
        path=Path("curve"),
        figure="AP",
        trained=trained,
        steps=100,
        images=50,
        curves=whole,
        predicted=predictions(whole, pictures[-1]),
        per_class={name: predictions(one, pictures[-1]) for name, one in curves.items()},
        most=most_gaining({name: one.everywhere for name, one in curves.items()}, pictures[-1]),
        notes=(),
    )


def test_a_class_that_gains_most_is_named_where_that_is_sure() -> None:
    done = made({"cell": [0.8, 0.8, 0.8, 0.8], "platelet": [0.1, 0.2, 0.3, 0.4]})
    text = "\n".join(done.sentences())
    assert "platelet gains most: " in text
    assert "More pictures of this kind may help" in text
    alike = made({"cell": [0.3, 0.4, 0.45, 0.48], "platelet": [0.3, 0.4, 0.45, 0.48]})
    assert "Which class gains most cannot be told" in "\n".join(alike.sentences())


def test_whether_more_pictures_help() -> None:
    rising = made({"cell": [0.1, 0.2, 0.3, 0.4]}, pictures=(100, 200, 400, 800))
    assert "More pictures of this kind help. Twice as many add" in "\n".join(rising.sentences())
    level = Drawn(0.8, np.full(50, 0.8), 50)
    curves = curves_of((100, 200, 400, 800) * 8, [level] * 32)
    assert (
        "More pictures of this kind hardly help."
        in replace(rising, curves=curves, predicted=predictions(curves, 800)).sentences()[1]
    )


def test_trainings_that_fall_say_nothing_about_more_pictures() -> None:
    done = made({"cell": [0.34, 0.27, 0.31, 0.24]})
    assert done.falls
    (sentence,) = done.sentences()
    assert sentence.startswith("AP falls from 34.0 with 25 pictures to 24.0 with all 200: 100 steps are too few")
    assert not any("twice" in line for line in done.lines())
    assert "too short" in picture(done)


def test_one_class_alone_gains_no_most() -> None:
    done = made({"cell": [0.8, 0.802, 0.801, 0.803]}, pictures=(1000, 2000, 4000, 8000))
    assert done.most is None
    assert len([line for line in done.lines() if line.startswith(("all", "cell"))]) == 1
    assert json.loads(json.dumps(done.as_dict()))["gains_most"] is None


def test_tables_have_a_column_for_each_seed() -> None:
    lines = made({"a": [0.3, 0.4, 0.45, 0.48], "b\x1b": [0.1, 0.2, 0.3, 0.4]}).lines()
    assert lines[0].split() == ["pictures", "AP,", "seed", "0"]
    assert lines[1].split() == ["25", "20.0"]
    assert any(line.startswith("b\\x1b") for line in lines)


def test_fewer_steps_than_an_epoch_of_all_pictures_are_refused(data: Path, tmp_path: Path) -> None:
    preset, overrides = words(data, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"--steps 1: an epoch of all \d+ pictures has \d+, in batches of \d+"):
        curve(preset, overrides, length=Length(minutes=None, steps=1))
    assert not (tmp_path / "out" / "curve.json").exists()
