"""Batch norms of imported weights: from "folded away" to what training expects, without a change of the function.

Exported models have their batch norms folded into the convolutions. Imported back, each norm passes its input
on: mean 0, variance 1, whatever the features are. That is right for detecting, but a training step would
normalise by the batch's own statistics, and the network would suddenly compute something else. So before
training the statistics are measured on real pictures, and scale and shift are changed to cancel them.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn


def unmeasured(model: nn.Module) -> bool:
    """Whether `model` has batch norms none of which has ever seen a picture: mean 0 and variance 1 throughout."""
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    return bool(norms) and all(_is_blank(norm) for norm in norms)


def _is_blank(norm: nn.BatchNorm2d) -> bool:
    assert norm.running_mean is not None, "detectors keep running statistics"
    assert norm.running_var is not None, "detectors keep running statistics"
    return not norm.running_mean.any() and bool((norm.running_var == 1).all())


@torch.no_grad()
def measure_norms(model: nn.Module, batches: Iterable[Float[Tensor, "B I H W"]]) -> int:
    """Set the running statistics of all batch norms in `model` to those of its features on `batches`.

    In eval mode the model computes the same function before and after (up to rounding); in training mode,
    on similar pictures, nearly the same.

    Args:
        model: changed in place; its mode is kept.
        batches: network inputs, normalised as the model expects. A few hundred pictures are plenty.

    Returns:
        The number of pictures seen; 0 leaves the model as it was.
    """
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    sums = {norm: torch.zeros(3, norm.num_features, dtype=torch.float64) for norm in norms}

    def watch(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        values = inputs[0].double()
        counts = torch.full((values.shape[1],), float(values[:, 0].numel()), dtype=torch.float64)
        sums[norm] += torch.stack((counts, values.sum((0, 2, 3)).cpu(), values.square().sum((0, 2, 3)).cpu()))

    was_training = model.training
    model.eval()
    hooks = [norm.register_forward_pre_hook(watch) for norm in norms]
    seen = 0
    try:
        for images in batches:
            model(images)
            seen += len(images)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was_training)
    for norm, total in sums.items():
        if total[0, 0] > 0:
            mean = total[1] / total[0]
            _replace_statistics(norm, mean, (total[2] / total[0] - mean.square()).clamp(min=0))
    return seen


def _replace_statistics(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    assert norm.running_mean is not None, "detectors keep running statistics"
    assert norm.running_var is not None, "detectors keep running statistics"
    device = norm.running_mean.device
    mean, variance = mean.to(device), variance.to(device)
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    norm.bias.copy_(norm.bias.double() + scale * (mean - norm.running_mean.double()))
    norm.weight.copy_(scale * (variance + norm.eps).sqrt())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
