"""What the weights of one network are to another: all of it, more channels than it has, or its backbone."""

from functools import lru_cache
from typing import Literal

import torch
from pydantic import TypeAdapter

from falconet.core.suggest import listed
from falconet.models import ModelConfig, build
from falconet.models.pretrained import PREFIX

Relation = Literal["same", "wider", "backbone", "none"]
"""same: they are those of the network; wider: of the same layers with more channels; backbone: of a detector with the
same backbone and another neck or head; none: of another network."""

Shapes = dict[str, torch.Size]
"""Of tensors, by name."""

_CONFIG: TypeAdapter[ModelConfig] = TypeAdapter(ModelConfig)


def relation(model: ModelConfig, trained: ModelConfig) -> Relation:
    """What weights of `trained` are to `model`, at whatever input size and number of classes.

    A classifier's weights have the backbone of a detector where this is the same, whatever it is built with.
    """
    own, known = _shapes(model), _shapes(trained)
    if own == known:
        return "same"
    if own.keys() == known.keys() and all(_fits(own[name], known[name]) for name in own):
        return "wider"
    ours, theirs = (
        {name: shape for name, shape in shapes.items() if name.startswith(PREFIX)} for shapes in (own, known)
    )
    return "backbone" if ours and ours == theirs else "none"


def differences(model: ModelConfig, trained: ModelConfig) -> str:
    """Tensors of `model` that `trained` has not, or of another shape; the first three."""
    own, known = _shapes(model), _shapes(trained)
    odd = [f"{name} is missing" for name in own if name not in known]
    odd += [
        f"{name} is {list(known[name])}, expected {list(shape)}"
        for name, shape in own.items()
        if name in known and known[name] != shape
    ]
    return listed(odd or [f"{name} is not part of the model" for name in known if name not in own], 3)


def _shapes(model: ModelConfig) -> Shapes:
    return _shapes_of(model.model_dump_json())


@lru_cache(maxsize=128)
def _shapes_of(text: str) -> Shapes:
    with torch.device("meta"):
        network = build(_CONFIG.validate_json(text), 2)
    return {name: value.shape for name, value in network.state_dict().items()}


def _fits(own: torch.Size, wide: torch.Size) -> bool:
    """Whether a tensor is a wider one without some of its channels."""
    return own[2:] == wide[2:] and all(one <= other for one, other in zip(own[:2], wide[:2], strict=False))
