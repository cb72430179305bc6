"""The second strategy of `falconet fit`: widths of one network learn in a single training, on the same weights.

What `falconet.training.slices` trains is one entry of the search; it is worth what the best of its widths is worth, and
that one goes on alone in the end.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from falconet.core.errors import ModelError
from falconet.models import ModelConfig, build
from falconet.models.channels import kept_places
from falconet.search.candidates import Candidate
from falconet.search.space import at_size

if TYPE_CHECKING:
    from falconet.training import RunConfig


def together(candidates: Sequence[Candidate]) -> list[tuple[Candidate, ...]]:
    """Candidates that one training serves, the widest first; each of the others by itself.

    They are the widths of one network: its shares of the channels, each at an input of its own.
    """
    groups: dict[str, list[Candidate]] = {}
    for one in candidates:
        groups.setdefault(one.shape.whole.model_dump_json(), []).append(one)
    found: list[tuple[Candidate, ...]] = []
    for group in groups.values():
        widest_first = tuple(sorted(group, key=lambda one: -_weights(one.shape.model)))
        if len(group) > 1 and _are_slices(widest_first):
            found.append(widest_first)
        else:
            found += [(one,) for one in group]
    return found


def _weights(model: ModelConfig) -> int:
    with torch.device("meta"):
        return sum(one.numel() for one in build(model, 1).parameters())


def _are_slices(widest_first: Sequence[Candidate]) -> bool:
    """Whether channels can be followed through these networks."""
    wide, *narrower = (build(one.shape.model, 1) for one in widest_first)
    try:
        for one in narrower:
            kept_places(one, wide, {})
    except ModelError:
        return False
    return True


def shared_run(run: "RunConfig", members: Sequence[Candidate], weights: Path | None) -> "RunConfig":
    """The run that trains all widths of a network.

    Batches vary in size from the smallest input of the widths to the largest, unless the run says otherwise.

    Args:
        run: of the widest network.
        members: the widest first.
        weights: that it starts from.
    """
    sizes = sorted((one.size for one in members), key=math.prod)
    small, large = sizes[0], sizes[-1]
    models = [at_size(one.shape.model, small) for one in members]
    update: dict[str, object] = {"weights": weights}
    if run.train.multi_scale is None and small != large:
        update["multi_scale"] = (1.0, max(large) / max(small))
    train = run.train.model_copy(update=update)
    return run.model_copy(update={"model": models[0], "slices": tuple(models[1:]), "train": train})


def slice_folder(run: Path, place: int) -> Path:
    """Where a width is, once it is taken out of the run that trained all of them.

    Args:
        place: of the width, from 0; the widest has the first.
    """
    return run / f"slice-{place + 1}"
