"""Fusing changes the operations, not the function: every block before = after."""

import pytest
import torch
from torch import nn

from falconet.models import PRESETS, build
from falconet.models.backbones import ShuffleNetV2
from falconet.models.backbones.shufflenet_v2 import Bottleneck, ChannelShuffle, DownUnit, Interleave, ShuffleStage, Unit
from falconet.models.classifier import Classifier
from falconet.models.layers import ACTIVATIONS, ConvNormAct, SeparableConv
from falconet.models.nanodet_plus import GhostBlock, GhostModule, GhostPAN
from falconet.models.ppyoloe import CSPPAN, PPYOLOEHead, PyramidPooling
from falconet.models.reparam import fuse
from falconet.models.separable_head import SeparableHead
from tests.models.presets import EVERY


def trained(module: nn.Module) -> nn.Module:
    """`module` with statistics and affine parameters as training leaves them, in eval mode."""
    generator = torch.Generator().manual_seed(3)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(part.num_features, generator=generator) * 0.3)
            part.running_var.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            part.weight.data.copy_(torch.rand(part.num_features, generator=generator) + 0.5)
            part.bias.data.copy_(torch.randn(part.num_features, generator=generator) * 0.1)
    return module.eval()


def flat(output) -> list[torch.Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    if isinstance(output, list | tuple):
        return [tensor for part in output for tensor in flat(part)]
    return [output.logits, output.box_code]


def image(channels: int, height: int = 12, width: int = 14) -> torch.Tensor:
    return torch.randn(2, channels, height, width, generator=torch.Generator().manual_seed(height))


PYRAMID = [image(16, 12, 14), image(16, 6, 7), image(16, 3, 4)]

BLOCKS = {
    **{
        f"conv {name}": (lambda name=name: nn.Sequential(ConvNormAct(8, 6, 3, activation=name)), (image(8),))
        for name in ACTIVATIONS
    },
    "depthwise": (lambda: nn.Sequential(ConvNormAct(8, 8, 5, stride=2, depthwise=True)), (image(8),)),
    "separable": (lambda: SeparableConv(8, 12, 5), (image(8),)),
    "ghost module": (lambda: GhostModule(8, 12, activation="leaky-relu"), (image(8),)),
    "ghost block": (lambda: GhostBlock(8, 12, hidden_channels=12, kernel_size=5, activation="leaky-relu"), (image(8),)),
    "ghost pan": (lambda: GhostPAN((16, 16, 16), 8, strides=(8, 16, 32)), (PYRAMID,)),
    "head": (lambda: SeparableHead(16, 3, strides=(8, 16, 32), offset=0.0, channels=8), (PYRAMID, (96, 112))),
    "pyramid pooling": (lambda: PyramidPooling(8, activation="silu"), (image(8),)),
    "csp pan": (lambda: CSPPAN((16, 16, 16), 8, strides=(8, 16, 32), blocks=2, alpha=True), (PYRAMID,)),
    "task-aligned head": (lambda: PPYOLOEHead((16, 16, 16), 3, strides=(8, 16, 32)), (PYRAMID, (96, 112))),
    "interleave": (lambda: nn.ModuleDict({"block": Interleave()})["block"], (image(8), image(8))),
    "exchange": (ChannelShuffle, (image(8), image(8))),
    "bottleneck": (lambda: Bottleneck(8, 10, 12, stride=2, activation="relu"), (image(8),)),
    "down unit": (lambda: DownUnit(8, 10, 12, activation="relu"), (image(8),)),
    "unit": (lambda: Unit(8, 12, activation="relu"), (image(8), image(8))),
    "stage": (lambda: ShuffleStage(8, 16, 3, bottleneck=1.0, activation="relu"), (image(8),)),
    "shufflenet": (lambda: ShuffleNetV2(width=0.5, with_last_conv=True), (image(3, 64, 80),)),
    "classifier": (lambda: Classifier(ShuffleNetV2(width=0.5), 10), (image(3, 64, 80),)),
}


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_blocks(name, layout):
    make, inputs = BLOCKS[name]
    torch.manual_seed(0)
    block = trained(make())
    inputs = tuple(x.contiguous(memory_format=layout) if isinstance(x, torch.Tensor) else x for x in inputs)
    fused = block.fused() if hasattr(block, "fused") else fuse(block)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.modules())
    with torch.no_grad():
        before, after = flat(block(*inputs)), flat(fused(*inputs))
    assert len(before) == len(after)
    for old, new in zip(before, after, strict=True):
        assert (old - new).abs().max() <= 1e-5 * old.abs().max().clamp(min=1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_are_exchanged_alike_with_and_without_gradients(layout, dtype):
    halves = [torch.randn(2, 8, 6, 5).to(dtype).contiguous(memory_format=layout) for _ in range(2)]
    learning = ChannelShuffle()(*halves)
    with torch.no_grad():
        running = ChannelShuffle()(*halves)
    for one, other in zip(learning, running, strict=True):
        assert torch.equal(one, other)
    channels = [8 * (index % 2) + index // 2 for index in range(16)]
    assert torch.equal(torch.cat(running, dim=1), torch.cat(halves, dim=1)[:, channels])


@pytest.mark.parametrize("name", EVERY)
def test_presets(name):
    torch.manual_seed(0)
    detector = trained(build(PRESETS[name], 3)).double()  # float32 rounds differently after sixty layers
    state = {key: value.clone() for key, value in detector.state_dict().items()}
    fused = fuse(detector)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in fused.modules())
    assert sum(p.numel() for p in fused.parameters()) < sum(p.numel() for p in detector.parameters())
    with torch.no_grad():
        images = torch.randn(1, 3, 96, 160, dtype=torch.float64)
        before, after = flat(detector(images)), flat(fused(images))
    for old, new in zip(before, after, strict=True):
        assert (old - new).abs().max() <= 1e-6 * old.abs().max().clamp(min=1)
    assert detector.state_dict().keys() == state.keys()  # the original is as it was
    for key, value in detector.state_dict().items():
        assert torch.equal(value, state[key])


def test_the_original_stays_in_training_mode():
    model = nn.Sequential(ConvNormAct(3, 4))
    fused = fuse(model)
    assert model.training
    assert not fused.training
    assert not any(p.requires_grad for p in fused.parameters())


def test_a_block_used_twice_stays_one():
    block = ConvNormAct(4, 4)
    fused = fuse(trained(nn.ModuleDict({"first": nn.Sequential(block), "second": nn.Sequential(block)})))
    assert fused["first"][0] is fused["second"][0]


def test_a_single_block_has_to_be_asked_itself():
    with pytest.raises(TypeError, match="fuse takes a model of blocks; for a single ConvNormAct call its fused"):
        fuse(ConvNormAct(3, 4))
