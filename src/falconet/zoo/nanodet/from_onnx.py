"""NanoDet's own ONNX export as a detector of ours. Needs torch; the file itself is run as the reference."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.core.types import Floats, Pixels
from falconet.zoo.formats.onnx_files import read_convolutions
from falconet.zoo.imported import NO_OPTIONS, Imported, ImportOptions
from falconet.zoo.nanodet.architectures import candidates
from falconet.zoo.nanodet.folded import FOLDED, fit_config
from falconet.zoo.nanodet.ncnn_to_onnx import class_names
from falconet.zoo.parity import Outputs, compare, standard_images

BINS = 8
"""Per side, in every published model (reg_max: 7)."""

_LOAD_ERRORS = (
    errors.Fail,
    errors.InvalidArgument,
    errors.InvalidGraph,
    errors.InvalidProtobuf,
    errors.NotImplemented,
    errors.RuntimeException,
)


def import_onnx(
    path: Path,
    options: ImportOptions = NO_OPTIONS,
) -> Imported:
    """The detector in an ONNX file written by NanoDet's `export_onnx.py`.

    Args:
        path: one input [1, 3, H, W]; one output of all levels, or `cls_pred_stride_8` ... for each level.
        options: the input size counts where the file leaves it open.

    Raises:
        ModelError: no such model, or rebuilt it does not compute the same.
    """
    convolutions = read_convolutions(path)
    reference = OnnxReference(path, options.preprocess or Preprocess(height=416, width=416))
    names = class_names(reference.num_classes, options.classes, str(path))
    tried = [
        (option, len(names))
        for architecture in ("nanodet-plus", "nanodet")
        for option in candidates(architecture, convolutions, reference.preprocess, num_classes=len(names), bins=BINS)
    ]
    detector, config = fit_config(convolutions, tried, str(path))
    size = reference.preprocess
    parity = compare(detector, size, reference, standard_images(size.height, size.width))
    if not parity.equal:
        raise ModelError(f"{path}: was rebuilt, but does not compute the same ({parity}); it is another network")
    return Imported(
        detector,
        options.card(config, names, path.name),
        matched=len(convolutions),
        notes=(FOLDED,),
        parity=parity,
    )


class OnnxReference:
    """A foreign ONNX model in ONNX Runtime: pixels to raw outputs.

    Attributes:
        preprocess: with the input size of the file.
        num_classes: told from the outputs.
    """

    def __init__(self, path: Path, preprocess: Preprocess) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            self._session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        except _LOAD_ERRORS as error:
            raise ModelError(f"{path}: cannot be run by ONNX Runtime: {str(error)[:200]}") from error
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 else []
        if len(shape) != 4 or shape[1] != 3 or inputs[0].type != "tensor(float)":
            raise ModelError(f"{path}: expected one input of shape [1, 3, height, width], as NanoDet's export writes")
        if isinstance(shape[2], int) and isinstance(shape[3], int):
            preprocess = replace(preprocess, height=shape[2], width=shape[3])
        self.preprocess = preprocess
        self._input, self._where = inputs[0].name, str(path)
        self.num_classes = self(np.zeros((preprocess.height, preprocess.width, 3), np.uint8)).scores.shape[1]

    def __call__(self, pixels: Pixels) -> Outputs:
        """Raw outputs of one picture uint8 [H, W, 3]."""
        mean = np.array(self.preprocess.mean, np.float32)
        std = np.array(self.preprocess.std, np.float32)
        image = ((pixels.astype(np.float32) - mean) / std).transpose(2, 0, 1)[None]
        found = self._session.run(None, {self._input: np.ascontiguousarray(image)})
        outputs = dict(zip((output.name for output in self._session.get_outputs()), found, strict=True))
        if len(outputs) == 1:
            (joined,) = outputs.values()
            return _split(joined, self._where)
        return _join(outputs, self._where)


def _split(joined: Floats, where: str) -> Outputs:
    if joined.ndim == 3 and joined.shape[2] <= 4 * BINS:
        joined = joined.transpose(0, 2, 1)
    if joined.ndim != 3 or joined.shape[0] != 1 or joined.shape[2] <= 4 * BINS:
        raise ModelError(f"{where}: its output of shape {list(joined.shape)} is not that of NanoDet")
    num_classes = joined.shape[2] - 4 * BINS
    return Outputs(_scores(joined[0, :, :num_classes]), joined[0, :, num_classes:])


def _join(outputs: dict[str, Floats], where: str) -> Outputs:
    strides = sorted(int(m[1]) for name in outputs if (m := re.fullmatch(r"cls_pred_stride_(\d{1,3})", name)))
    if not strides or set(outputs) != {f"{kind}_pred_stride_{s}" for s in strides for kind in ("cls", "dis")}:
        raise ModelError(
            f"{where}: its outputs are {', '.join(sorted(outputs)[:8])}; expected those of NanoDet's export"
        )
    scores = np.concatenate([outputs[f"cls_pred_stride_{s}"][0] for s in strides])
    code = np.concatenate([outputs[f"dis_pred_stride_{s}"][0] for s in strides])
    return Outputs(_scores(scores), code)


def _scores(values: Floats) -> Floats:
    """Scores 0..1; some versions of the export leave the sigmoid to whoever reads them."""
    if values.min() >= 0 and values.max() <= 1:
        return values
    return np.asarray(1 / (1 + np.exp(-values.astype(np.float64))), np.float32)
