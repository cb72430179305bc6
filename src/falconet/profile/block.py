"""A single block out of its description, as in "mbconv k=5 e=6 c=40 se=0.25", to be counted and measured by itself."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from falconet.core.errors import ConfigError
from falconet.core.suggest import did_you_mean
from falconet.models.backbones.blocks import GhostModule, InvertedResidual, RepVGGBlock, SqueezeExcite, make_divisible
from falconet.models.layers import ACTIVATIONS, Activation, ConvNormAct, SeparableConv


@dataclass(frozen=True, slots=True)
class _Options:
    channels: int
    out: int
    kernel: int
    stride: int
    expansion: float
    squeeze: float
    ratio: int
    activation: Activation

    def squeeze_excite(self, channels: int) -> nn.Module | None:
        """Squeeze-excite for `channels`, whose hidden layer is a share of what enters the block."""
        if not self.squeeze:
            return None
        return SqueezeExcite(channels, max(1, int(self.channels * self.squeeze)), activation=self.activation)


def _conv(o: _Options) -> nn.Module:
    return ConvNormAct(o.channels, o.out, o.kernel, stride=o.stride, activation=o.activation)


def _depthwise(o: _Options) -> nn.Module:
    return ConvNormAct(o.channels, o.out, o.kernel, stride=o.stride, depthwise=True, activation=o.activation)


def _separable(o: _Options) -> nn.Module:
    gate = o.squeeze_excite(o.channels)
    return SeparableConv(o.channels, o.out, o.kernel, stride=o.stride, activation=o.activation, squeeze_excite=gate)


def _mbconv(o: _Options) -> nn.Module:
    hidden = make_divisible(o.channels * o.expansion)
    return InvertedResidual(
        o.channels,
        o.out,
        hidden_channels=hidden if o.expansion != 1 else o.channels,
        kernel_size=o.kernel,
        stride=o.stride,
        activation=o.activation,
        squeeze_excite=o.squeeze_excite(hidden if o.expansion != 1 else o.channels),
    )


def _ghost(o: _Options) -> nn.Module:
    return GhostModule(o.channels, o.out, ratio=o.ratio, kernel_size=o.kernel, activation=o.activation)


def _repvgg(o: _Options) -> nn.Module:
    return RepVGGBlock(o.channels, o.out, activation=o.activation)


BLOCKS: dict[str, tuple[Callable[[_Options], nn.Module], str]] = {
    "conv": (_conv, "kcosa"),
    "depthwise": (_depthwise, "kcsa"),
    "separable": (_separable, "kcosa+"),
    "mbconv": (_mbconv, "kcosae+"),
    "ghost": (_ghost, "kcoar"),
    "repvgg": (_repvgg, "coa"),
}
"""Blocks by name: how they are built, and which options they take ("+" for squeeze-excite)."""

_WORDS = {"k": "k", "c": "c", "o": "o", "s": "s", "act": "a", "e": "e", "r": "r", "se": "+"}
OPTIONS_HELP = (
    "k: kernel size (3), c: channels in, o: channels out (c), s: stride (1), e: expansion (6), se: squeeze-excite as a "
    "share of c (0), r: ratio of a ghost module (2), act: activation (relu; mbconv: silu), n: how many in a row (1)"
)


def parse_block(text: str) -> tuple[nn.Module, int]:
    """The block that `text` describes, in eval mode with fresh weights, and its input's channels.

    The first word is a key of `BLOCKS`; the others are options, see `OPTIONS_HELP`. The stride belongs to the first of
    several in a row.

    Raises:
        ConfigError: an unknown block or option, or a value that the block cannot have.
    """
    kind, *words = text.split()
    if kind not in BLOCKS:
        hint = did_you_mean(kind, BLOCKS) or f"expected one of {', '.join(BLOCKS)}"
        raise ConfigError(f"--block '{text}': there is no block '{kind}'; {hint}")
    make, allowed = BLOCKS[kind]
    given = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or key not in (*_WORDS, "n") or (key != "n" and _WORDS[key] not in allowed):
            known = [name for name, letter in _WORDS.items() if letter in allowed]
            raise ConfigError(f"--block '{text}': '{word}' is no option of {kind}; expected {', '.join(known)}, n")
        given[key] = value

    def number(key: str, default: float, low: float, high: float) -> float:
        try:
            value = float(given.get(key, default))
        except ValueError:
            value = -1
        if not low <= value <= high or (key not in ("e", "se") and value != int(value)):
            raise ConfigError(f"--block '{text}': {key}={given[key]}: expected a number from {low:g} to {high:g}")
        return value

    if "c" not in given:
        raise ConfigError(f"--block '{text}': the channels are missing; add them as in c=40")
    channels = int(number("c", 0, 1, 8192))
    activation = given.get("act", "silu" if kind == "mbconv" else "relu")
    activation = "silu" if activation == "swish" else activation
    if activation not in ACTIVATIONS:
        raise ConfigError(f"--block '{text}': act={activation}: expected one of {', '.join(ACTIVATIONS)}")
    kernel = int(number("k", 3, 1, 31))
    if kernel % 2 == 0:
        raise ConfigError(f"--block '{text}': k={kernel}: kernels are odd")
    out = int(number("o", channels, 1, 8192))
    stride, count = int(number("s", 1, 1, 4)), int(number("n", 1, 1, 32))
    expansion, squeeze = number("e", 6, 0.1, 16), number("se", 0, 0, 4)
    ratio = int(number("r", 2, 2, 16))
    row = nn.Sequential()
    for index in range(count):
        entry, step = (channels, stride) if index == 0 else (out, 1)
        row.append(make(_Options(entry, out, kernel, step, expansion, squeeze, ratio, activation)))
    return row.eval(), channels
