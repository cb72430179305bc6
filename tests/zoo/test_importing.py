"""Foreign weights to detectors: the same numbers come out, and the report is honest."""

from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from falconet.api.load import load
from falconet.core.errors import ModelError
from falconet.core.manifest import EVALUATION, Preprocess
from falconet.exporting.onnx import export_onnx, quiet_exporter
from falconet.exporting.torch_engine import TorchEngine
from falconet.models import PRESETS, build
from falconet.models.deployable import Normalize
from falconet.models.nanodet import NanoDetConfig
from falconet.models.nanodet_plus import NanoDetPlusConfig
from falconet.models.norms import unmeasured
from falconet.models.reparam import fuse
from falconet.models.weights import load_extra, load_weights
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.runtime.predictor import Predictor
from falconet.zoo.class_lists import COCO_NAMES, assumed
from falconet.zoo.formats.torch_files import choose_weights, read_checkpoint
from falconet.zoo.imported import ImportOptions
from falconet.zoo.importing import import_files
from falconet.zoo.nanodet.ncnn_to_onnx import convert
from falconet.zoo.parity import standard_images
from tests.golden.case import Case
from tests.training.criterion import make_criterion
from tests.zoo import files
from tests.zoo.average_precision import average_precision
from tests.zoo.ncnn_writer import nanodet_pair
from tests.zoo.shared import CHECKPOINT, COCO_MINI, GRAPH, WEIGHTS, need

SMALL = {"backbone": {"name": "shufflenet-v2", "width": 0.5}, "neck": {"channels": 32}, "head": {"channels": 32}}
NAMES = ["apple", "banana", "cherry"]
SIZE = Preprocess(height=64, width=96)


def _lively(detector: nn.Module) -> nn.Module:
    """Weights and statistics that let every layer matter."""
    generator = torch.Generator().manual_seed(0)
    for part in detector.modules():
        if isinstance(part, nn.Conv2d):
            fan = part.weight[0].numel()
            part.weight.data = torch.randn(part.weight.shape, generator=generator) * (2 / fan) ** 0.5
        elif isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(0.1 * torch.randn(part.num_features, generator=generator))
            part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=generator))
            part.bias.data = 0.1 * torch.randn(part.num_features, generator=generator)
    return detector.eval()


def small_nanodet() -> nn.Module:
    return _lively(build(NanoDetConfig.model_validate(SMALL | {"input": SIZE}), 3))


def _write(folder: Path, graph: bytes, weights: bytes) -> tuple[Path, Path]:
    paths = folder / "m.param", folder / "m.bin"
    for path, data in zip(paths, (graph, weights), strict=True):
        path.write_bytes(data)
    return paths


def _same(one: nn.Module, other: nn.Module) -> None:
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        a, b = one(images), other(images)
    assert (a.logits - b.logits).abs().max() < 1e-4 * a.logits.abs().max()
    assert (a.box_code - b.box_code).abs().max() < 1e-4 * a.box_code.abs().max()


def test_a_nanodet_ncnn_pair_is_rebuilt(tmp_path: Path) -> None:
    detector = small_nanodet()
    paths = _write(tmp_path, *nanodet_pair(detector, half=False))
    imported = import_files(paths, ImportOptions(preprocess=SIZE, classes=NAMES, licence="MIT"))
    _same(detector, imported.detector)
    assert imported.card.model == NanoDetConfig.model_validate(SMALL | {"input": SIZE})
    assert imported.card.classes == tuple(NAMES)
    assert imported.parity is not None
    assert imported.parity.equal
    assert unmeasured(imported.detector)
    report = "\n".join(imported.report())
    assert "architecture  nanodet, input 64 x 96" in report
    assert f"matched       {imported.matched}\n" in report
    assert "left over     nothing" in report
    assert "parity        largest difference on 4 pictures: scores" in report
    # One file of the pair is enough; fused and saved it stays the same function.
    again = import_files(paths[1:], ImportOptions(preprocess=SIZE, classes=NAMES))
    _same(detector, fuse(again.detector))
    again.save(tmp_path / "new" / "m.safetensors")
    _same(detector, load_weights(tmp_path / "new" / "m.safetensors")[0])


def test_a_nanodet_ncnn_pair_as_onnx_detects_as_the_detector_does(tmp_path: Path) -> None:
    detector = small_nanodet()
    paths = _write(tmp_path, *nanodet_pair(detector, half=False))
    onnx.save(convert(*paths, preprocess=SIZE, classes=NAMES), tmp_path / "m.onnx")
    engine = load(tmp_path / "m.onnx", threads=1).engine
    assert engine.manifest.model == "nanodet"
    pixels = standard_images(64, 96)[1]
    boxes, scores = engine(pixels[None]).values()
    with torch.no_grad():
        expected = detector.decode(detector(Normalize(SIZE)(torch.from_numpy(pixels)[None])))
    limit = np.array([96, 64, 96, 64])
    np.testing.assert_allclose(scores, expected.scores.numpy(), atol=1e-3)
    np.testing.assert_allclose(boxes, np.clip(expected.boxes.numpy(), 0, limit), atol=0.05)


def test_the_published_pair_is_rebuilt() -> None:
    need(GRAPH, WEIGHTS)
    imported = import_files([GRAPH, WEIGHTS])
    assert imported.card.model == PRESETS["nanodet-plus-m-416"]
    assert (imported.matched, imported.left_over, imported.fresh) == (110, (), ())
    assert max(imported.parity.scores, imported.parity.code) < 1e-4


def test_a_network_that_cannot_be_rebuilt_still_converts(tmp_path: Path) -> None:
    paths = _write(tmp_path, *files.nanodet_pair(3))
    with pytest.raises(ModelError) as caught:
        import_files(paths, ImportOptions(preprocess=SIZE, classes=NAMES))
    assert (
        "m.param: is not one of the networks that can be rebuilt here: there is none with such an output end and "
        "depthwise convolutions. It can still be converted to ONNX and used for detection"
    ) in str(caught.value)
    assert convert(*paths, preprocess=SIZE, classes=NAMES).graph.output[1].name == "scores"


def test_another_network_of_equal_shapes_is_noticed(tmp_path: Path) -> None:
    # The same convolutions with another slope of the activation: shapes fit, numbers do not.
    graph, weights = nanodet_pair(small_nanodet(), half=False)
    paths = _write(tmp_path, graph.replace(b" 0=1.000000e-01", b" 0=2.000000e-01"), weights)
    with pytest.raises(ModelError, match=r"m\.param: was rebuilt, but does not compute the same \(largest difference"):
        import_files(paths, ImportOptions(preprocess=SIZE, classes=NAMES))


class _Exported(nn.Module):
    """NanoDet-Plus as its own export script sees it: [1, P, classes and bins], scores through the sigmoid."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, data: torch.Tensor) -> torch.Tensor:
        raw = self.detector(data)
        return torch.cat((raw.logits.sigmoid(), raw.box_code), dim=-1)


SIZED = {
    "input": [("Input data 0 1 data", "Input data 0 1 data 0=96 1=64 2=3")],
    "hint": [("Input data 0 1 data", "Input data 0 1 data -23330=4,3,96,64,3")],
    "interp": [
        ("1=2.000000e+00 2=2.000000e+00 3=0 4=0", "1=1.0 2=1.0 3=4 4=6"),
        ("1=2.000000e+00 2=2.000000e+00 3=0 4=0", "3=8 4=12"),
        ("1=5.000000e-01 2=5.000000e-01 3=0 4=0", "3=4 4=6"),
        ("1=5.000000e-01 2=5.000000e-01 3=0 4=0", "3=2 4=3"),
    ],
}
"""Changes of a graph that show its input of 64 x 96: in order, each once."""


@pytest.mark.parametrize("kind", SIZED)
def test_the_size_that_an_ncnn_pair_shows(tmp_path: Path, kind: str) -> None:
    graph, weights = nanodet_pair(small_nanodet(), half=False)
    plain = import_files(_write(tmp_path, graph, weights), ImportOptions(classes=NAMES))
    assert (plain.card.model.input.height, plain.card.model.input.width) == (416, 416)
    assert plain.notes[0].startswith("the file does not show its input; 416 x 416 was taken.")
    text = graph.decode()
    for old, new in SIZED[kind]:
        assert old in text
        text = text.replace(old, new, 1)
    paths = _write(tmp_path, text.encode(), weights)
    shown = import_files(paths, ImportOptions(classes=NAMES))
    assert (shown.card.model.input.height, shown.card.model.input.width) == (64, 96)
    assert shown.notes[0] == "the file shows an input of 64 x 96"
    assert shown.parity.equal
    for name, value in plain.detector.state_dict().items():
        torch.testing.assert_close(shown.detector.state_dict()[name], value)
    other = ImportOptions(classes=NAMES, preprocess=Preprocess(height=128, width=96))
    if kind == "interp":
        with pytest.raises(ModelError, match=r"makes 4 x 6 cells of 4 x 3, so the file is made for another"):
            import_files(paths, other)
    else:
        assert import_files(paths, other).notes[0] == "the file shows an input of 64 x 96; another was asked for"
        with pytest.raises(ModelError, match="shows an input of 640000 x 96 pixels; expected sides from 32 to 8192"):
            import_files(_write(tmp_path, text.replace(new, new.replace("64", "640000")).encode(), weights), other)


@pytest.mark.parametrize("side", [64, 320])
def test_onnx_of_an_ncnn_pair_runs_in_opencv(tmp_path: Path, side: int) -> None:
    graph, weights = _write(tmp_path, *nanodet_pair(small_nanodet(), half=False))
    model = convert(graph, weights, preprocess=Preprocess(height=side, width=side), classes=NAMES).SerializeToString()
    pixels = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    expected = onnxruntime.InferenceSession(model).run(["boxes", "scores"], {"pixels": pixels})
    network = cv2.dnn.readNetFromONNX(np.frombuffer(model, np.uint8))
    network.setInput(pixels)
    for got, wanted in zip(network.forward(["boxes", "scores"]), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=0.02)


@pytest.mark.slow
def test_an_onnx_export_of_nanodet_plus(tmp_path: Path) -> None:
    config = NanoDetPlusConfig.model_validate(SMALL | {"input": Preprocess(height=64, width=96)})
    detector = _lively(build(config, 3))
    path = tmp_path / "m.onnx"
    with quiet_exporter():
        exported = _Exported(fuse(detector)).eval()
        images = (torch.zeros(1, 3, 64, 96),)
        program = torch.onnx.export(exported, images, dynamo=True, verbose=False, input_names=["data"])
    program.save(str(path))
    imported = import_files([path], ImportOptions(classes=NAMES))
    _same(detector, imported.detector)
    assert imported.card.model == config
    with pytest.raises(ModelError, match="has 3 classes, but 2 names were given: a, b"):
        import_files([path], ImportOptions(classes=["a", "b"]))


def test_other_onnx_files(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(files.onnx_model())
    with pytest.raises(ModelError, match=r"expected one input of shape \[1, 3, height, width\]|cannot be run"):
        import_files([path], ImportOptions(classes=NAMES))
    path.write_bytes(b"not an onnx file")
    with pytest.raises(ModelError, match="is not an ONNX model"):
        import_files([path])


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    return {key: torch.from_numpy(value) for key, value in Case("nanodet_plus_m_320").weights().items()}


@pytest.mark.parametrize("layout", ["lightning", "average", "plain", "wrapped", "parallel"])
def test_nanodet_plus_checkpoints(tmp_path: Path, golden: dict[str, torch.Tensor], layout: str) -> None:
    state = dict(golden)
    tree = {
        "lightning": {"epoch": 3, "state_dict": {f"model.{key}": value for key, value in state.items()}},
        "average": {
            "state_dict": {f"model.{key}": value + 1 for key, value in state.items()}
            | {f"avg_model.{key}": value for key, value in state.items()},
            "callbacks": {},
        },
        "plain": state,
        "wrapped": {"state_dict": state},
        "parallel": {"state_dict": {f"module.{key}": value for key, value in state.items()}},
    }[layout]
    path = tmp_path / "model_best.ckpt"
    torch.save(tree, path)
    imported = import_files([path], ImportOptions(preprocess=PRESETS["nanodet-plus-m-320"].input))
    assert imported.card.model == PRESETS["nanodet-plus-m-320"]
    assert (imported.left_over, imported.fresh, imported.parity) == ((), (), None)
    case = Case("nanodet_plus_m_320")
    with torch.no_grad():
        raw = imported.detector(torch.from_numpy(case.input("rand")))
    case.check("rand/head", torch.cat((raw.logits, raw.box_code), dim=-1))
    assert any("moving average of the weights was taken" in note for note in imported.notes) == (layout == "average")

    imported.save(tmp_path / "m.safetensors")
    criterion = make_criterion(imported.card.model, imported.detector, num_classes=80)
    criterion.load_state_dict(load_extra(tmp_path / "m.safetensors"))  # strict: the whole auxiliary branch is there


def test_the_real_nanodet_checkpoint() -> None:
    need(CHECKPOINT)
    imported = import_files([CHECKPOINT])
    config = PRESETS["nanodet-m-416"].model_copy(update={"input": Preprocess(height=416, width=416)})
    assert imported.card.model == config
    assert len(imported.left_over) == 6
    assert all(key.startswith("head.gfl_reg.") for key in imported.left_over)
    assert imported.notes == ("6 of the tensors left over are not used by the original either", assumed(COCO_NAMES))
    assert imported.report()[-1] == "parity        no reference that could be run"


def test_an_incomplete_average_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "m.ckpt"
    torch.save(
        {"state_dict": {"model.a": torch.ones(2), "model.b": torch.ones(1), "avg_model.a": torch.zeros(2)}}, path
    )
    chosen = choose_weights(read_checkpoint(path), "m.ckpt", limit=1000)
    assert sorted(chosen.state) == ["a", "b"]
    assert chosen.state["a"].tolist() == [1, 1]
    assert chosen.note == "the moving average is incomplete (1 tensors) and was left out"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("head.gfl_cls.0.bias"),
            r"1 weights of the model are missing, the first is head\.outputs\.0\.bias",
        ),
        (
            lambda s: s.update({"fpn.reduce_layers.1.conv.weight": torch.zeros(3, 3)}),
            r"neck\.reduce\.1\.conv\.weight has shape \[3, 3\], expected \[96, 232, 1, 1\]",
        ),
        (
            lambda s: s["head.gfl_cls.1.bias"].fill_(float("nan")),
            r"head\.outputs\.1\.bias holds numbers that are not finite; the training of this model diverged",
        ),
        (
            lambda s: s.update({"fpn.reduce_layers.0.conv.weight": torch.zeros(96, 100, 1, 1)}),
            "its backbone gives 100 channels, which is no width of ShuffleNetV2",
        ),
        (
            lambda s: [s.pop(key) for key in list(s) if key.startswith("backbone")],
            "is neither NanoDet nor NanoDet-Plus with a ShuffleNetV2 backbone; its weights belong to",
        ),
        (
            lambda s: s.update({"head.gfl_cls.0.weight": torch.zeros(20, 96, 1, 1)}),
            r"output convolution of shape \[20, 96, 1, 1\] has no room for classes and 4 x 8 bins",
        ),
    ],
)
def test_checkpoints_that_do_not_fit(tmp_path: Path, golden: dict[str, torch.Tensor], change, message: str) -> None:
    state = {key: value.clone() for key, value in golden.items()}
    change(state)
    path = tmp_path / "m.pth"
    torch.save({"state_dict": state}, path)
    with pytest.raises(ModelError, match=message):
        import_files([path])


def test_classes_must_be_named(tmp_path: Path) -> None:
    paths = _write(tmp_path, *nanodet_pair(small_nanodet(), half=True))
    with pytest.raises(ModelError, match="has 3 classes, and the file does not name them; pass their names in the"):
        import_files(paths, ImportOptions(preprocess=SIZE))


def test_unknown_kinds_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"none\.ckpt: no such file; expected a \.param with its \.bin"):
        import_files([tmp_path / "none.ckpt"])
    path = tmp_path / "m.tflite"
    path.touch()
    with pytest.raises(ModelError, match=r"m\.tflite: is not a kind of weights known here; expected a \.param"):
        import_files([path])
    path = tmp_path / "m.ckpt"
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="expected a mapping with a state_dict, but found a list"):
        import_files([path])
    torch.save({"epoch": 1}, path)
    with pytest.raises(ModelError, match="holds no tensors; its entries are epoch"):
        import_files([path])


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_reference_average_precision_of_nanodet(tmp_path: Path, engine: str) -> None:
    need(CHECKPOINT, COCO_MINI)
    path = tmp_path / "m.safetensors"
    import_files([CHECKPOINT]).save(path)
    runs = TorchEngine(path) if engine == "torch" else OnnxEngine(export_onnx(path, tmp_path / "m.onnx"), threads=1)
    metrics = average_precision(Predictor(runs, selection=EVALUATION))
    # 28.82 by ncnn, of the half-precision export of the same training run.
    assert metrics["AP"] == pytest.approx(0.2882, abs=0.002)


@pytest.mark.slow
def test_reference_average_precision_of_the_rebuilt_nanodet_plus(tmp_path: Path) -> None:
    need(GRAPH, WEIGHTS, COCO_MINI)
    path = tmp_path / "m.safetensors"
    import_files([GRAPH, WEIGHTS]).save(path)
    for engine in (TorchEngine(path), OnnxEngine(export_onnx(path, tmp_path / "m.onnx"), threads=1)):
        metrics = average_precision(Predictor(engine, selection=EVALUATION))
        assert metrics["AP"] == pytest.approx(0.3949, abs=0.001)
        assert metrics["AP50"] == pytest.approx(0.5564, abs=0.001)
