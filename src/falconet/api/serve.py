"""What `falconet serve` serves: models by name, opened as they are the fastest here, with what is known of them."""

import json
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from falconet.api.engines import as_tuned, open_engine
from falconet.api.find import find_model
from falconet.core.errors import ConfigError, ModelError
from falconet.exporting.engines import ENGINES
from falconet.runtime.engines import Use, choose_engine, default_threads
from falconet.runtime.predictor import Predictor
from falconet.serving.hosted import About, Opened, Source, sum_of
from falconet.serving.limits import usual_workers


def find_source(
    word: str,
    *,
    engine: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    name: str | None = None,
) -> Source:
    """A model as it is named on the command line.

    Args:
        word: an exported file, a published name, a run folder; or NAME=one of these.
        engine, precision: as in `falconet.load`.
        threads: of each run; None takes one where several go on at once, and all for a picture that is alone.
        workers: runs that go on at once; None takes as many as keep all CPUs busy.
        name: what to call it; None takes that before the =, or the file's.

    Raises:
        ModelError: nothing there.
        ConfigError: published weights that need torch; an empty name.
    """
    given, equals, rest = word.partition("=")
    if equals and not Path(word).exists():
        if name is not None:
            raise ConfigError(f"--name {name}: the model has a name already, in {word}; leave one out")
        name, word = given.strip(), rest
    if name is not None and not (name and name.isprintable()):
        raise ConfigError(f"{name!r}: is no name of a model; expected letters, as in door=exported/best.onnx")
    found = find_model(word, weights=engine == "torch")
    opener = partial(_open, engine=engine, precision=precision, threads=threads, workers=workers)
    return Source(name or found.name, found.path, opener, partial(_about, published=word))


def _open(path: Path, *, engine: str, precision: str, threads: int | None, workers: int | None) -> Opened:
    """A file in the engine that was asked for, or is the fastest: for many pictures at once, and for one alone."""
    engine, use = as_tuned(path, engine, Use(threads, precision=precision))
    row = ENGINES[choose_engine(path, engine, engines=ENGINES)]
    streams = (workers or usual_workers(threads or 1)) if row.streams else 1
    each = threads or (1 if streams > 1 else None)
    many = Predictor(open_engine(path, engine=engine, use=Use(each, streams, use.precision)))
    alone = None
    if threads is None and streams > 1 and default_threads() > 1:
        alone = Predictor(open_engine(path, engine=engine, use=Use(default_threads(), precision=use.precision)))
    return Opened(many, alone, "float32" if use.precision == "auto" else use.precision)


def _about(path: Path, *, published: str) -> About:
    """What the receipt beside a file says, else what its authors state."""
    if (receipt := _receipt(path)) is not None:
        metrics = receipt.get("exported", {}).get("metrics", {})
        value = metrics.get("AP", metrics.get("top1"))
        if value is not None:
            return About(float(value), "receipt", receipt)
    from falconet.zoo.published.table import ACCURACY, PUBLISHED

    stated = ACCURACY.get(PUBLISHED[published].model) if published in PUBLISHED else None
    if stated is None:
        return About(receipt=receipt)
    return About(stated.value, f"stated by its authors: {stated.source}", receipt)


def _receipt(path: Path) -> dict[str, Any] | None:
    """The receipt of this very file; None where none is there, or it is another file's."""
    from falconet.exporting.receipt import read_receipt, receipt_paths

    for engine in ("onnxruntime", "openvino", "ncnn", "litert"):
        with suppress(ModelError, OSError):
            receipt = read_receipt(receipt_paths(path, engine=engine)[0])
            if receipt.sha256 == sum_of(path):
                told: dict[str, Any] = json.loads(receipt.model_dump_json(exclude={"weights_path", "machine"}))
                return told
    return None
