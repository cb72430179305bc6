"""Where an exported file first differs from torch: every layer's output as two numbers, in one more file.

The file goes through the same converter and runs in the same engine as the one that differs. To an engine it is a
classifier whose classes are the layers, so that nothing else needs to know of it. An engine may compute several layers
as one, which it cannot where each is looked at: where this file does not differ, that is to blame.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from falconet.core.errors import FalconetError
from falconet.core.types import Pixels
from falconet.models.deployable import Deployable, DeployableClassifier
from falconet.runtime.engines import Engine

TOLERANCE = 1e-3
"""Of the magnitude of a layer's output; rounding is a thousand times less."""

SIZE = " magnitude"
"""Behind the name of a layer."""


class Layers(nn.Module):
    """Pixels to two numbers for each layer that has weights, in the order of computation.

    The first is the mean of its output times a pattern over channels, rows and columns, so that nothing changes places
    unseen; the second is its mean magnitude.

    Args:
        whole: in eval mode, fused.
        size: (height, width) of the input.

    Attributes:
        names: of the numbers: all layers, then all of them once more with `SIZE`.
    """

    def __init__(self, whole: Deployable | DeployableClassifier, size: tuple[int, int]) -> None:
        super().__init__()
        self.normalize = whole.normalize
        self.network: nn.Module = whole.detector if isinstance(whole, Deployable) else whole.classifier
        seen: list[tuple[str, Tensor]] = []
        for name, module in _layers(self.network):
            module.register_forward_hook(partial(_note, seen, name))
        self._compute = partial(_outputs, seen, self.network)
        with torch.no_grad():
            outputs = self._compute(self.normalize(torch.zeros(1, *size, 3, dtype=torch.uint8)))
        count: dict[str, int] = {}
        layers = []
        for name, output in outputs:
            count[name] = count.get(name, 0) + 1
            layers.append(name if count[name] == 1 else f"{name} ({count[name]})")
            for axis, side in enumerate(output.shape[1:], start=1):
                pattern = torch.cos(torch.arange(side) * (0.7 + 0.1 * axis) + 0.3)
                self.register_buffer(_pattern(axis, side), pattern / side)
        self.names = (*layers, *(name + SIZE for name in layers))

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [B, H, W, 3] to [B, 2 * layers]."""
        return self.of_images(self.normalize(pixels))

    def of_images(self, images: Tensor) -> Tensor:
        """The same of what the network sees, [B, 3, H, W]."""
        outputs = [output for _, output in self._compute(images)]
        return torch.cat([*map(self._with_pattern, outputs), *map(_magnitude, outputs)], 1)

    def _with_pattern(self, output: Tensor) -> Tensor:
        """[B, C, h, w] or [B, C] to [B, 1]."""
        for axis, side in reversed([*enumerate(output.shape)][1:]):
            output = (output * self.get_buffer(_pattern(axis, int(side)))).sum(axis)
        return output[:, None]


def _note(seen: list[tuple[str, Tensor]], name: str, _module: nn.Module, _inputs: object, output: Tensor) -> None:
    seen.append((name, output))


def _outputs(seen: list[tuple[str, Tensor]], network: nn.Module, images: Tensor) -> list[tuple[str, Tensor]]:
    """Name and output of each layer that has a hook which writes to `seen`."""
    seen.clear()
    network(images)
    return list(seen)


def _pattern(axis: int, side: int) -> str:
    return f"axis_{axis}_of_{side}"


def _magnitude(output: Tensor) -> Tensor:
    """[B, ...] to [B, 1]."""
    return output.abs().flatten(1).mean(1, keepdim=True)


def _layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Convolutions and linear layers by name, each together with its activation where both are one block."""
    for name, parent in network.named_modules():
        for child_name, child in parent.named_children():
            if not isinstance(child, nn.Conv2d | nn.Linear):
                continue
            others = [other for other in parent.children() if other is not child]
            block = isinstance(parent, nn.Sequential) and not any(True for one in others for _ in one.parameters())
            yield (name, parent) if block else (f"{name}.{child_name}".removeprefix("."), child)


def first_difference(
    convert: Callable[[Path], None],
    engine: Callable[[Path], Engine],
    torch_engine: Engine,
    file: Path,
    pictures: Sequence[Pixels],
) -> str:
    """The first layer whose output differs, in words.

    Args:
        convert: writes the file of layers.
        engine: opens it.
        torch_engine: the same in torch.
        file: to write; stays there.
        pictures: uint8 [H, W, 3] of the input's size.
    """
    try:
        convert(file)
        other = engine(file)
        pairs = [[np.ravel(run(one[None])["probabilities"]) for run in (torch_engine, other)] for one in pictures]
    except FalconetError as error:
        return f"which layer differs first could not be found: {error}"
    names = torch_engine.manifest.classes[: len(pairs[0][0]) // 2]
    worst = np.max([_differences(ours, theirs) for ours, theirs in pairs], axis=0)
    places = np.flatnonzero(worst > TOLERANCE)
    if not len(places):
        return (
            f"each layer by itself is the same, within {worst.max():.1g} of its magnitude: the difference comes from "
            "what lies behind them, or from layers that the engine computes as one"
        )
    return f"the first layer that differs is {names[places[0]]}, by {worst[places[0]]:.1%} of its magnitude"


def _differences(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """How far each layer is off, as a share of its magnitude in torch; infinity where it is no number."""
    count = len(ours) // 2
    scale = np.maximum(ours[count:], 1e-12)
    off = np.maximum(np.abs(ours[:count] - theirs[:count]), np.abs(ours[count:] - theirs[count:])) / scale
    return np.where(np.isfinite(off), off, np.inf)
