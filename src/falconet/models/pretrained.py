"""The backbone of a trained classifier or of another detector in a detector."""

import torch
from torch import Tensor

from falconet.core.config import Config
from falconet.core.errors import ModelError
from falconet.core.manifest import Preprocess
from falconet.models.classifier import Classifier
from falconet.models.detector import Detector

PREFIX = "backbone."

KEEP_SHAPES = ("activation", "norm_eps", "shortcut", "stage_strides", "middle_activation", "gate", "rows")
"""Options of backbones that keep the shapes of the weights but change what they compute."""


def take_backbone(
    detector: Detector,
    source: Classifier | Detector,
    *,
    options: tuple[Config, Config],
    inputs: tuple[Preprocess, Preprocess],
    origin: str,
) -> list[str]:
    """Give `detector` the backbone weights of `source`, in place; neck and head stay as they are.

    Where both see pixels differently (channel order, mean, scale), the first convolution and its norm are changed so
    that the detector's backbone computes the same from its own input; only along the border, where the convolution
    pads with what is zero for each, a difference remains.

    Args:
        options: configurations of the backbones of both, detector first.
        inputs: preprocessing of both, detector first.
        origin: of the weights, for messages.

    Returns:
        What is worth telling, in lines.

    Raises:
        ModelError: another backbone: which keys are missing, which shapes differ.
    """
    ours, theirs = options
    if ours.model_dump()["name"] != theirs.model_dump()["name"]:
        raise ModelError(
            f"{origin}: these are the weights of another network: of the backbone {theirs.model_dump()['name']}, but "
            f"the model has {ours.model_dump()['name']}"
        )
    own = {key: value for key, value in detector.state_dict().items() if key.startswith(PREFIX)}
    state = {key: value.clone() for key, value in source.state_dict().items() if key.startswith(PREFIX)}
    problems = [f"{key} is missing" for key in own if key not in state]
    problems += [
        f"{key} is {list(state[key].shape)}, expected {list(value.shape)}"
        for key, value in own.items()
        if key in state and state[key].shape != value.shape
    ]
    if problems:
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ModelError(f"{origin}: these are the weights of another network: {'; '.join(problems[:4])}{more}")
    notes = [f"backbone: {len(own)} tensors taken over; neck and head start anew"]
    if _see(inputs[0]) != _see(inputs[1]):
        notes.append(_adapt_stem(state, inputs))
    notes += other_options(ours, theirs)
    with torch.no_grad():
        for key, target in own.items():
            target.copy_(state[key])
    return notes


def _see(preprocess: Preprocess) -> tuple[object, ...]:
    return preprocess.channels, preprocess.mean, preprocess.std


def _adapt_stem(state: dict[str, Tensor], inputs: tuple[Preprocess, Preprocess]) -> str:
    """Make the first convolution see what it was trained on when it is fed with the detector's input."""
    to, of = (
        (torch.tensor(one.mean, dtype=torch.float64), torch.tensor(one.std, dtype=torch.float64)) for one in inputs
    )
    flipped = inputs[0].channels != inputs[1].channels
    if flipped:  # from here on in the detector's order of channels
        of = (of[0].flip(0), of[1].flip(0))
    # trained on (p - m) / s, fed with x' = (p - m') / s': (p - m) / s = x' * s' / s + (m' - m) / s
    shift = ((to[0] - of[0]) / of[1])[:, None, None]
    first = next(key for key, value in state.items() if value.ndim == 4 and value.shape[1] == 3)
    for weight in {first, first.replace(".wide.", ".point.")}:  # RepVGG's first block has two convolutions
        trained = state[weight].double()
        trained = trained.flip(1) if flipped else trained
        mean = f"{weight.removesuffix('conv.weight')}norm.running_mean"
        state[mean] = (state[mean].double() - (trained * shift).sum((1, 2, 3))).to(state[mean].dtype)
        state[weight] = (trained * (to[1] / of[1])[:, None, None]).to(state[weight].dtype)
    return "backbone: the first convolution was changed to see the model's own normalisation and order of channels"


def other_options(ours: Config, theirs: Config) -> list[str]:
    """Where the options of two backbones differ that keep the shapes but change what weights compute, one per line."""
    own, trained = ours.model_dump(), theirs.model_dump()
    return [
        f"backbone: {name} is {own[name]}, but the weights were trained with {trained[name]} "
        f"(model.backbone.{name}={trained[name]})"
        for name in KEEP_SHAPES
        if name in own and own[name] != trained[name]
    ]
