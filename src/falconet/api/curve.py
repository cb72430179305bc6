"""`falconet data curve`: how much better a model would be with more pictures, from trainings on parts of them."""

import io
import json
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from falconet.api.curve_picture import picture
from falconet.api.curve_plan import Plan, length, measure_speed, part_sizes, plan_minutes, steps_per_epoch
from falconet.api.curve_result import Curve, Trained, curves_of, most_gaining, predictions
from falconet.api.measure import evaluate
from falconet.api.train import few_words, with_weights
from falconet.core.errors import ConfigError, DataError
from falconet.core.figures import duration, percent, plural
from falconet.core.files import replace_file
from falconet.core.lock import locked
from falconet.core.run_files import CURVE, CURVE_PICTURE, METRICS, RUN_FILE
from falconet.core.terminate import Terminated
from falconet.eval.bootstrap import Drawn
from falconet.eval.report import read_history

if TYPE_CHECKING:
    from falconet.training import RunConfig
    from falconet.training.loggers import Callback

_log = logging.getLogger(__name__)

SUMMARY, PICTURE, FIGURES = CURVE, CURVE_PICTURE, "figures.npz"
"""What came out, in numbers and drawn; of each training its figures in the draws of the validation pictures."""

FEW_LOOKS, RISING = 10.0, 0.01
"""Times that a picture of the whole was seen, below which a training is short; gain in AP at its end that says so."""


class Length(NamedTuple):
    """How long the trainings are: by minutes or by steps.

    Attributes:
        minutes: for all of them; None where `steps` are given.
        steps: of each; None: as many as the minutes have room for.
        draws: of the parts; None: as the minutes allow, or 1.
    """

    minutes: float | None = 30.0
    steps: int | None = None
    draws: int | None = None


def curve(
    run: str | Path,
    overrides: Sequence[str] = (),
    *,
    length: Length | None = None,
    callback: "Callback | None" = None,
) -> Curve:
    """Train on nested parts of the pictures, as `falconet data curve` does, and say what more of them would give.

    A training that is finished in its folder is not repeated, one that was interrupted goes on.

    Args:
        run: preset or run file.
        overrides: changes, KEY=VALUE; `output` is the folder of all trainings, `seed` that of the first draw.
        length: of the trainings; None: those that 30 minutes have room for.
        callback: follows each training.

    Raises:
        ConfigError: too few pictures or minutes, a setting that the command decides itself, or a folder that holds
            something else.
        Otherwise as `falconet.train` and `falconet.evaluate`.
    """
    from falconet import training

    _refuse_own(overrides)
    asked = training.read_run(run, overrides)
    named = any(override.startswith("output=") for override in overrides) or Path(run).is_file()
    length = length or Length()
    wanted = {"length": length._asdict(), **asked.model_dump(mode="json", exclude={"output"})}
    path = _folder(asked.output, wanted) if named else _own_folder(asked.output, wanted)
    with locked(path):
        try:
            return _Trainings(with_weights(asked), path, wanted, callback).done(length)
        except (KeyboardInterrupt, Terminated):
            _log.info("finished trainings are kept: the same command goes on")
            raise


def _refuse_less_than_an_epoch(steps: int, pictures: int, batch: int) -> None:
    """A training ends with an epoch, so fewer steps than those of all pictures would not be the same for all parts."""
    least = steps_per_epoch(pictures, batch)
    if steps < least:
        raise ConfigError(
            f"--steps {steps}: an epoch of all {pictures} pictures has {least}, in batches of {batch}; expected as "
            "many at least, so that all trainings have the same number"
        )


def _folder(path: Path, wanted: dict[str, Any]) -> Path:
    """`path`, unless it holds something else."""
    if _is_used(path) and _known(path).get("run") != wanted:
        raise ConfigError(f"{path}: holds something else than this curve; choose another folder: output=NEW")
    return path


def _own_folder(path: Path, wanted: dict[str, Any]) -> Path:
    """The first of NAME-curve, NAME-curve-2, ... that holds this curve, or nothing."""
    first = path.with_name(f"{path.name}-curve")
    names = chain([first], (first.with_name(f"{first.name}-{number}") for number in count(2)))
    return next(one for one in names if not _is_used(one) or _known(one).get("run") == wanted)


def _is_used(path: Path) -> bool:
    return path.is_dir() and any(path.iterdir())


def _refuse_own(overrides: Sequence[str]) -> None:
    """Raise ConfigError where a change is of what the command decides."""
    own = {
        "train.epochs": "--minutes or --steps say how long all trainings are",
        "train.minutes": "--minutes says how long all trainings together are",
        "train.validate_every": "each training validates as often as the others",
        "train.patience": "each training is as long as the others",
        "data.fraction": "the parts are those of the curve",
        "data.fraction_seed": "seed= decides which pictures the parts hold, too",
    }
    for override in overrides:
        if (why := own.get(override.partition("=")[0])) is not None:
            raise ConfigError(f"{override}: {why}; leave it out")


def _known(path: Path) -> dict[str, Any]:
    """What an earlier call left in curve.json."""
    with suppress(OSError, ValueError):
        told = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
        if isinstance(told, dict) and "run" in told:
            return told
    return {}


class _Trainings:
    """The trainings of a curve in their folder.

    Args:
        run: what is trained, weights settled.
        path: of the folder.
        wanted: the run as it was asked for, by which the folder is known.
        callback: follows each training.
    """

    def __init__(self, run: "RunConfig", path: Path, wanted: dict[str, Any], callback: "Callback | None") -> None:
        from falconet.training.run_data import load_data
        from falconet.training.tasks import task_of

        if run.data.fraction < 1:
            raise ConfigError(f"data.fraction={run.data.fraction:g}: the parts are those of the curve; leave it out")
        task = task_of(run.model)
        own = run.data.model_copy(update={"unlabelled": None})
        data = load_data(own, image_level_labels=task.image_level_labels)
        for note in data.notes:
            _log.info("%s", note)
        if not any((~record.crowd).any() for record in data.val):
            raise DataError(
                f"{run.data.train.place}: nothing to measure on: no validation picture has a box that counts; "
                "expected data.val with such pictures"
            )
        self._run, self._path, self._wanted, self._callback = run, path, wanted, callback
        self._total, self._val = len(data.train), len(data.val)
        self._figure = task.key_metric
        self._done: list[dict[str, Any]] = []

    def done(self, length: Length) -> Curve:
        """Train what is not trained yet; the curve."""
        plan = self._plan(length)
        trainings = plan.trainings()
        for number, (draw, pictures) in enumerate(trainings, start=1):
            over = length.minutes is not None and sum(one["seconds"] for one in self._done) > 60 * length.minutes
            if over and draw:
                _log.warning("the minutes are over: of %d trainings the first %d count", len(trainings), number - 1)
                break
            if over:
                text = "the minutes are over, but a curve takes all of its %d parts: training goes on; Ctrl-C keeps %s"
                _log.warning(text, len(plan.pictures), plural(number - 1, "finished training"))
            _log.info(
                "training %d of %d: %d of %d pictures, seed %d",
                number,
                len(trainings),
                pictures,
                self._total,
                self._run.seed + draw,
            )
            self._add(plan, draw, pictures)
        result = self._result(plan)
        replace_file(self._path / PICTURE, picture(result))
        self._write(plan, result.as_dict())
        return result

    def _plan(self, asked: Length) -> Plan:
        """As an earlier call planned it, or planned now."""
        sizes = part_sizes(self._total)
        known = _known(self._path)
        if "plan" in known:
            plan = Plan(tuple(known["plan"]["pictures"]), known["plan"]["steps"], known["plan"]["draws"])
            if plan.pictures != sizes:
                raise ConfigError(
                    f"{self._path}: its trainings were on {plan.pictures[-1]} pictures, but the data hold "
                    f"{self._total} now; choose another folder: output=NEW"
                )
            self._done = known["trainings"]
            return plan
        if asked.steps is not None:
            _refuse_less_than_an_epoch(asked.steps, sizes[-1], self._run.train.batch_size)
            plan = Plan(sizes, asked.steps, asked.draws or 1)
        else:
            assert asked.minutes is not None, "one of the two is given"
            watched = next((one for one in sizes if one >= self._run.train.batch_size), sizes[-1])
            _log.info("measuring how long a step takes here")
            speed = measure_speed(self._part(0, watched), watched)
            plan = plan_minutes(speed, sizes, val=self._val, minutes=asked.minutes, draws=asked.draws)
        parts = ", ".join(map(str, sizes))
        _log.info("%d trainings of %d steps, on %s pictures", len(plan.trainings()), plan.steps, parts)
        self._write(plan, {})
        return plan

    def _write(self, plan: Plan, more: dict[str, Any]) -> None:
        state = {"run": self._wanted, "plan": plan._asdict(), "trainings": self._done, **more}
        replace_file(self._path / SUMMARY, json.dumps(state, indent=2, allow_nan=False) + "\n")

    def _add(self, plan: Plan, draw: int, pictures: int) -> None:
        """Train and measure, unless that is done."""
        folder = f"seed-{self._run.seed + draw}-pictures-{pictures}"
        if any(one["folder"] == folder for one in self._done) and (self._path / folder / FIGURES).is_file():
            return
        began = time.monotonic()
        out = self._path / folder
        with few_words():
            self._train(plan, draw, pictures, out)
        results = evaluate(out, intervals=True).results
        figures = {self._figure: results.resampled.values[self._figure], **_prefixed(results.resampled.per_class)}
        replace_file(out / FIGURES, _packed(figures))
        value = figures[self._figure].value
        _log.info("%s %s after %s", self._figure, percent(value), duration(time.monotonic() - began))
        self._done = [one for one in self._done if one["folder"] != folder]
        self._done.append(
            {
                "folder": folder,
                "seed": self._run.seed + draw,
                "pictures": pictures,
                self._figure: value,
                "per_class": {name: _or_none(one.value) for name, one in results.resampled.per_class.items()},
                "seconds": round(time.monotonic() - began, 1),
            }
        )
        self._write(plan, {})

    def _train(self, plan: Plan, draw: int, pictures: int, out: Path) -> None:
        from falconet import training

        if (out / RUN_FILE).is_file():
            training.resume(out, callback=self._callback)
            return
        run = self._part(draw, pictures)
        settings = length(pictures, run.train.batch_size, plan.steps)
        train = run.train.model_copy(update=settings)
        training.fit(run.model_copy(update={"train": train, "output": out}), callback=self._callback)

    def _part(self, draw: int, pictures: int) -> "RunConfig":
        """The run on a part of the pictures, which are the first ones of the draw's order."""
        seed = self._run.seed + draw
        chosen = {"fraction": pictures / self._total, "fraction_seed": seed}
        return self._run.model_copy(update={"seed": seed, "data": self._run.data.model_copy(update=chosen)})

    def _result(self, plan: Plan) -> Curve:
        trained = tuple(self._trained(one) for one in self._done)
        pictures = [one.pictures for one in trained]
        whole = curves_of(pictures, [one.reached for one in trained])
        reached = {name: [one.per_class[name] for one in trained] for name in trained[0].per_class}
        shown = {name: own for name, own in reached.items() if not any(np.isnan(one.value) for one in own)}
        classes = {name: curves_of(pictures, own, seed=seed) for seed, (name, own) in enumerate(shown.items(), start=1)}
        return Curve(
            path=self._path,
            figure=self._figure,
            trained=trained,
            steps=plan.steps,
            images=self._val,
            curves=whole,
            predicted=predictions(whole, self._total),
            per_class={name: predictions(one, self._total) for name, one in classes.items()},
            most=most_gaining({name: one.everywhere for name, one in classes.items()}, self._total),
            notes=self._notes(plan),
        )

    def _trained(self, told: dict[str, Any]) -> Trained:
        figures = _unpacked(self._path / told["folder"] / FIGURES)
        per_class = {name: one for name, one in figures.items() if name != self._figure}
        return Trained(
            self._path / told["folder"],
            told["seed"],
            told["pictures"],
            figures[self._figure],
            {name.removeprefix(CLASS): one for name, one in per_class.items()},
        )

    def _notes(self, plan: Plan) -> tuple[str, ...]:
        """What makes the curve flatter than that of longer trainings."""
        batch = min(self._run.train.batch_size, self._total)
        looks = plan.steps * batch / self._total
        told = next(one for one in self._done if one["pictures"] == self._total)
        history = read_history(self._path / told["folder"] / METRICS)
        values = [entry[self._figure] for entry in history if self._figure in entry]
        rose = values[-1] - max(values[:-1]) if len(values) > 1 else 0.0
        if looks >= FEW_LOOKS and rose < RISING:
            return ()
        why = f"on all pictures each of them is seen {looks:.1f} times" if looks < FEW_LOOKS else ""
        why += " and " * (bool(why) and rose >= RISING)
        why += f"{self._figure} still rose by {percent(rose)} at the end" if rose >= RISING else ""
        return (f"The trainings are short: {why}. Longer ones make more of more pictures: more --minutes.",)


CLASS = "class "
"""Before a class's name among the figures of a training."""


def _prefixed(per_class: Any) -> dict[str, Drawn]:
    return {f"{CLASS}{name}": one for name, one in per_class.items()}


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _packed(figures: dict[str, Drawn]) -> bytes:
    """Names, values and draws as the bytes of an .npz file."""
    stream = io.BytesIO()
    names = np.array(list(figures), np.str_)
    values = np.array([one.value for one in figures.values()])
    images = np.array([one.images for one in figures.values()])
    draws = np.stack([one.draws for one in figures.values()])
    np.savez_compressed(stream, names=names, values=values, images=images, draws=draws)
    return stream.getvalue()


def _unpacked(path: Path) -> dict[str, Drawn]:
    with np.load(path, allow_pickle=False) as file:
        columns = file["names"].tolist(), file["values"].tolist(), file["draws"], file["images"].tolist()
        return {name: Drawn(value, draws, images) for name, value, draws, images in zip(*columns, strict=True)}
