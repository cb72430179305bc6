"""Convolutions with folded batch norms, as exported files hold them, back into a detector of ours.

An export is a list of convolutions in the order in which they are computed, which is also the order in ours.
A norm that was folded becomes an identity with the convolution's bias as its shift; see `models.norms` for
what fine-tuning does with it. Whether the order was right is not believed but measured: `parity`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from falconet.core.errors import ModelError
from falconet.models import ModelConfig, build
from falconet.models.detector import Detector
from falconet.zoo.formats.ncnn_files import Layer

FOLDED = "batch norms were folded in the file: fine-tuning measures them on its pictures first"
"""What is told of such a file."""


@dataclass(frozen=True, slots=True)
class _Place:
    """A convolution of a detector and the norm behind it."""

    name: str
    conv: nn.Conv2d
    norm: nn.BatchNorm2d | None


def fit_config(
    convolutions: Sequence[Layer], candidates: Sequence[tuple[ModelConfig, int]], where: str
) -> tuple[Detector, ModelConfig]:
    """The first candidate (configuration, number of classes) whose convolutions have the shapes of those given,
    with their weights in it, in eval mode.

    Raises:
        ModelError: none fits; `where` names the file.
    """
    shapes = [layer.weights["weight"].shape for layer in convolutions]
    best = (0, "there is none with such an output end and depthwise convolutions")
    for config, num_classes in candidates:
        with torch.random.fork_rng(devices=[]):
            detector = build(config, num_classes).eval()
        places = list(_places(detector))
        expected = [tuple(place.conv.weight.shape) for place in places]
        if expected == shapes:
            _load(places, convolutions)
            return detector, config
        same = next((i for i, (a, b) in enumerate(zip(expected, shapes, strict=False)) if a != b), len(expected))
        if same >= best[0]:
            found = list(shapes[same]) if same < len(shapes) else "no more"
            wanted = f"{places[same].name} {list(expected[same])}" if same < len(places) else "no more"
            best = (same, f"in the nearest, convolution {same + 1} is {wanted}, in the file {found}")
    raise ModelError(
        f"{where}: is not one of the networks that can be rebuilt here: {best[1]}. "
        "It can still be converted to ONNX and used for detection"
    )


def _places(detector: Detector) -> Iterator[_Place]:
    """The convolutions of a detector in the order in which they are computed."""
    names = {module: name for name, module in detector.named_modules()}
    order: list[nn.Conv2d] = []
    hooks = [
        module.register_forward_pre_hook(lambda module, _: order.append(module))
        for module in detector.modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        detector(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    assert len(order) == len(hooks), "every convolution of a detector is computed exactly once"
    for conv in order:
        block, _, own = names[conv].rpartition(".")
        sibling = getattr(detector.get_submodule(block), "norm", None) if own == "conv" else None
        yield _Place(names[conv], conv, sibling if isinstance(sibling, nn.BatchNorm2d) else None)


@torch.no_grad()
def _load(places: Sequence[_Place], convolutions: Sequence[Layer]) -> None:
    for place, layer in zip(places, convolutions, strict=True):
        place.conv.weight.copy_(torch.from_numpy(layer.weights["weight"].copy()))
        bias = layer.weights.get("bias")
        shift = torch.zeros(place.conv.out_channels) if bias is None else torch.from_numpy(bias.copy())
        if place.norm is not None:
            set_identity(place.norm, shift)
        elif place.conv.bias is not None:
            place.conv.bias.copy_(shift)
        elif bool(shift.any()):
            raise ModelError(f"{place.name}: the file has a bias where the network has none")


@torch.no_grad()
def set_identity(norm: nn.BatchNorm2d, shift: Tensor) -> None:
    """Make `norm` add `shift` [C] and nothing else."""
    assert norm.running_mean is not None, "detectors keep running statistics"
    assert norm.running_var is not None, "detectors keep running statistics"
    norm.running_mean.zero_()
    norm.running_var.fill_(1)
    norm.weight.fill_((1 + norm.eps) ** 0.5)
    norm.bias.copy_(shift)
