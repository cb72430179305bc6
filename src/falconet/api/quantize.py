"""`falconet.api.quantize`: an exported file in 8-bit integers, and whether it earns its place on this machine."""

import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from falconet.api.find import FoundModel, find_model
from falconet.api.ground_truth import GroundTruth, open_ground_truth
from falconet.api.worth import FEW, Side, Verdict, judge
from falconet.core.errors import ConfigError, DataError
from falconet.core.exported_files import BESIDE
from falconet.core.figures import percent, plural
from falconet.core.files import replace_file

_log = logging.getLogger(__name__)

LEAST = 20
"""Pictures with truth; half of them measure ranges, the other half AP."""

COMPARED = 16
"""Pictures that say how much each convolution hurts."""

MARGIN = 0.5
"""Of what it may cost, on the pictures that decide: on others it costs more."""

Progress = Callable[[str], AbstractContextManager[Callable[[Sequence[Any]], Iterable[Any]]]]
"""A title -> what wraps the steps, to show how far they are."""


@dataclass(frozen=True, slots=True)
class Quantized:
    """What came of it.

    Attributes:
        path: the file in 8-bit integers.
        source: the file it was made of.
        metric: AP or top1.
        kept: convolutions that stayed in float32, of `convolutions`.
        pictures: that AP or top-1 was measured on; no ranges were measured on them.
        sides: both files in every engine and precision.
        loss: AP or top-1 that a precision may cost, a fraction.
        machine: where this was measured.
    """

    path: Path
    source: Path
    metric: str
    kept: tuple[str, ...]
    convolutions: int
    pictures: int
    sides: tuple[Side, ...]
    loss: float
    machine: dict[str, str]

    @property
    def verdict(self) -> Verdict:
        """Whether it earns its place."""
        return judge(self.sides, self.loss, self.metric)

    def __str__(self) -> str:
        rows = [f"{'engine':<13}{'':<17}{self.metric + ', %':>8}{'ms':>9}"]
        rows += [f"{one.engine:<13}{one.kind:<17}{percent(one.value):>8}{one.milliseconds:>9.2f}" for one in self.sides]
        lines = [
            *rows,
            f"{self.convolutions - len(self.kept)} of {self.convolutions} convolutions in 8-bit integers; "
            f"{self.metric} of {self.pictures} pictures that no ranges were measured on",
        ]
        if self.pictures < FEW:
            lines.append(f"{self.pictures} pictures are few: a difference of a point may be chance")
        return "\n".join([*lines, f"verdict: {self.verdict.sentence}"])

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        verdict = self.verdict
        found = asdict(self) | {"path": self.path.name, "source": self.source.name}
        return {"format": 1, **found, "take": verdict.take, "verdict": verdict.sentence}


def quantize(
    model: "str | os.PathLike[str]",
    out: str | Path | None = None,
    *,
    data: str | Path | None = None,
    images: str | Path | None = None,
    split: str | None = None,
    pictures: int = 200,
    loss: float = 0.005,
    progress: Progress = lambda _: nullcontext(iter),
) -> Quantized:
    """Write an exported file in 8-bit integers, and measure both on this machine.

    Every second picture measures the ranges of activations and decides which convolutions stay in float32; the others
    say what the file is worth.

    Args:
        model: exported file or published name.
        out: folder for NAME.int8.onnx and NAME.int8.json; None: that of the model.
        data, images, split: pictures with truth; None: what the model was validated on.
        pictures: at most so many for each of the two.
        loss: AP or top-1, a fraction, that it may cost; more convolutions stay in float32 until it does not.
        progress: shows how far it is.

    Raises:
        ConfigError, DataError: fewer than `LEAST` pictures, or none at all; a folder that cannot be written.
        ModelError: a file that is none, or is quantised already.
    """
    from falconet.api.evaluation import EVALUATIONS
    from falconet.api.require import require
    from falconet.eval.latency import machine
    from falconet.runtime.onnx_engine import OnnxEngine

    require(["onnx", "hotcoco"], extra="eval", purpose="quantize")
    _refuse_other_formats(Path(model))
    found = find_model(os.fspath(model))
    manifest = OnnxEngine(found.path).manifest
    paths = [None if path is None else Path(path) for path in (data, images)]
    truth = open_ground_truth(found, paths[0], paths[1], split, task=manifest.task)
    if len(truth.records) < LEAST:
        count = plural(len(truth.records), "picture")
        raise ConfigError(f"{truth.source}: has {count}; expected at least {LEAST} with truth")
    # What would stop it in the end is told now.
    EVALUATIONS[manifest.task].match(truth.names, manifest.classes, data=truth.source, model=str(found.path))
    ranging, judging = (_part(truth, first, pictures) for first in (0, 1))
    folder = found.path.parent if out is None else Path(out)
    target = folder / f"{found.path.stem}.int8.onnx"
    metric = "AP" if manifest.task == "detect" else "top1"
    with tempfile.TemporaryDirectory(prefix="falconet-int8-") as scratch:
        notes = _Notes(target.with_suffix(".partial.json"), found.path, ranging)
        chosen, kept, count = _smallest(found, ranging, metric, loss, Path(scratch), notes, progress)
        draft = chosen.rename(Path(scratch) / target.name)
        sides = _sides(found, FoundModel(draft, draft.stem), judging, metric, progress)
        pictures = len(judging.records)
        done = Quantized(target, found.path, metric, kept, count, pictures, sides, loss, machine())
        replace_file(target, draft.read_bytes())
        replace_file(target.with_suffix(".json"), json.dumps(done.as_dict(), indent=2) + "\n")
        notes.remove()
    return done


def _refuse_other_formats(model: Path) -> None:
    """Raise ConfigError for an exported file of another format than ONNX, and for weights."""
    if model.suffix in BESIDE and model.suffix != ".onnx":
        raise ConfigError(
            f"{model}: is no ONNX file, and only these are quantised; export the run once more with --to onnx, and "
            "quantise that (OpenVINO runs it, too)"
        )


def _sides(
    full: FoundModel, small: FoundModel, judging: GroundTruth, metric: str, progress: Progress
) -> tuple[Side, ...]:
    """Both files in every engine and precision of this machine: milliseconds, one picture at a time, and AP."""
    from falconet.api.bench import bench
    from falconet.runtime.engines import default_threads

    with progress("milliseconds") as bar:
        rows = bench([full.path, small.path], threads=[default_threads()], pictures=[], progress=bar).rows
    sides = []
    with progress(metric) as bar:
        for row in bar(sorted(rows, key=lambda row: row.engine)):
            model = small if row.path == small.path else full
            value = _value(model, judging, metric, engine=row.engine, precision=row.precision)
            sides.append(Side(row.engine, model is small, row.precision, value, row.latency.p50))
    return tuple(sides)


def _part(truth: GroundTruth, first: int, count: int) -> GroundTruth:
    records = truth.records[first::2]
    return replace(truth, records=records[:: max(1, len(records) // count)][:count], notes=())


def _smallest(
    found: FoundModel,
    ranging: GroundTruth,
    metric: str,
    loss: float,
    scratch: Path,
    notes: "_Notes",
    progress: Progress,
) -> tuple[Path, tuple[str, ...], int]:
    """The file with the fewest convolutions in float32 that costs at most `loss`; else the one that costs least."""
    from falconet.exporting.quantize import SHARES, Quantizer, agreement_with, sensitivity
    from falconet.runtime.onnx_engine import OnnxEngine
    from falconet.runtime.predictor import Predictor

    predictor: Predictor[Any] = Predictor(OnnxEngine(found.path))
    prepared = []
    for record in ranging.records:
        try:
            prepared.append(predictor.prepare(record.path))
        except DataError as error:
            raise DataError(f"{error}; pictures to quantise with must be readable") from error
    quantizer = Quantizer(found.path, [one.pixels for one in prepared], scratch=scratch)
    spread = prepared[:: max(1, len(prepared) // COMPARED)][:COMPARED]
    with progress("which convolutions hurt") as bar:
        agreement = agreement_with(found.path, spread)
        order = sensitivity(quantizer, agreement, scratch=scratch, known=notes.known, measured=notes.add, progress=bar)
    full = _value(found, ranging, metric, engine="onnxruntime")
    best: tuple[float, Path, tuple[str, ...]] | None = None
    with progress("how many stay in float32") as bar:
        for share in bar(SHARES):
            kept = tuple(order[: round(share * len(order))])
            path = quantizer.write(scratch / f"{len(kept)}.onnx", kept)
            value = _value(FoundModel(path, found.name), ranging, metric, engine="onnxruntime")
            if best is None or value > best[0]:
                best = value, path, kept
            if value >= full - MARGIN * loss:
                break
    assert best is not None
    return best[1], best[2], len(order)


class _Notes:
    """How much each convolution hurts, beside the file to be written until it is there: an interrupted command goes on
    where it was.

    Args:
        path: of the notes.
        model: whose convolutions they are.
        ranging: the pictures that it is measured on.
    """

    def __init__(self, path: Path, model: Path, ranging: GroundTruth) -> None:
        self._path = path
        digest = hashlib.sha256(model.read_bytes())
        digest.update(json.dumps([str(record.path) for record in ranging.records]).encode())
        self._key = digest.hexdigest()
        self.known = self._read()
        if self.known:
            _log.info("going on with %s measured before, as %s says", plural(len(self.known), "convolution"), path)

    def _read(self) -> dict[str, float]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            if content["key"] == self._key:
                return {str(name): float(value) for name, value in content["hurt"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # measured anew
        return {}

    def add(self, name: str, hurt: float) -> None:
        """Keep a further one."""
        self.known[name] = hurt
        replace_file(self._path, json.dumps({"key": self._key, "hurt": self.known}) + "\n")

    def remove(self) -> None:
        """They are not needed any more."""
        self._path.unlink(missing_ok=True)


def _value(found: FoundModel, truth: GroundTruth, metric: str, *, engine: str, precision: str = "float32") -> float:
    from falconet.api.engines import open_engine
    from falconet.api.evaluation import evaluate
    from falconet.runtime.engines import Use

    opened = open_engine(found.path, engine=engine, use=Use(precision=precision))
    return float(evaluate(found, opened, truth)[metric])
