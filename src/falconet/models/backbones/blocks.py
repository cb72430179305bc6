"""Blocks that several backbones are made of, each with the paper that introduced it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from falconet.models.layers import ACTIVATIONS, Activation, ConvNormAct

Gate = Literal["sigmoid", "hard-sigmoid"]

GATES = {"sigmoid": nn.Sigmoid, "hard-sigmoid": nn.Hardsigmoid}
"""Functions to 0..1 by name; the hard one is x / 6 + 0.5, clipped."""


def make_divisible(value: float, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `value`, but never less than nine tenths of it."""
    nearest = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * value else nearest + divisor


def check_stages(stages: Sequence[int], total: int, *, with_last_conv: bool = False) -> None:
    """Raise ValueError unless `stages` ascend and exist among `total`, and the last is there if it is needed."""
    if list(stages) != sorted(set(stages)):
        raise ValueError(f"stages must ascend, each at most once, as in {sorted(set(stages))}")
    unknown = [stage for stage in stages if not 0 <= stage < total]
    if unknown:
        raise ValueError(f"there is no stage {unknown[0]}: the stages are {', '.join(map(str, range(total)))}")
    if with_last_conv and stages[-1] != total - 1:
        raise ValueError(f"with_last_conv needs the last stage, {total - 1}, among out_stages")


def stages_exist(total: int) -> Callable[[Any], Any]:
    """A check of a backbone's configuration: its `out_stages` are there, among `total`."""

    def check(config: Any) -> Any:
        check_stages(config.out_stages, total, with_last_conv=getattr(config, "with_last_conv", False))
        return config

    return check


def last_stages(strides: Sequence[int], wanted: Iterable[int] = (8, 16, 32)) -> tuple[int, ...]:
    """Index of the last stage at each of the `wanted` strides that occurs in `strides` (of all stages, in order)."""
    return tuple(max(i for i, stride in enumerate(strides) if stride == goal) for goal in wanted if goal in strides)


def chosen_stages(stages: tuple[int, ...] | None, strides: Sequence[int]) -> tuple[int, ...]:
    """`stages`, or in their place the last of `strides` (of all stages) at each of 8, 16 and 32.

    Raises:
        ValueError: `stages` is None and none of the strides is there.
    """
    chosen = last_stages(strides) if stages is None else stages
    if not chosen:
        raise ValueError("no row has stride 8, 16 or 32: name the rows to return in out_stages")
    return chosen


class StagedBackbone(nn.Module):
    """A stem and stages in a row; some of the stages' outputs are returned.

    Args:
        stem: images to the first features.
        stages: in order; those after the last of `out_stages` are left out.
        channels, strides: of each stage.
        out_stages: indices of the stages that are returned, ascending.
        last_conv: a pointwise convolution after the last stage, whose output is returned instead.

    Attributes:
        channels, strides: of what is returned, finest level first.
    """

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        *,
        channels: Sequence[int],
        strides: Sequence[int],
        out_stages: Sequence[int],
        last_conv: ConvNormAct | None = None,
    ) -> None:
        super().__init__()
        self.out_stages = tuple(out_stages)
        last = self.out_stages[-1]
        assert last_conv is None or last == len(stages) - 1, "the last convolution belongs to the last stage"
        self.stem = stem
        self.stages = nn.ModuleList(stages[: last + 1])
        self.channels = tuple(channels[stage] for stage in self.out_stages)
        self.strides = tuple(strides[stage] for stage in self.out_stages)
        self.last_conv: nn.Module = nn.Identity()
        if last_conv is not None:
            self.last_conv = last_conv
            self.channels = (*self.channels[:-1], last_conv.conv.out_channels)
        initialise(self)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        features = self.stem(images)
        outputs = []
        for number, stage in enumerate(self.stages):
            features = stage(features)
            if number in self.out_stages:
                outputs.append(features)
        outputs[-1] = self.last_conv(outputs[-1])
        return outputs


class DropPath(nn.Module):
    """Stochastic depth (arXiv:1603.09382; "drop connect" in EfficientNet): in training, a whole sample is zeroed.

    The samples that stay are scaled up, so that the expected value is the same. In eval mode nothing happens.

    Args:
        rate: share of samples that are dropped, 0..1.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        if not self.training or self.rate == 0:
            return features
        keep = 1 - self.rate
        return features * torch.bernoulli(features.new_full((features.shape[0], 1, 1, 1), keep)) / keep


class SqueezeExcite(nn.Module):
    """Scale every channel by a gate computed from the mean of all channels (arXiv:1709.01507).

    Args:
        channels: of the features.
        squeezed: of the hidden layer.
        activation: of the hidden layer.
        gate: a key of `GATES`.
    """

    def __init__(
        self, channels: int, squeezed: int, *, activation: Activation = "relu", gate: Gate = "sigmoid"
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = ACTIVATIONS[activation]()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = GATES[gate]()

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        means = features.mean((2, 3), keepdim=True)
        return features * self.gate(self.expand(self.act(self.reduce(means))))


class EffectiveSqueezeExcite(nn.Module):
    """Squeeze-excite without the hidden layer, which loses channels (CenterMask, arXiv:1911.06667, section 2.3).

    Args:
        channels: of the features.
        gate: a key of `GATES`.
    """

    def __init__(self, channels: int, *, gate: Gate = "hard-sigmoid") -> None:
        super().__init__()
        self.excite = nn.Conv2d(channels, channels, 1)
        self.gate = GATES[gate]()

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return features * self.gate(self.excite(features.mean((2, 3), keepdim=True)))


class InvertedResidual(nn.Module):
    """Expand, filter every channel, project (MobileNetV2, arXiv:1801.04381, section 3.3; "MBConv" elsewhere).

    The input is added where the shapes agree, or what `shortcut` makes of it. The projection has no activation.

    Args:
        in_channels, out_channels: of the block.
        hidden_channels: between expansion and projection; without an expansion if equal to in_channels.
        kernel_size, stride: of the depthwise convolution.
        activation: of expansion and depthwise convolution.
        squeeze_excite: after the depthwise convolution, hidden_channels wide.
        output_excite: after the projection, out_channels wide.
        shortcut: from the input to the shape of the output.
        drop_path: share of samples whose block is left out in training.
        eps: of the norms.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        hidden_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        activation: Activation = "relu",
        squeeze_excite: nn.Module | None = None,
        output_excite: nn.Module | None = None,
        shortcut: nn.Module | None = None,
        drop_path: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.adds_input = shortcut is not None or (stride == 1 and in_channels == out_channels)
        self.expand: nn.Module = nn.Identity()
        if hidden_channels != in_channels:
            self.expand = ConvNormAct(in_channels, hidden_channels, activation=activation, eps=eps)
        self.depthwise = ConvNormAct(
            hidden_channels,
            hidden_channels,
            kernel_size,
            stride=stride,
            depthwise=True,
            activation=activation,
            eps=eps,
        )
        self.squeeze_excite = nn.Identity() if squeeze_excite is None else squeeze_excite
        self.project = ConvNormAct(hidden_channels, out_channels, activation="none", eps=eps)
        self.output_excite = nn.Identity() if output_excite is None else output_excite
        self.shortcut = nn.Identity() if shortcut is None else shortcut
        self.drop_path = DropPath(drop_path) if drop_path and self.adds_input else nn.Identity()

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        block = self.output_excite(self.project(self.squeeze_excite(self.depthwise(self.expand(features)))))
        return self.shortcut(features) + self.drop_path(block) if self.adds_input else block


class GhostModule(nn.Module):
    """A convolution, usually pointwise, for some of the channels, a cheap depthwise one of those for the rest.

    GhostNet, arXiv:1911.11907, section 3.1.

    Args:
        in_channels, out_channels: of the module.
        ratio: out_channels / ratio are computed by the first convolution (rounded up; surplus is cut off).
        kernel_size: of the cheap convolution.
        activation: of both convolutions.
        primary_kernel_size, stride: of the first convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        ratio: int = 2,
        kernel_size: int = 3,
        activation: Activation = "relu",
        primary_kernel_size: int = 1,
        stride: int = 1,
    ) -> None:
        super().__init__()
        assert ratio >= 2, "a ghost module with ratio 1 is a pointwise convolution"
        self.out_channels = out_channels
        primary = -(-out_channels // ratio)
        cheap = primary * (ratio - 1)
        self.primary = ConvNormAct(in_channels, primary, primary_kernel_size, stride=stride, activation=activation)
        self.cheap = ConvNormAct(primary, cheap, kernel_size, depthwise=True, activation=activation)
        self.exact = primary + cheap == out_channels

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        primary = self.primary(features)
        joined = torch.cat((primary, self.cheap(primary)), dim=1)
        return joined if self.exact else joined[:, : self.out_channels]


class RepVGGBlock(nn.Module):
    """The sum of a 3x3 and a 1x1 convolution, each with its norm, and of a norm of the input; then an activation.

    RepVGG, arXiv:2101.03697, section 3.2; PP-YOLOE leaves the last branch out. `fused` adds all up to one convolution.

    Args:
        in_channels, out_channels: of the block.
        stride: of both convolutions.
        activation: of the sum.
        alpha: the 1x1 branch is multiplied by a learnt number, which starts at 1.
        identity: the branch without a convolution, which there is only where input and output have the same shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        activation: Activation = "silu",
        alpha: bool = False,
        identity: bool = False,
    ) -> None:
        super().__init__()
        self.wide = ConvNormAct(in_channels, out_channels, 3, stride=stride, activation="none")
        self.point = ConvNormAct(in_channels, out_channels, stride=stride, activation="none")
        self.alpha = nn.Parameter(torch.ones(1)) if alpha else None
        same = stride == 1 and in_channels == out_channels
        self.identity = nn.BatchNorm2d(in_channels) if identity and same else None
        self.act = ACTIVATIONS[activation]()

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        point = self.point(features)
        if self.alpha is not None:
            point = self.alpha * point
        total = self.wide(features) + point
        return self.act(total if self.identity is None else total + self.identity(features))

    def fused(self) -> nn.Module:
        """One 3x3 convolution and the activation. Needs eval mode."""
        weight, bias = _folded(self.wide.conv.weight, self.wide.norm)
        point_weight, point_bias = _folded(self.point.conv.weight, self.point.norm)
        if self.alpha is not None:
            point_weight, point_bias = self.alpha * point_weight, self.alpha * point_bias
        if self.identity is not None:
            kernel = torch.eye(len(weight), dtype=weight.dtype, device=weight.device)[..., None, None]
            passed_weight, passed_bias = _folded(kernel, self.identity)
            point_weight, point_bias = point_weight + passed_weight, point_bias + passed_bias
        wide = self.wide.conv
        conv = nn.Conv2d(wide.in_channels, wide.out_channels, 3, wide.stride, padding=1)
        conv.weight = nn.Parameter((weight + F.pad(point_weight, (1, 1, 1, 1))).detach())
        conv.bias = nn.Parameter((bias + point_bias).detach())
        conv.eval()
        return conv if isinstance(self.act, nn.Identity) else nn.Sequential(conv, self.act)


def _folded(weight: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution without bias and the norm behind it."""
    return fuse_conv_bn_weights(weight, None, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)


def initialise(model: nn.Module) -> None:
    """Fresh weights for a backbone: convolutions from N(0, 2 / fan out), a depthwise one per channel; biases 0."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
            nn.init.normal_(module.weight, std=(2.0 / fan_out) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
