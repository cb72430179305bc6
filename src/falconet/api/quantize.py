"""`falconet.api.quantize`: an exported file in 8-bit integers, and whether it earns its place on this machine."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from falconet.api.find import FoundModel, find_model
from falconet.api.ground_truth import GroundTruth, open_ground_truth
from falconet.core.errors import ConfigError, DataError
from falconet.core.figures import percent
from falconet.core.files import replace_file

LEAST = 20
"""Pictures with truth; half of them measure ranges, the other half AP."""

COMPARED = 16
"""Pictures that say how much each convolution hurts."""

MARGIN = 0.5
"""Of what it may cost, on the pictures that decide: on others it costs more."""

WORTH = 1.05
"""Times faster from which on 8-bit integers earn their place."""

Progress = Callable[[str], AbstractContextManager[Callable[[Sequence[Any]], Iterable[Any]]]]
"""A title -> what wraps the steps, to show how far they are."""


@dataclass(frozen=True, slots=True)
class Side:
    """A file in an engine.

    Attributes:
        value: AP or top-1 as a fraction, on pictures that ranges were not measured on.
        milliseconds: median of one picture through the network.
    """

    engine: str
    kind: str
    value: float
    milliseconds: float


@dataclass(frozen=True, slots=True)
class Quantized:
    """What came of it.

    Attributes:
        path: the file in 8-bit integers.
        source: the file it was made of.
        metric: AP or top1.
        kept: convolutions that stayed in float32, of `convolutions`.
        pictures: that the value was measured on.
        sides: both files in every engine.
        worth: whether it is faster than anything in float32, at most `loss` worse.
        loss: AP or top-1 that it may cost, a fraction.
        machine: where this was measured.
    """

    path: Path
    source: Path
    metric: str
    kept: tuple[str, ...]
    convolutions: int
    pictures: int
    sides: tuple[Side, ...]
    worth: bool
    loss: float
    machine: dict[str, str]

    @property
    def verdict(self) -> str:
        """In words."""
        full, small = (min((one for one in self.sides if one.kind == kind), key=_time) for kind in ("float32", "int8"))
        times = f"{full.milliseconds / small.milliseconds:.2f} times as fast as float32 in {full.engine}"
        cost = f"{self.metric} {percent(small.value)} instead of {percent(full.value)}"
        if self.worth:
            return f"take it with engine {small.engine}: {times}, {cost}"
        return f"do not use it on this machine: at best {times}, {cost}"

    def __str__(self) -> str:
        rows = [f"{'engine':<13}{'':<9}{self.metric + ', %':>8}{'ms':>9}"]
        rows += [f"{one.engine:<13}{one.kind:<9}{percent(one.value):>8}{one.milliseconds:>9.2f}" for one in self.sides]
        return "\n".join(
            [
                *rows,
                f"{self.convolutions - len(self.kept)} of {self.convolutions} convolutions in 8-bit integers; "
                f"{self.metric} of {self.pictures} pictures that no ranges were measured on",
                f"verdict: {self.verdict}",
            ]
        )

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        found = asdict(self) | {"path": self.path.name, "source": self.source.name, "verdict": self.verdict}
        return {"format": 1, **found}


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
    from falconet.api.bench import bench
    from falconet.api.require import require
    from falconet.eval.latency import machine
    from falconet.runtime.engines import default_threads
    from falconet.runtime.onnx_engine import OnnxEngine

    require(["onnx", "hotcoco"], extra="eval", purpose="quantize")
    found = find_model(os.fspath(model))
    manifest = OnnxEngine(found.path).manifest
    paths = [None if path is None else Path(path) for path in (data, images)]
    truth = open_ground_truth(found, paths[0], paths[1], split, task=manifest.task)
    if len(truth.records) < LEAST:
        raise ConfigError(f"{truth.source}: has {len(truth.records)} pictures; expected at least {LEAST} with truth")
    ranging, judging = (_part(truth, first, pictures) for first in (0, 1))
    folder = found.path.parent if out is None else Path(out)
    target = folder / f"{found.path.stem}.int8.onnx"
    metric = "AP" if manifest.task == "detect" else "top1"
    with tempfile.TemporaryDirectory(prefix="falconet-int8-") as scratch:
        draft, kept, count = _smallest(found, ranging, metric, loss, Path(scratch), progress)
        replace_file(target, draft.read_bytes())
    small = FoundModel(target, target.stem)
    with progress("measuring") as bar:
        rows = bench(
            [found.path, target], threads=[default_threads()], precisions=["float32"], pictures=[], progress=bar
        )
    sides = tuple(
        Side(
            row.engine,
            "int8" if row.path == target else "float32",
            _value(small if row.path == target else found, judging, metric, engine=row.engine),
            row.latency.p50,
        )
        for row in sorted(rows.rows, key=lambda row: row.engine)
    )
    done = Quantized(
        target, found.path, metric, kept, count, len(judging.records), sides, _worth(sides, loss), loss, machine()
    )
    replace_file(target.with_suffix(".json"), json.dumps(done.as_dict(), indent=2) + "\n")
    return done


def _part(truth: GroundTruth, first: int, count: int) -> GroundTruth:
    records = truth.records[first::2]
    return replace(truth, records=records[:: max(1, len(records) // count)][:count], notes=())


def _smallest(
    found: FoundModel, ranging: GroundTruth, metric: str, loss: float, scratch: Path, progress: Progress
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
        order = sensitivity(quantizer, agreement_with(found.path, spread), scratch=scratch, progress=bar)
    full = _value(found, ranging, metric, engine="onnxruntime")
    best: tuple[float, Path, tuple[str, ...]] | None = None
    for number, share in enumerate(SHARES):
        kept = tuple(order[: round(share * len(order))])
        path = quantizer.write(scratch / f"{number}.onnx", kept)
        value = _value(FoundModel(path, found.name), ranging, metric, engine="onnxruntime")
        if best is None or value > best[0]:
            best = value, path, kept
        if value >= full - MARGIN * loss:
            break
    assert best is not None
    return best[1], best[2], len(order)


def _value(found: FoundModel, truth: GroundTruth, metric: str, *, engine: str) -> float:
    from falconet.api.engines import open_engine
    from falconet.api.evaluation import evaluate

    return float(evaluate(found, open_engine(found.path, engine=engine), truth)[metric])


def _time(side: Side) -> float:
    return side.milliseconds


def _worth(sides: Sequence[Side], loss: float) -> bool:
    full = {one.engine: one for one in sides if one.kind == "float32"}
    quickest = min(map(_time, full.values()))
    return any(
        one.milliseconds * WORTH <= quickest and one.value >= full[one.engine].value - loss
        for one in sides
        if one.kind == "int8"
    )
