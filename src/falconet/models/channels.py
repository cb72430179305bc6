"""Which channels of which weights belong together, and narrower weights that are made of wider ones.

A channel that a convolution computes is read by others further on, some of them past a sum, a join or a shuffle. To
find which, the network runs once on labels instead of features: each convolution gives its outputs new labels, what
only moves channels moves labels, and what adds or multiplies two features declares their labels one ("DepGraph",
arXiv:2301.12900, calls the outcome a group).

Written here since Torch-Pruning 1.6.1 (MIT), which does this in general, ends with an IndexError at the interleaved
halves of our ShuffleNetV2, and leaves networks that no configuration describes.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from falconet.core.errors import ModelError
from falconet.core.types import Ints
from falconet.models.slices import Axis, sliced

RIDGE = 1e-3
"""Of the mean variance of the inputs that stay, added to each: what keeps predictions from them small."""

SIDE = 64
"""Pixels of the image that labels travel along."""


@dataclass(slots=True)
class _Channels:
    """What one run on labels has found."""

    names: dict[int, str]
    axes: dict[Axis, Ints] = field(default_factory=dict)
    parents: list[int] = field(default_factory=list)

    def new(self, count: int) -> Ints:
        first = len(self.parents)
        self.parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def root(self, label: int) -> int:
        while self.parents[label] != label:
            self.parents[label] = label = self.parents[self.parents[label]]
        return label

    def join(self, one: Ints, other: Ints) -> None:
        for first, second in zip(one, other, strict=True):
            self.parents[self.root(int(second))] = self.root(int(first))

    def lies_along(self, value: Any, axis: int, labels: Ints) -> None:
        """A parameter's axis has these labels; one that is used again declares both uses one."""
        if value is None or (name := self.names.get(id(value))) is None:
            return
        if (name, axis) in self.axes:
            self.join(self.axes[name, axis], labels)
        self.axes[name, axis] = labels


class _Labels(Tensor):
    """Features [1, C, h, w] in which every number is the label of its channel. Knows the functions of networks."""

    channels: ClassVar[_Channels | None] = None

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert cls.channels is not None
        special = _SPECIAL.get(func)
        if special is not None:
            return special(cls.channels, *args, **(kwargs or {}))
        return super().__torch_function__(func, types, args, kwargs or {})


def _plain(value: Tensor) -> Tensor:
    return value.as_subclass(Tensor)


def _labels(features: Tensor) -> Ints:
    """Label of each channel of features [1, C, h, w] or [1, C]."""
    plain = _plain(features)
    return plain[0].reshape(plain.shape[1], -1)[:, 0].round().long().numpy()


def _filled(labels: Ints, like: Tensor) -> Tensor:
    values = torch.from_numpy(labels).to(torch.float64).reshape(1, -1, *(1 for _ in like.shape[2:]))
    return values.expand(1, -1, *like.shape[2:]).clone().as_subclass(_Labels)


def _multiply(channels: _Channels, features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """A linear layer: each output of its own."""
    channels.lies_along(weight, 1, _labels(features))
    outgoing = channels.new(weight.shape[0])
    channels.lies_along(weight, 0, outgoing)
    channels.lies_along(bias, 0, outgoing)
    return _filled(outgoing, torch.empty(1, len(outgoing)))


def _convolve(
    channels: _Channels, features: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **named: Any
) -> Tensor:
    groups = named.get("groups", rest[3] if len(rest) > 3 else 1)
    zeros = torch.zeros_like(_plain(features), dtype=weight.dtype)
    result = F.conv2d(zeros, weight, None, *rest, **named)
    incoming = _labels(features)
    if groups == 1:
        channels.lies_along(weight, 1, incoming)
        outgoing = channels.new(weight.shape[0])
    elif groups == len(incoming):
        outgoing = np.repeat(incoming, weight.shape[0] // groups)
    else:
        raise ModelError(f"a convolution of {groups} groups: channels cannot be followed through it")
    channels.lies_along(weight, 0, outgoing)
    channels.lies_along(bias, 0, outgoing)
    return _filled(outgoing, result)


def _normalise(channels: _Channels, features: Tensor, *rest: Any, **named: Any) -> Tensor:
    for value in (*rest, *named.values()):
        if isinstance(value, Tensor):
            channels.lies_along(value, 0, _labels(features))
    return features


def _combine(channels: _Channels, one: Any, other: Any, **_: Any) -> Any:
    """A sum or a product: of two features, whose labels become one, or of features and a number."""
    if not isinstance(other, _Labels) or not isinstance(one, _Labels):
        return one if isinstance(one, _Labels) else other
    channels.join(_labels(one), _labels(other))
    return one if one.numel() >= other.numel() else other


def _keep(_: _Channels, features: Tensor, *__: Any, **___: Any) -> Tensor:
    return features


_SPECIAL: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((torch.conv2d, F.conv2d), _convolve),
    F.linear: _multiply,
    **dict.fromkeys((F.batch_norm, F.group_norm), _normalise),
    **dict.fromkeys((torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__), _combine),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.mul_, Tensor.__mul__, Tensor.__rmul__, Tensor.__imul__), _combine),
    **dict.fromkeys((F.relu, F.relu6, F.leaky_relu, F.silu, F.hardswish, F.hardsigmoid, F.hardtanh), _keep),
    **dict.fromkeys((torch.relu, torch.sigmoid, F.sigmoid, Tensor.sigmoid, F.dropout), _keep),
}


@contextmanager
def _following(network: nn.Module) -> Any:
    named = [*network.named_parameters(), *network.named_buffers()]
    _Labels.channels = _Channels({id(value): name for name, value in named})
    try:
        yield _Labels.channels
    finally:
        _Labels.channels = None


def follow(network: nn.Module) -> dict[Axis, Ints]:
    """Labels of the channels along the axes of `network`'s parameters and buffers; equal ones belong together.

    Args:
        network: takes images [B, 3, H, W]; is left as it is.

    Raises:
        ModelError: channels cannot be followed, as through a convolution of several groups.
    """
    training = network.training
    with _following(network) as channels, torch.no_grad():
        image = torch.zeros(1, 3, SIDE, SIDE)
        network.eval()
        try:
            network(_filled(channels.new(3), image))
        finally:
            network.train(training)
        roots = np.array([channels.root(label) for label in range(len(channels.parents))])
        return {axis: roots[labels] for axis, labels in channels.axes.items()}


@dataclass(frozen=True, slots=True)
class Narrowed:
    """What `narrow` took over.

    Attributes:
        kept: channels of convolutions in the narrower network.
        of: in the wider one.
        lost: inputs of the narrower network's convolutions that the wider one has no weights for, as a share.
    """

    kept: int
    of: int
    lost: float

    def __str__(self) -> str:
        lost = f"; {self.lost:.0%} of the connections are new" if self.lost >= 0.005 else ""
        return f"{self.kept} of {self.of} channels kept{lost}"


def narrow(network: nn.Module, source: nn.Module, images: Iterable[Float[Tensor, "B 3 H W"]]) -> Narrowed:
    """Give `network` the channels of `source` that matter most, in place, and let them stand for the others.

    Of channels that belong together a group is kept or left as one. What a group is worth is how much of the outputs of
    the convolutions that read it comes from it: its mean square on the images times that of its weights ("A Simple and
    Effective Pruning Approach for Large Language Models", arXiv:2306.11695, for whole channels). What each convolution
    loses is made up by its other inputs: those that went are predicted from those that stay by least squares, and the
    weights take the prediction in ("Channel Pruning for Accelerating Very Deep Neural Networks", arXiv:1707.06168, fits
    the same error).

    Args:
        network: of the same layers, with as many channels as `source` or fewer.
        source: trained; in eval mode.
        images: batches of what the networks are shown, normalised.

    Raises:
        ModelError: other layers, or more channels somewhere.
    """
    own, wide = network.state_dict(), {name: value.clone() for name, value in source.state_dict().items()}
    seen, factors = inputs_of(source, images), _factors(source)
    places = kept_places(network, source, seen)
    for name, inputs in seen.items():
        _make_up(wide, name, inputs, places[f"{name}.weight", 1], factors)
    with torch.no_grad():
        for name, value in sliced(wide, {axis: torch.from_numpy(one) for axis, one in places.items()}).items():
            if value.shape != own[name].shape:
                raise ModelError(f"{name}: is {list(wide[name].shape)}, which does not become {list(own[name].shape)}")
            own[name].copy_(value)
    read = {name: labels for (name, axis), labels in places.items() if axis == 1}
    kept, of = sum(map(len, read.values())), sum(wide[name].shape[1] for name in read)
    return Narrowed(kept, of, sum(int((one < 0).sum()) for one in read.values()) / max(1, kept))


def kept_places(network: nn.Module, source: nn.Module, seen: Mapping[str, "Inputs"]) -> dict[Axis, Ints]:
    """For each axis of the weights of `network` the places of its channels in `source`, as `narrow` chooses them.

    Args:
        network, source: as of `narrow`.
        seen: what `inputs_of(source, ...)` says.

    Returns:
        Of each axis one place per channel; -1: a connection that `source` does not have.

    Raises:
        ModelError: other layers, or more channels somewhere.
    """
    own, wide = network.state_dict(), source.state_dict()
    if own.keys() != wide.keys():
        odd = sorted(own.keys() ^ wide.keys())
        raise ModelError(f"these are other layers, not narrower ones: {', '.join(odd[:3])}{', ...' * (len(odd) > 3)}")
    ours, theirs = follow(network), follow(source)
    taken = _choose(ours, theirs, _worth(wide, theirs, seen, _factors(source)))
    return {axis: _places(labels, theirs[axis], taken) for axis, labels in ours.items() if axis in theirs}


@dataclass(slots=True)
class Inputs:
    """What a convolution or linear layer read: sums over all its places.

    Attributes:
        total: [C] of each channel.
        products: [C, C] of each two.
        count: places.
    """

    total: Tensor
    products: Tensor
    count: int = 0

    def add(self, features: Tensor) -> None:
        """Features [B, C, ...]."""
        rows = features.detach().transpose(0, 1).flatten(1).float()
        self.total += rows.sum(1)
        self.products += rows @ rows.T
        self.count += rows.shape[1]


@torch.no_grad()
def inputs_of(network: nn.Module, images: Iterable[Tensor]) -> dict[str, Inputs]:
    """What each layer that mixes channels reads on these images, by its name."""
    layers = {
        name: module
        for name, module in network.named_modules()
        if (isinstance(module, nn.Conv2d) and module.groups == 1) or isinstance(module, nn.Linear)
    }
    seen = {}
    hooks = []
    for name, module in layers.items():
        width = module.weight.shape[1]
        seen[name] = Inputs(torch.zeros(width), torch.zeros(width, width))
        hooks.append(module.register_forward_pre_hook(partial(_note, seen[name])))
    try:
        for batch in images:
            network(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _note(inputs: Inputs, _module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
    inputs.add(arguments[0])


def _make_up(state: dict[str, Tensor], name: str, inputs: Inputs, kept: Ints, factors: Mapping[str, Tensor]) -> None:
    """Change the weights of a layer, in `state`, so that inputs in the places `kept` stand for the others, too."""
    stays = torch.from_numpy(np.unique(kept[kept >= 0]))
    goes = torch.ones(len(inputs.total), dtype=torch.bool)
    goes[stays] = False
    if not goes.any() or not len(stays) or not inputs.count:
        return
    mean = inputs.total.double() / inputs.count
    spread = inputs.products.double() / inputs.count - torch.outer(mean, mean)
    own = spread[stays][:, stays]
    own.diagonal().add_(RIDGE * own.diagonal().mean() + 1e-12)
    share = torch.linalg.solve(own, spread[stays][:, goes])  # [stays, goes]
    weight = state[f"{name}.weight"].double()
    lost = weight[:, goes]
    shift = (lost.flatten(2).sum(2) if lost.ndim > 2 else lost) @ (mean[goes] - share.T @ mean[stays])
    weight[:, stays] += torch.einsum("og...,sg->os...", lost, share)
    state[f"{name}.weight"].copy_(weight)
    norm = f"{name.removesuffix('conv')}norm"
    if f"{name}.bias" in state:
        state[f"{name}.bias"].add_(shift.float())
    elif norm in factors:
        state[f"{norm}.bias"].add_((shift * factors[norm]).float())


def _choose(ours: Mapping[Axis, Ints], theirs: Mapping[Axis, Ints], worth: NDArray[np.float64]) -> dict[int, int]:
    """Label in the narrower network -> label in the wider one; in order of computation, so in order of channels."""
    taken: dict[int, int] = {}
    for (name, axis), labels in ours.items():
        if (name, axis) not in theirs or axis != 0:
            continue
        open_here = [label for label in dict.fromkeys(labels.tolist()) if label not in taken]
        used = set(taken.values())
        free = [label for label in dict.fromkeys(theirs[name, axis].tolist()) if label not in used]
        if len(open_here) > len(free):
            raise ModelError(
                f"{name}: has {len(labels)} channels, more than the {len(theirs[name, axis])} to take from"
            )
        best = sorted(range(len(free)), key=lambda place: (-worth[free[place]], place))[: len(open_here)]
        taken.update(zip(open_here, (free[place] for place in sorted(best)), strict=True))
    return taken


def _places(ours: Ints, theirs: Ints, taken: Mapping[int, int]) -> Ints:
    """For each channel of the narrower axis its place in the wider one; -1: it is not there."""
    where: dict[int, list[int]] = {}
    for place, label in enumerate(theirs.tolist()):
        where.setdefault(label, []).append(place)
    seen: dict[int, int] = {}
    places = []
    for label in ours.tolist():
        source = taken.get(label, label if label < 3 else -1)
        found, turn = where.get(source, []), seen.get(source, 0)
        seen[source] = turn + 1
        places.append(found[turn] if turn < len(found) else -1)
    return np.array(places, np.int64)


def _worth(
    state: Mapping[str, Tensor], axes: Mapping[Axis, Ints], seen: Mapping[str, Inputs], factors: Mapping[str, Tensor]
) -> NDArray[np.float64]:
    """What each group of channels is worth, by label: its part in what the layers that read it compute."""
    total = np.zeros(1 + max(int(labels.max()) for labels in axes.values()))
    for name, inputs in seen.items():
        key = f"{name}.weight"
        weight = state[key].double()
        norm = f"{name.removesuffix('conv')}norm"
        if name.endswith("conv") and norm in factors:
            weight = weight * factors[norm][:, None, None, None]
        square = weight.transpose(0, 1).flatten(1).square().sum(1) * inputs.products.diagonal().double()
        np.add.at(total, axes[key, 1], (square / square.sum().clamp_min(1e-12)).numpy())
    return total


def _factors(network: nn.Module) -> dict[str, Tensor]:
    """What each batch norm multiplies its channels by, by its name."""
    norms = {name: module for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)}
    return {
        name: norm.weight.detach().double() / (norm.running_var.double() + norm.eps).sqrt()
        for name, norm in norms.items()
        if norm.running_var is not None
    }
