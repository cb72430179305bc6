"""The same training with several seeds: mean and spread, and how far the pictures may be off as well."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from falconet.api.measure import evaluate
from falconet.api.train import free_folder, train_with
from falconet.core.errors import ConfigError
from falconet.core.figures import percent
from falconet.core.files import replace_file
from falconet.core.run_files import RUN_FILE
from falconet.core.terminal import argument
from falconet.eval.bootstrap import Drawn, Interval

if TYPE_CHECKING:
    from falconet.training.loggers import Callback

_log = logging.getLogger(__name__)

SUMMARY = "repeat.json"
SHOWN = ("AP", "AP50", "AP75", "top1", "top5")


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of all runs.

    Attributes:
        name: of the figure.
        values: of each seed, fractions.
        pooled: the 95 % interval over pictures and seeds together; None where nothing decides the figure.
    """

    name: str
    values: tuple[float, ...]
    pooled: Interval | None

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return float(np.mean(self.values))

    @property
    def deviation(self) -> float:
        """Standard deviation over the seeds (of a sample: n - 1)."""
        return float(np.std(self.values, ddof=1))


@dataclass(frozen=True, slots=True)
class Repeated:
    """Runs that differ in their seed alone.

    Attributes:
        path: folder of all.
        seeds, runs: aligned; a run is a folder.
        figures: in the order of an evaluation.
        images: pictures that they were measured on.
    """

    path: Path
    seeds: tuple[int, ...]
    runs: tuple[Path, ...]
    figures: tuple[Figure, ...]
    images: int

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """A table in percent, and what it comes to."""
        shown = [one for one in self.figures if one.name in SHOWN]
        rows = [
            ["seed", *(one.name for one in shown)],
            *([str(seed), *(percent(one.values[place]) for one in shown)] for place, seed in enumerate(self.seeds)),
            ["mean", *(percent(one.mean) for one in shown)],
            ["±", *(percent(one.deviation) for one in shown)],
        ]
        lines = ["".join(f"{cell:>8}" for cell in row) for row in rows]
        main = shown[0]
        if main.pooled is not None:
            lines += [
                "",
                f"{main.name} {percent(main.mean)}: seeds move it by {percent(main.deviation)} (standard deviation of "
                f"{len(self.seeds)}); with {self.images} pictures it lies, seeds and pictures together, between "
                f"{percent(main.pooled.low)} and {percent(main.pooled.high)} (95 %).",
            ]
        return lines

    def as_dict(self) -> dict[str, Any]:
        """For programs; fractions."""
        return {
            "runs": {str(seed): str(run) for seed, run in zip(self.seeds, self.runs, strict=True)},
            "images": self.images,
            "figures": {
                one.name: {
                    "values": list(one.values),
                    "mean": one.mean,
                    "standard_deviation": one.deviation,
                    "interval": one.pooled,
                }
                for one in self.figures
            },
        }


def repeat(
    run: str | Path, overrides: Sequence[str] = (), *, seeds: int = 3, callback: "Callback | None" = None
) -> Repeated:
    """Train `run` with several seeds, as `falconet repeat` does, and measure each on its validation pictures.

    A run that is finished in its folder is not repeated, one that was interrupted goes on.

    Args:
        run: preset or run file.
        overrides: changes, KEY=VALUE; `seed` is the first one, `output` the folder of all runs.
        seeds: how many, 2 at least.
        callback: follows each training.

    Raises:
        ConfigError: fewer than two seeds, or a folder that holds the runs of something else.
        Otherwise as `falconet.train` and `falconet.evaluate`.
    """
    from falconet import training

    if seeds < 2:
        raise ConfigError(f"--seeds {seeds}: expected two at least; with one there is nothing to compare")
    asked = training.read_run(run, overrides)
    named = any(override.startswith("output=") for override in overrides) or Path(run).is_file()
    path = asked.output if named else asked.output.with_name(f"{asked.output.name}-seeds")
    wanted = asked.model_dump(mode="json", exclude={"output"})
    if not named and not _is_of(path, wanted):
        path = free_folder(path)
    _refuse_others(path, wanted)
    replace_file(path / SUMMARY, json.dumps({"run": wanted}, indent=2) + "\n")
    numbers = tuple(range(asked.seed, asked.seed + seeds))
    runs = tuple(_trained(run, overrides, path, seed, callback) for seed in numbers)
    results = [evaluate(folder, intervals=True).results for folder in runs]
    figures = tuple(
        _figure(name, [one.as_dict()[name] for one in results], [one.resampled.values[name] for one in results])
        for name in results[0].resampled.values
    )
    done = Repeated(path, numbers, runs, figures, len(results[0].records))
    replace_file(path / SUMMARY, json.dumps({"run": wanted, **done.as_dict()}, indent=2) + "\n")
    return done


def _figure(name: str, values: Sequence[float], drawn: Sequence[Drawn]) -> Figure:
    mean, draws = float(np.mean([one.value for one in drawn])), np.concatenate([one.draws for one in drawn])
    pooled = Drawn(mean, draws, drawn[0].images)
    return Figure(name, tuple(values), pooled.interval)


def _is_of(path: Path, wanted: dict[str, Any]) -> bool:
    try:
        told = json.loads((path / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("run") == wanted


def _refuse_others(path: Path, wanted: dict[str, Any]) -> None:
    if path.exists() and any(path.iterdir()) and not _is_of(path, wanted):
        raise ConfigError(
            f"{path}: holds something else than repetitions of this run; choose another folder: output=NEW"
        )


def _trained(run: str | Path, overrides: Sequence[str], path: Path, seed: int, callback: "Callback | None") -> Path:
    from falconet import training

    folder = path / f"seed-{seed}"
    _log.info("seed %d: %s", seed, argument(folder))
    if (folder / RUN_FILE).is_file():
        return training.resume(folder, callback=callback)
    own = [override for override in overrides if not override.startswith(("output=", "seed="))]
    return train_with(str(run), [*own, f"output={folder}", f"seed={seed}"], callback=callback).path
