"""`falconet.prune`: the same detector with fewer channels or a cheaper activation, within milliseconds, trained on."""

import logging
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from falconet.api.find import FoundModel, find_model, tell_unfinished
from falconet.core.errors import ConfigError
from falconet.core.figures import percent
from falconet.core.run_files import RUN_FILE

if TYPE_CHECKING:
    from falconet.models import ModelConfig
    from falconet.training import RunConfig
    from falconet.training.loggers import Callback

_log = logging.getLogger(__name__)

SHARES = tuple(round(0.95 - 0.05 * step, 2) for step in range(16))
"""Shares of the channels that are tried for a budget, from most to least."""

TAUGHT = ("nanodet-plus", "nanodet", "ppyoloe")
"""Models that can learn from a teacher: detectors without anchors."""

CALLS = 60
"""Timed runs of the network, in each of two rounds."""


@dataclass(frozen=True, slots=True)
class Row:
    """A network before or after.

    Attributes:
        name: run folder, or the published name.
        metrics: on the validation pictures, as fractions; empty where it was not measured on these.
        ms: median of one picture through the exported network.
        parameters: how many numbers it learns.
    """

    name: str
    metrics: dict[str, float]
    ms: float
    parameters: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """What became of a model.

    Attributes:
        path: folder of the new run.
        share: of the channels that was kept, before rounding.
        before, after: the model as it was, and as it is now.
        engine, threads: what the milliseconds were measured with, in float32.
    """

    path: Path
    share: float
    before: Row
    after: Row
    engine: str
    threads: int

    def __fspath__(self) -> str:
        return str(self.path)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        rows = {
            key: {"name": row.name, "metrics": row.metrics, "ms": row.ms, "parameters": row.parameters}
            for key, row in (("before", self.before), ("after", self.after))
        }
        return {
            "path": str(self.path), "share": self.share, "engine": self.engine, "threads": self.threads, **rows
        }  # fmt: skip

    def __str__(self) -> str:
        metric = next((name for name in ("AP", "top1") if name in self.after.metrics), "AP")
        rows = [("", f"{metric}, %", "ms", "parameters")]
        for row in (self.before, self.after):
            shown = percent(row.metrics[metric]) if metric in row.metrics else "-"
            rows.append((row.name, shown, f"{row.ms:.2f}", f"{row.parameters / 1e6:.2f} M"))
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{name:<{width}}  {ap:>6}  {ms:>7}  {size:>10}" for name, ap, ms, size in rows)


def prune(
    model: "str | os.PathLike[str]",
    *,
    budget_ms: float | None = None,
    share: float | None = None,
    activation: str | None = None,
    engine: str = "onnxruntime",
    threads: int | None = None,
    overrides: Sequence[str] = (),
    callback: "Callback | None" = None,
) -> Pruned:
    """Make a model faster, and train what is left of it, as `falconet prune` does.

    The channels that matter least go, in backbone, neck and head alike; what is left is an ordinary model with an
    ordinary configuration. It is trained on with the model as it was for a teacher, where that is possible. With a
    budget, candidates are exported and timed on this machine, and the widest that fits is taken.

    Args:
        model: run folder or published name.
        budget_ms: milliseconds of one picture through the exported network.
        share: of the channels to keep, 0 to 1, instead of a budget.
        activation: instead of that of backbone, neck and head.
        engine: of the budget.
        threads: of the budget; None takes the usable CPUs, at most four.
        overrides: changes of the run, KEY=VALUE, as `falconet train` takes them.
        callback: follows the training.

    Raises:
        ConfigError: nothing to do, a budget that is met already or that nothing meets.
        Otherwise as `falconet.train`.
    """
    from falconet.api.require import require
    from falconet.api.train import spoken
    from falconet.runtime.engines import default_threads

    if budget_ms is not None and share is not None:
        raise ConfigError("--budget and --share: one of them says how much is to go; leave the other out")
    if budget_ms is share is activation is None:
        raise ConfigError("nothing to do; expected --budget MS, --share OF_THE_CHANNELS or --activation NAME")
    require(["torch", "onnx", "onnxscript", "hotcoco"], extra="train", purpose="pruning")
    from falconet.models.weights import read_card
    from falconet.models.widths import narrower, with_activation
    from falconet.training import fit
    from falconet.training.run_folder import RunFolder

    with spoken():
        found = find_model(os.fspath(model), weights=True)
        tell_unfinished(found)
        run = _run_of(found, overrides)
        RunFolder(run.output).refuse_if_used()
        wide = run.model if activation is None else with_activation(run.model, activation)
        threads = threads or default_threads()
        clock = _clock(engine, threads, read_card(found.path).classes)
        before = clock(run.model)
        if budget_ms is not None:
            share = _widest(wide, before, budget_ms, clock)
        share = 1.0 if share is None else share
        chosen = wide if share == 1 else narrower(wide, share)
        after = clock(chosen)
        _tell_share(share, before, after, same=chosen == run.model)
        train = run.train.model_copy(update={"weights": found.path} | _teacher(found, run, overrides))
        folder = fit(run.model_copy(update={"model": chosen, "train": train}), callback=callback)
        shown = folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder
        rows = (_row(found.name, found.path, run.model, before), _row(str(shown), folder, chosen, after))
    return Pruned(shown, share, *rows, engine=engine, threads=threads)


def _tell_share(share: float, before: float, after: float, *, same: bool) -> None:
    """Say how much goes, and what that does to the milliseconds."""
    if same:
        _log.warning("no channel goes at a share of %g: the network stays as it is, and is only trained on", share)
    else:
        _log.info("%.0f %% of the channels stay: %.2f ms instead of %.2f", 100 * share, after, before)


def _clock(engine: str, threads: int, classes: tuple[str, ...]) -> "Callable[[ModelConfig], float]":
    """What tells the milliseconds of networks that are not trained: the median of one picture, each measured once.

    Args:
        engine: that runs them, in float32.
        threads: of it.
        classes: of the networks.
    """
    from falconet.api.bench import tell_busy

    known: dict[str, float] = {}
    told = False

    def ms(model: "ModelConfig") -> float:
        nonlocal told
        key = model.model_dump_json()
        if key not in known:
            known[key], busy = _measure(model, classes, engine, threads)
            told = told or tell_busy(busy)
        return known[key]

    return ms


def _measure(model: "ModelConfig", classes: tuple[str, ...], engine: str, threads: int) -> tuple[float, float]:
    """Milliseconds of a network, exported as a trained one would be, and CPUs that others computed on."""
    from falconet.api.bench import bench
    from falconet.exporting.untrained import write_untrained

    with tempfile.TemporaryDirectory(prefix="falconet-prune-") as folder:
        measured = bench(
            [write_untrained(model, classes, Path(folder, "candidate.onnx"))],
            engines=[engine],
            precisions=["float32"],
            threads=[threads],
            pictures=[],
            calls=CALLS,
        )
    return measured.rows[0].latency.p50, measured.busy


def _widest(model: "ModelConfig", before: float, budget_ms: float, clock: "Callable[[ModelConfig], float]") -> float:
    """The largest share of the channels of `model` whose network takes at most `budget_ms`.

    Raises:
        ConfigError: the model, which takes `before`, needs no pruning, or the narrowest still takes too long.
    """
    from falconet.models.widths import narrower

    if before <= budget_ms:
        raise ConfigError(
            f"--budget {budget_ms:g}ms: the model takes {before:.2f} ms already; there is nothing to prune"
        )
    shares = (1.0, *SHARES)

    def fits(place: int) -> bool:
        took = clock(model if place == 0 else narrower(model, shares[place]))
        _log.info("%.0f %% of the channels: %.2f ms", 100 * shares[place], took)
        return took <= budget_ms

    low, high = 0, len(shares) - 1
    if not fits(high):
        raise ConfigError(
            f"--budget {budget_ms:g}ms: {shares[-1]:.0%} of the channels still take "
            f"{clock(narrower(model, shares[-1])):.2f} ms here; a smaller input is needed, as in "
            f"model.input.height={model.input.height // 2} model.input.width={model.input.width // 2} behind the "
            "command, or another network"
        )
    while low < high:  # the narrowest that is known to fit is `high`
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return shares[high]


def _run_of(found: FoundModel, overrides: Sequence[str]) -> "RunConfig":
    """The run that trains what is left: that of the model's folder, or of a published model's preset.

    Raises:
        ConfigError: a weights file of neither; wrong changes.
    """
    from falconet.api.train import free_folder
    from falconet.training import read_run
    from falconet.zoo.published.table import PUBLISHED

    given = {override.partition("=")[0] for override in overrides}
    if found.run is not None:
        # What the first training settled on is open again.
        again = [f"{key}=auto" for key in ("train.learning_rate", "train.norms", "train.freeze") if key not in given]
        run = read_run(found.run / RUN_FILE, [*again, *overrides])
        named = found.run.with_name(f"{found.run.resolve().name}-pruned")
    elif found.name in PUBLISHED:
        run = read_run(PUBLISHED[found.name].model, overrides)
        named = Path("runs", f"{found.name}-pruned")
    else:
        raise ConfigError(
            f"{found.path}: does not lie in the folder of a run, which says how to train on; expected the folder of a "
            "run of 'falconet train', or the name of published weights"
        )
    if "output" not in given:
        free = free_folder(named)
        if free != named:
            _log.info("%s is there already; this run goes into %s", named, free)
        run = run.model_copy(update={"output": free})
    return run


def _teacher(found: FoundModel, run: "RunConfig", overrides: Sequence[str]) -> dict[str, Path]:
    """The model as it was teaches what is left of it, where a detector without anchors keeps its classes."""
    given = any(override.startswith("train.teacher=") for override in overrides)
    teaches = found.run is not None and run.model.name in TAUGHT
    return {} if given or not teaches else {"teacher": found.path}


def _row(name: str, path: Path, model: "ModelConfig", ms: float) -> Row:
    from falconet.models import build
    from falconet.models.weights import read_card

    card = read_card(path if path.is_file() else find_model(path, weights=True).path)
    parameters = sum(one.numel() for one in build(model, len(card.classes)).parameters())
    return Row(name, dict(card.metrics), ms, parameters)
