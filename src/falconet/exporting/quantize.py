"""Exported files in 8-bit integers, as ONNX Runtime quantises them: after training, from pictures (QDQ).

Only convolutions are quantised, weights by output channel; all else, the decoding of boxes above all, stays in
float32. Weights take 7 of their 8 bits: processors without VNNI add products of full bytes in 16 bits, which overflow.
Convolutions that hurt stay in float32: each is quantised by itself, and how far the answers then differ from those in
float32 says how much it hurts.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from falconet.core.errors import ModelError
from falconet.core.manifest import EVALUATION, MANIFEST_KEY
from falconet.core.select import select
from falconet.core.types import Pixels, Record
from falconet.eval.coco_ap import evaluate
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.runtime.predictor import Predictor, Prepared
from falconet.runtime.tasks import Outputs

QUANTISED = "Conv"

SHARES = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5)
"""Of the convolutions that stay in float32, those that hurt most; tried in this order."""

CERTAIN = 0.2
"""Boxes that score above this are the truth when two files are compared."""

Agreement = Callable[[Path], float]
"""A file -> how far its answers agree with those of the network in float32, 1 for all."""


class Quantizer:
    """Writes a file in 8-bit integers, with any of its convolutions left in float32.

    Args:
        source: an exported file.
        pictures: uint8 [H, W, 3] of the input's size, by which ranges of activations are measured.
        scratch: folder for files in between.

    Raises:
        ModelError: a file without convolutions, or one that is quantised already.
    """

    def __init__(self, source: Path, pictures: Sequence[Pixels], *, scratch: Path) -> None:
        self._model = onnx.shape_inference.infer_shapes(onnx.load(source))
        self.convolutions = [node.name for node in self._model.graph.node if node.op_type == QUANTISED]
        if any(node.op_type == "QuantizeLinear" for node in self._model.graph.node):
            raise ModelError(f"{source}: is quantised already; expected the file it was made of")
        if not self.convolutions or len(set(self.convolutions)) < len(self.convolutions):
            raise ModelError(f"{source}: has no convolutions that can be told apart; export it again")
        plain = scratch / "plain.onnx"
        onnx.save(self._model, plain)
        with _quiet():
            calibrator = create_calibrator(
                plain,
                [QUANTISED],
                augmented_model_path=str(scratch / "augmented.onnx"),
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"moving_average": True, "symmetric": False},
            )
            calibrator.collect_data(_Pictures(self._model.graph.input[0].name, pictures))
            self._ranges = calibrator.compute_data()

    def write(self, path: Path, kept: Iterable[str]) -> Path:
        """The network with all convolutions but `kept` in 8-bit integers."""
        with _quiet():
            writer = QDQQuantizer(
                onnx.ModelProto.FromString(self._model.SerializeToString()),
                True,
                True,
                QuantType.QInt8,
                QuantType.QUInt8,
                self._ranges,
                [],  # all, but for those
                list(kept),
                [QUANTISED],
                {"WeightSymmetric": True, "ActivationSymmetric": False},
            )
            writer.quantize_model()
        model = writer.model.model
        text = {one.key: one.value for one in self._model.metadata_props}[MANIFEST_KEY]
        del model.metadata_props[:]
        onnx.helper.set_model_props(model, {MANIFEST_KEY: text})
        onnx.save(model, path)
        return path


def sensitivity(
    quantizer: Quantizer,
    agreement: Agreement,
    *,
    scratch: Path,
    known: Mapping[str, float] | None = None,
    measured: Callable[[str, float], None] = lambda _name, _hurt: None,
    progress: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> list[str]:
    """The convolutions, those first that hurt most when they alone are quantised.

    Args:
        quantizer: writes the files.
        agreement: says how well a file does.
        scratch: folder for them.
        known: how much some of them hurt, measured before.
        measured: is told of each further one.
        progress: wraps those that are left.
    """
    every = quantizer.convolutions
    hurt = {name: value for name, value in (known or {}).items() if name in every}
    for name in progress([one for one in every if one not in hurt]):
        path = quantizer.write(scratch / "one.onnx", [other for other in every if other != name])
        hurt[name] = 1 - agreement(path)
        measured(name, hurt[name])
    return sorted(every, key=lambda name: -hurt[name])


def agreement_with(source: Path, pictures: Sequence[Prepared]) -> Agreement:
    """How far answers for these pictures agree with those of `source`, which no truth is needed for.

    Of a detector, the average precision with the boxes that `source` finds as truth; of a classifier, the share of
    probability on the same classes.
    """
    reference: Predictor[Any] = Predictor(OnnxEngine(source, threads=1))
    outputs = [reference.run([one]) for one in pictures]
    if reference.manifest.task == "classify":
        return lambda path: _shared(outputs, [Predictor(OnnxEngine(path, threads=1)).run([one]) for one in pictures])
    certain = replace(EVALUATION, score_threshold=CERTAIN)
    truth = []
    for number, (one, found) in enumerate(zip(pictures, outputs, strict=True)):
        boxes = select(found["boxes"][0], found["scores"][0], one.placement, certain)
        nobody = np.zeros(len(boxes), bool)
        truth.append(Record(number, Path(str(number)), None, None, boxes.boxes, boxes.labels, nobody))

    def agreement(path: Path) -> float:
        predictor: Predictor[Any] = Predictor(OnnxEngine(path, threads=1), selection=EVALUATION, calibration=())
        answers = [predictor.answer([one])[0] for one in pictures]
        return max(0.0, evaluate(reference.names, truth, answers)["AP"])

    return agreement


def _shared(left: Sequence[Outputs], right: Sequence[Outputs]) -> float:
    pairs = zip(left, right, strict=True)
    return float(np.mean([np.minimum(a["probabilities"], b["probabilities"]).sum() for a, b in pairs]))


class _Pictures(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, name: str, pictures: Sequence[Pixels]) -> None:
        self._name, self._left = name, iter(pictures)

    def get_next(self) -> dict[str, Any] | None:
        pixels = next(self._left, None)
        return None if pixels is None else {self._name: np.ascontiguousarray(pixels[None])}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without advice on preprocessing that an exported file has behind it."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)
