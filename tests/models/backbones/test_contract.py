"""What holds for every backbone, and for its options; a new one joins by being in `BACKBONES`."""

import numpy as np
import pytest
import torch
from torch import nn

from falconet.core.errors import ConfigError
from falconet.core.manifest import Preprocess
from falconet.exporting.compare import raw_differences
from falconet.exporting.onnx import export_onnx
from falconet.exporting.torch_engine import ALL_POINTS, TorchEngine
from falconet.models.backbones import BACKBONES
from falconet.models.deployable import Deployable, Normalize
from falconet.models.nanodet_plus import GhostPANConfig, NanoDetPlusConfig, NanoDetPlusHeadConfig
from falconet.models.reparam import fuse
from falconet.models.weights import ModelCard, save_weights
from falconet.runtime.onnx_engine import OnnxEngine
from falconet.training import read_run
from falconet.training.batch import Targets
from tests.training.criterion import at, make_criterion

SMALL = {"shufflenet-v2": {"width": 0.5}} | {
    name: {"width": 0.25}
    for name, config in BACKBONES.items()
    if "width" in config.model_fields and "shuffle" not in name
}
OPTIONS = {
    "cspresnet, plain": {"attention": "none", "shortcut": False, "identity": True, "alpha": True},
    "cspresnet, own stages": {"layers": (1, 2, 1, 1), "channels": (64, 96, 128, 256, 512), "depth": 1, "width": 0.125},
    "cspresnet, five stages": {
        "layers": (1,) * 5,
        "channels": (8, 8, 16, 32, 32, 64),
        "stage_strides": (2, 2, 2, 1, 2),
        "out_stages": (1, 3, 4),
        "width": 1,
    },
    "cspresnet, bottleneck": {"variant": "50", "attention": "effective-squeeze-excite", "shortcut": False},
    "ghostnet, shallow": {"depth": 0.5, "squeeze_ratio": 0.5, "squeeze_divisor": 8, "gate": "sigmoid", "ratio": 3},
    "ghostnet, wide primary": {"primary_kernel_size": 3, "downsampling": "primary"},
    "ghostnet, own rows": {
        "rows": (
            ((3, 32, 24, False, 2), (3, 48, 24, False, 1)),
            ((5, 72, 40, True, 2),),
            ((3, 240, 80, False, 2),),
            ((5, 480, 160, True, 2), (5, 480, 160, True, 1)),
        )
    },
    "mobilenet-v3, other block": {"squeeze_excite": "last", "shortcut": "convolution", "squeeze_ratio": 0.5},
    "mnasnet, a1": {"variant": "a1"},
    "mnasnet, own rows": {
        "rows": ((3, 1, 16, 1, 2, 0), (5, 4, 24, 2, 2, 0.5), (3, 2, 40, 1, 2, 0), (7, 3, 64, 1, 2, 0))
    },
    "efficientnet, one block": {"rows": tuple((3, 6, 32 * i, 1, 2, 0) for i in range(1, 5)), "variant": "b5"},
    "efficientnet-lite, excited": {"se_ratio": 0.25},
    "mobilenet-v1, linear middle": {"middle_activation": "none"},
    "xception, middle": {"middle_activation": "relu"},
    "densenet, first": {"fusion": "first", "layers": (2, 3, 2, 1), "growth": 64},
    "densenet, last": {"fusion": "last", "layers": (1, 2, 3, 2), "bypass": 0.25, "compression": 0.7},
    "densenet, full": {"fusion": "full", "layers": (2, 2, 2, 2), "bottleneck": 2},
    "repvgg, no identity": {"identity": False, "depth": 0.5},
}
"""Settings of a family that change its structure: family, what is set."""

SIZES = [(64, 64), (96, 160)]


def small(name):
    """The family's configuration with few channels."""
    family = name.partition(",")[0]
    return BACKBONES[family](**SMALL[family] | OPTIONS.get(name, {}))


def detector_config(name):
    return NanoDetPlusConfig(
        input=Preprocess(height=64, width=96),
        backbone=small(name),
        neck=GhostPANConfig(channels=32, kernel_size=3),
        head=NanoDetPlusHeadConfig(channels=32, kernel_size=3, stacked_convs=1),
    )


def randomise_norms(module):
    """Statistics and affine parameters as training leaves them: none of them 0 or 1."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0, 0.1, generator=generator)


def measure_norms(detector, pixels):
    """Statistics of what arrives at each norm: with any others, values grow from block to block beyond float32."""
    for part in detector.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_running_stats()
            part.momentum = None  # all batches count alike
    with torch.no_grad():
        detector.train()(Normalize(Preprocess())(torch.from_numpy(pixels)))


@pytest.fixture(params=[*BACKBONES, *OPTIONS])
def name(request):
    torch.manual_seed(0)
    return request.param


@pytest.mark.parametrize("name", BACKBONES)
def test_name_and_defaults(name):
    config = BACKBONES[name]()
    assert config.name == name
    assert config.build().strides == (8, 16, 32)


@pytest.mark.parametrize("size", SIZES)
def test_states_what_it_returns(name, size):
    backbone = small(name).build().eval()
    with torch.no_grad():
        outputs = backbone(torch.rand(2, 3, *size))
    assert [tuple(output.shape) for output in outputs] == [
        (2, channels, size[0] // stride, size[1] // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]


def test_a_side_that_no_stride_divides(name):
    backbone = small(name).build().eval()
    with torch.no_grad():
        outputs = backbone(torch.rand(1, 3, 70, 101))
    for output, stride in zip(outputs, backbone.strides, strict=True):
        assert output.shape[2:] == (-(-70 // stride), -(-101 // stride))


def test_stages_after_the_last_are_not_built(name):
    config = small(name)
    whole = config.build()
    first = config.model_copy(update={"out_stages": (whole.out_stages[0],)}).build()
    assert first.channels == whole.channels[:1]
    assert first.strides == whole.strides[:1]
    kept = first.state_dict()
    assert len(kept) < len(whole.state_dict())
    first.load_state_dict({key: whole.state_dict()[key] for key in kept})
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(first.eval()(images)[0], whole.eval()(images)[0])


def test_channels_last_changes_nothing(name):
    backbone = small(name).build().eval()
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        plain = backbone(images)
        last = backbone.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    for one, other in zip(plain, last, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(one.abs().max()))


def test_trains_one_step_in_a_detector(name):
    config = detector_config(name)
    detector = config.build(3)
    criterion = make_criterion(config, detector, num_classes=3)
    boxes = torch.tensor([[[8.0, 8, 50, 40], [40, 20, 90, 60]], [[20, 10, 70, 60], [0, 0, 0, 0]]])
    targets = Targets(boxes, torch.tensor([[0, 2], [1, 0]]), torch.tensor([[True, True], [True, False]]))
    before = {key: value.clone() for key, value in detector.backbone.named_parameters()}
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.1)
    losses = criterion(detector.forward_outputs(torch.rand(2, 3, 64, 96)), targets, at(0))
    sum(losses.values()).backward()
    for key, parameter in detector.backbone.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    optimizer.step()
    assert any(not torch.equal(value, before[key]) for key, value in detector.backbone.named_parameters())


def test_fusing_changes_nothing(name):
    backbone = small(name).build()
    randomise_norms(backbone)
    backbone.eval()
    fused = fuse(backbone)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.modules())
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        for before, after in zip(backbone(images), fused(images), strict=True):
            assert float((before - after).abs().max()) < 1e-5 * max(1.0, float(before.abs().max()))


def test_any_input_size_fits_a_detector(name):
    detector = detector_config(name).build(2).eval()
    with torch.no_grad():
        raw = detector(torch.rand(1, 3, 70, 101))
        boxes, scores = detector.decode(raw)
    places = sum(-(-70 // stride) * -(-101 // stride) for stride in (8, 16, 32, 64))
    assert raw.logits.shape == (1, places, 2)
    assert boxes.isfinite().all()
    assert scores.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(320, 320), (192, 320)])
def test_runs_exported_in_a_detector(name, size, tmp_path):
    config = detector_config(name).model_copy(update={"input": Preprocess(height=size[0], width=size[1])})
    detector = config.build(3)
    randomise_norms(detector)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    measure_norms(detector, pixels)
    save_weights(tmp_path / "w.safetensors", detector.eval(), ModelCard(model=config, classes=("a", "b", "c")))
    engine = OnnxEngine(export_onnx(tmp_path / "w.safetensors", tmp_path / "m.onnx"))
    boxes, scores = engine(pixels).values()
    all_boxes, all_scores = TorchEngine(tmp_path / "w.safetensors", max_points=ALL_POINTS)(pixels).values()
    for one in range(2):
        box, score = raw_differences(boxes[one], scores[one], all_boxes[one], all_scores[one])
        assert box < 0.1
        assert score < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("size", [(320, 320), (192, 320)])
def test_traces_for_export(name, size):
    config = detector_config(name).model_copy(update={"input": Preprocess(height=size[0], width=size[1])})
    deployable = Deployable(fuse(config.build(3)), config.input).eval()
    pixels = torch.randint(0, 256, (1, *size, 3), dtype=torch.uint8)
    program = torch.export.export(deployable, (pixels,), strict=False)
    with torch.no_grad():
        expected, got = deployable(pixels), program.module()(pixels)
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.backbone.width=1.2", r"model\.backbone\.width: input should be 0\.5, 1\.0, 1\.5 or 2\.0, but got 1\.2"),
        (
            "model.backbone={name: ghostnet, out_stages: [4, 6, 12]}",
            r"there is no stage 12: the stages are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        ),
        (
            "model.backbone={name: efficientnet-lite, variant: lite9}",
            r"variant: input should be 'lite0', 'lite1', 'lite2', 'lite3' or 'lite4', but got 'lite9'",
        ),
        (
            "model.backbone={name: mnasnet, rows: [[3, 1, 16, 1, 2, 0], [5, 3, 40, 3, 2]]}",
            r"model\.backbone\.rows\.1\.5: is missing",
        ),
        (
            "model.backbone={name: resnet50}",
            r"there is no 'resnet50'; .* expected one of 'shufflenet-v2', 'ghostnet', ",
        ),
    ],
)
def test_what_does_not_exist_is_answered_with_the_list(override, message):
    with pytest.raises(ConfigError, match=message):
        read_run("nanodet-plus-m-320", ["data.train=x.json", override])
