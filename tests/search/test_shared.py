"""The second strategy of `falconet fit`: widths of one network learn together."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from falconet import training
from falconet.cli import _register, app
from falconet.models.weights import read_card
from falconet.search import fit as fitting
from falconet.search import plan, shared
from falconet.search.candidates import Candidate
from falconet.search.fit import fit, resume
from falconet.search.halving import Round
from falconet.search.journal import Journal
from falconet.search.plan import Plan, write_plan
from falconet.search.shared import shared_run, together
from falconet.search.space import Space, shapes
from falconet.search.timing import Timing
from falconet.training.loggers import NullCallback
from falconet.training.progress import Progress
from falconet.training.run_folder import RunFolder
from tests.search.test_fit import BUDGET, SMALL, data, quick, request, unfinished
from tests.training.clock import Clock
from tests.training.tiny import tiny_run

__all__ = ["data", "quick", "unfinished"]  # fixtures

TWO = {
    "sides": [64, 96],
    "families": [
        {"name": "small", "preset": "nanodet-plus-demo", "model": SMALL, "share": [0.5, 1]},
        {"name": "shorter", "preset": "nanodet-plus-demo", "model": SMALL | {"neck.kernel_size": 5}},
    ],
}
ONE = TWO | {"families": TWO["families"][:1]}
MINUTES = 0.05
"""Of a training, in which there are a few epochs."""

_register()


def candidates(space: dict) -> list[Candidate]:
    return [Candidate(shape, (64, 64), Timing(1, 1)) for shape in shapes(Space.model_validate(space), seed=0)]


def names(groups) -> list[list[str]]:
    return [[one.shape.name for one in group] for group in groups]


def test_widths_of_a_network_belong_together(monkeypatch: pytest.MonkeyPatch) -> None:
    found = candidates(TWO)
    assert names(together(found)) == [["small", "small 0.5"], ["shorter"]]
    assert names(together(found[1:])) == [["small"], ["shorter"]]

    def unknown(*_: object) -> None:
        raise shared.ModelError("a convolution of 2 groups: channels cannot be followed through it")

    monkeypatch.setattr(shared, "kept_places", unknown)
    assert names(together(found)) == [["small 0.5"], ["small"], ["shorter"]]


@pytest.mark.parametrize(("space", "rounds"), [(TWO, [(2, 5.0), (1, 10.0)]), (ONE, [(1, 10.0), (1, 10.0)])])
def test_what_is_planned(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, space: dict, rounds: list
) -> None:
    monkeypatch.undo()
    found, journal = candidates(space), Journal(None)
    write_plan(request(data, space=space, minutes=20, strategy="shared"), found, journal, networks=len(found))
    planned = Plan(journal, [one.shape for one in found])
    assert [tuple(one) for one in planned.rounds] == rounds
    first, *rest = planned.trials(tmp_path)
    assert [member.candidate.shape.name for member in first.members] == ["small", "small 0.5"]
    assert [planned.place(member) for member in first.members] == [(1, 0), (1, 1)]
    assert [trial.members for trial in rest] == [(trial,) for trial in rest]
    journal = Journal(None)
    write_plan(request(data, space=space, minutes=20), found, journal, networks=len(found))
    (event,) = journal.all("plan")
    assert {entry["name"] for entry in event["trained"]} == {one.shape.name for one in found}
    assert all("slices" not in entry for entry in event["trained"]), "by halving each learns alone"


def test_a_run_of_all_widths(data: Path, tmp_path: Path) -> None:
    small, half = (
        Candidate(one.shape, size, Timing(1, 1))
        for one, size in zip(candidates(ONE)[::-1], [(64, 96), (96, 128)], strict=True)
    )
    run = shared_run(tiny_run(data, tmp_path), [small, half], tmp_path / "weights")
    assert (run.model, run.train.weights) == (small.model, tmp_path / "weights")
    assert [(one.input.height, one.input.width) for one in (run.model, *run.slices)] == [(64, 96)] * 2
    assert run.slices[0].head == half.model.head
    assert run.train.multi_scale == (1.0, 128 / 96)
    own = tiny_run(data, tmp_path, "train.multi_scale=[0.5,1]")
    assert shared_run(own, [small, half], None).train.multi_scale == (0.5, 1.0), "as asked for"
    assert shared_run(tiny_run(data, tmp_path), [small, small], None).train.multi_scale is None


class Stopped(NullCallback):
    """Ctrl-C in the first training, once an epoch of it is finished."""

    def step(self, progress: Progress, *, step: int, loss: float) -> None:  # noqa: ARG002
        if progress.epoch == 1:
            raise KeyboardInterrupt


class Ticking(Clock):
    """Goes on by a little whenever it is looked at, so that trainings have the same steps on any machine."""

    def __call__(self) -> float:
        self.now += 0.05
        return self.now


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    train, go_on = training.fit, training.resume
    monkeypatch.setattr(training, "fit", lambda run, **rest: train(run, clock=Ticking(), callback=rest["callback"]))
    monkeypatch.setattr(training, "resume", lambda path, **rest: go_on(path, clock=Ticking(), **rest))


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished", "ticking")
def test_it_goes_on_where_it_stopped(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "plan_rounds", lambda *_: [Round(2, MINUTES), Round(1, MINUTES)])
    folder = tmp_path / "fit"
    with pytest.raises(KeyboardInterrupt):
        fit(request(data, space=TWO, strategy="shared"), folder, callback=Stopped())
    first = RunFolder(folder / "trials" / "01-1")
    state = first.read_state()
    assert state is not None
    assert (state["epoch"], state["stopped"]) == (1, False)
    begun, train = [], training.fit
    monkeypatch.setattr(training, "fit", lambda run, **rest: begun.append(run.output.name) or train(run, **rest))
    best, *others = resume(folder)
    assert begun == ["02-1", best.folder.name], "the interrupted training went on"
    assert first.read_state()["epoch"] > 1
    events = Journal(folder / "journal.jsonl").all("trained")
    assert [event["folder"] for event in events] == ["01-1", "02-1", best.folder.name]
    assert [one["name"] for one in events[0]["slices"]] == ["small", "small 0.5"]
    assert {trial.candidate.shape.name for trial in (best, *others)} == {"small", "small 0.5", "shorter"}
    for trial in (best, *others):
        assert read_card(trial.folder / "best.safetensors").model == trial.candidate.model
    monkeypatch.setattr(training, "fit", lambda *_, **__: pytest.fail("all is known"))
    again = resume(folder)
    assert [(one.ap, one.folder, one.shared) for one in again] == [
        (one.ap, one.folder, one.shared) for one in (best, *others)
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("unfinished", "ticking")
def test_widths_stay_together_until_the_last_round(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = [Round(2, MINUTES), Round(2, MINUTES), Round(1, MINUTES)]
    monkeypatch.setattr(plan, "plan_rounds", lambda *_: rounds)
    said = iter([0.2, 0.5, 0.1, 0.3, 0.6, 0.1, 0.7])  # small, small 0.5, shorter; the best first from then on
    monkeypatch.setattr(fitting, "measured_ap", lambda *_: (next(said), None))
    runs, train = [], training.fit
    monkeypatch.setattr(training, "fit", lambda run, **rest: runs.append(run) or train(run, **rest))
    best, *others = fit(request(data, space=TWO, strategy="shared"), tmp_path / "fit")
    assert [run.output.name for run in runs] == ["01-1", "02-1", "01-2", "02-2", "01-3"]
    assert [len(run.slices) for run in runs] == [1, 0, 1, 0, 0]
    trials = tmp_path / "fit" / "trials"
    assert [run.train.weights for run in runs] == [
        None,
        None,
        trials / "01-1" / "last.safetensors",
        trials / "02-1" / "best.safetensors",
        trials / "01-2" / "slice-1" / "best.safetensors",
    ]
    assert [(one.candidate.shape.name, one.ap) for one in (best, *others)] == [
        ("small", (0.2, 0.6, 0.7)),
        ("shorter", (0.1, 0.1)),
        ("small 0.5", (0.5, 0.3)),
    ]
    assert (best.minutes, best.shared) == (pytest.approx(3 * MINUTES), pytest.approx(2 * MINUTES))


@pytest.mark.slow
@pytest.mark.usefixtures("ticking")
def test_the_command(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "plan_rounds", lambda *_: [Round(2, MINUTES), Round(1, MINUTES)])
    Path("space.yaml").write_text(Space.model_validate(TWO).model_dump_json(), encoding="utf-8")
    words = ["fit", str(data), "--budget", f"{BUDGET:g}ms", "--space", "space.yaml", "--strategy", "shared"]
    words += ["--engine", "onnxruntime", "data.workers=0", "train.batch_size=4"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    told = json.loads(Path("runs/fit/fit.json").read_text(encoding="utf-8"))
    shared_minutes = {row["name"]: row["shared"] for row in told["trained"]}
    assert shared_minutes == {"small": MINUTES, "small 0.5": MINUTES, "shorter": 0}
    assert told["best"]["minutes"] == pytest.approx(2 * MINUTES)
    assert "+: minutes in which all widths of a network learnt together" in found.stdout
    assert "<svg" in Path("runs/fit/fit.svg").read_text(encoding="utf-8")
