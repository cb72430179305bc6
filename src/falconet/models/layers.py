"""Layers that every network is made of. Convolution, norm and activation meet only here."""

import math
from collections.abc import Callable
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Activation = Literal["relu", "relu6", "leaky-relu", "leaky-relu-0.01", "silu", "hard-swish", "none"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "leaky-relu": lambda: nn.LeakyReLU(0.1, inplace=True),
    "leaky-relu-0.01": lambda: nn.LeakyReLU(0.01, inplace=True),
    "silu": lambda: nn.SiLU(inplace=True),
    "hard-swish": lambda: nn.Hardswish(inplace=True),
    "none": nn.Identity,
}
"""Activations by the name a run file uses. The slope of "leaky-relu" is 0.1, as in NanoDet and YOLO."""

CLASS_PRIOR = 0.01
"""Score of every class before training."""


def flatten_level(level: Float[Tensor, "B K H W"]) -> Float[Tensor, "B HW K"]:
    """What a head computed for a level, place by place, row after row."""
    return level.permute(0, 2, 3, 1).flatten(1, 2)


def init_prior_bias(prior: float, bias: Tensor) -> None:
    """Fill `bias` in place with the logit of `prior` ("Focal Loss", arXiv:1708.02002, section 4.1)."""
    nn.init.constant_(bias, math.log(prior / (1 - prior)))


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, activation: the block nearly everything is made of.

    Args:
        in_channels, out_channels: of the convolution.
        kernel_size: odd; the input is padded by half of it, so the output's side is ceil(side / stride).
        stride: step of the filter.
        depthwise: filter every channel by itself; out_channels must be in_channels or a multiple of it.
        activation: a key of `ACTIVATIONS`; "none" leaves the norm's output.
        eps: of the norm; what was added to the variance when foreign weights were trained.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        *,
        stride: int = 1,
        depthwise: bool = False,
        activation: Activation = "relu",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        assert not depthwise or out_channels % in_channels == 0, "each channel gets the same number of filters"
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=in_channels if depthwise else 1,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=eps)
        self.act = ACTIVATIONS[activation]()

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        return self.act(self.norm(self.conv(features)))

    def fused(self) -> nn.Module:
        """The same function with the norm folded into the convolution. Needs eval mode."""
        conv = fuse_conv_bn_eval(self.conv, self.norm)
        return conv if isinstance(self.act, nn.Identity) else nn.Sequential(conv, self.act)


class ConvGroupNormAct(nn.Module):
    """Convolution without bias, group norm, activation.

    Args:
        conv: with as many groups of the norm as 32 and its channels have in common, at most half as many as channels: a
            group of one channel would leave nothing of a level of one cell.
        act: behind the norm.
    """

    def __init__(self, conv: nn.Conv2d, act: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        groups = math.gcd(32, conv.out_channels)
        self.norm = nn.GroupNorm(groups if groups < conv.out_channels else groups // 2, conv.out_channels)
        self.act = act

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        return self.act(self.norm(self.conv(features)))


def with_group_norms(module: nn.Module) -> nn.Module:
    """`module`, in place, with group norms where its `ConvNormAct` have batch norms."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ConvNormAct):
                setattr(parent, name, ConvGroupNormAct(child.conv, child.act))
    return module


class SeparableConv(nn.Module):
    """Depthwise, then pointwise convolution, each with norm and activation (MobileNets, 2017, section 3.1).

    Args:
        in_channels, out_channels: of the pair.
        kernel_size, stride: of the depthwise convolution.
        activation: a key of `ACTIVATIONS`, used after both.
        middle_activation: after the depthwise convolution instead of `activation`.
        squeeze_excite: between the two, in_channels wide.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        activation: Activation = "relu",
        middle_activation: Activation | None = None,
        squeeze_excite: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.depthwise = ConvNormAct(
            in_channels,
            in_channels,
            kernel_size,
            stride=stride,
            depthwise=True,
            activation=activation if middle_activation is None else middle_activation,
        )
        self.squeeze_excite = nn.Identity() if squeeze_excite is None else squeeze_excite
        self.pointwise = ConvNormAct(in_channels, out_channels, activation=activation)

    def forward(self, features: Float[Tensor, "B I H W"]) -> Float[Tensor, "B O h w"]:
        return self.pointwise(self.squeeze_excite(self.depthwise(features)))


def kaiming_init(module: nn.Module) -> None:
    """Draw the weights of all convolutions in `module` from N(0, 2 / fan_out)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
