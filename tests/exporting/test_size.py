"""Another size of the input than that of the training: in torch, in an exported file, in the receipt's comparison."""

import pytest

from falconet.api.engines import open_engine
from falconet.core.errors import ConfigError
from falconet.exporting.onnx import export_onnx
from falconet.exporting.torch_engine import TorchEngine
from falconet.exporting.verify import verify
from falconet.runtime.onnx_engine import OnnxEngine


@pytest.mark.slow
def test_a_file_of_another_size_does_what_torch_does_at_that_size(weights, records, tmp_path):
    file = export_onnx(weights, tmp_path / "wide.onnx", size=(64, 160))
    rule = OnnxEngine(file).manifest.preprocess
    assert (rule.height, rule.width, rule.channels) == (64, 160, "rgb")
    assert TorchEngine(weights).manifest.preprocess.height == 96
    receipt = verify(weights, file, records, threads=1)
    assert receipt.images == len(records)
    assert not receipt.problems
    assert open_engine(weights, size=(64, 160)).manifest.preprocess == rule


def test_the_size_of_an_exported_file_is_fixed(exported):
    with pytest.raises(ConfigError, match=r"small\.onnx is fixed; pass the weights it was exported from"):
        open_engine(exported, size=(64, 64))
