"""`falconet.load`: a model by file or name, ready to predict."""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from falconet.api.engines import open_engine
from falconet.api.find import find_model
from falconet.core.errors import ConfigError
from falconet.core.manifest import Selection
from falconet.runtime.engines import Use
from falconet.runtime.predictor import Predictor


def load(
    model: "str | os.PathLike[str]",
    *,
    engine: str = "auto",
    threads: int | None = None,
    streams: int = 1,
    precision: str = "auto",
    score: float | None = None,
    selection: Selection | None = None,
    classes: Sequence[str] | None = None,
    top: int | None = None,
    operating_point: str | None = None,
) -> Predictor[Any]:
    """A predictor for a model: of a detector or, where the file says so, of a classifier.

    Args:
        model: an exported .onnx file, the name of published weights or, with torch installed, a weights file or the
            folder of a training run.
        engine: what runs it: onnxruntime, openvino, ncnn, litert or executorch for exported files, torch for weights;
            `auto` takes what `falconet tune` found, else onnxruntime, or by the file's ending another one.
        threads: for the network; None takes the CPUs this process may use, at most four; one where there are
            several streams.
        streams: runs of the network that go on at once over a list of pictures, a folder or a video. As many as CPUs
            are the fastest for these, one for a camera.
        precision: float32, or bfloat16 where engine and processor compute in it; `auto` is float32.
        score: of a detector, report what scores above this; None takes the model's own threshold.
        selection: of a detector, all thresholds and limits; None takes those the model was exported with.
        classes: of a detector, names of the only classes to report.
        top: of a classifier, the most probable classes that are printed and saved; None takes five.
        operating_point: of a detector, the thresholds that `falconet calibrate` stored under this name, as in
            "recall=0.95"; not beside `score`.

    Raises:
        ModelError: a missing, broken or foreign file, or an engine that does not run it.
        ConfigError: an unknown engine or class, streams or a precision that the engine has not, or an option that
            means nothing for the model's task.
    """
    found = find_model(os.fspath(model), weights=engine == "torch")
    opened = open_engine(found.path, engine=engine, use=Use(threads, streams, precision))
    if score is not None:
        if operating_point is not None:
            raise ConfigError(
                f"score, operating_point: both are thresholds; leave one out, score={score!r} or {operating_point}"
            )
        if not 0 <= score <= 1:
            raise ConfigError(f"score: expected a number from 0 to 1, but got {score!r}")
        own = opened.manifest.told_selection if selection is None else selection
        selection = replace(own, score_threshold=score)
    return Predictor(opened, selection=selection, classes=classes, top=top, operating_point=operating_point)
