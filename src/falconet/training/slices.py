"""Narrower networks that learn beside a wider one, as slices of its weights: a super-network of widths.

Each step trains the widest network, the narrowest and one in between on the same pictures (the sandwich rule of
"Universally Slimmable Networks", arXiv:1903.05134, section 3.2). A narrower one has no weights of its own: of each
weight it takes the channels that matter most at the start (`falconet.models.channels`), so that one training serves all
of them. Batch norms compute with the statistics of each batch; those of a slice that is taken out are measured anew
(section 3.3 there, `falconet.training.slice_files`).

Where we differ from the source: a step has one width in between instead of two, its loss is the mean over the networks
instead of the sum, so that rates and limits of gradients keep their meaning, and narrower networks learn from the boxes
like the widest, not from its answers.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from falconet.core.errors import ModelError
from falconet.core.types import Ints
from falconet.models import ModelConfig, Network, build
from falconet.models.channels import inputs_of, kept_places
from falconet.models.slices import Axis, sliced
from falconet.models.types import ForwardOutputs

PLACES = "places_"
"""What the names of tensors that say where a slice lies begin with."""


def slice_key(model: ModelConfig, narrow: ModelConfig) -> str:
    """Name of the tensor that says where `narrow` lies within `model`; the same whatever their inputs are."""
    ours = [one.model_dump_json(exclude={"input", "selection"}) for one in (model, narrow)]
    return PLACES + hashlib.sha256("".join(ours).encode()).hexdigest()[:16]


def flat_places(places: Mapping[Axis, Ints]) -> Tensor:
    """Places of all axes in one tensor, by which checkpoints and weights files know them."""
    return torch.from_numpy(np.concatenate([places[axis] for axis in sorted(places)]))


def axis_places(flat: Tensor, like: Mapping[Axis, Ints]) -> dict[Axis, Tensor]:
    """What `flat_places` made one tensor of, axis by axis.

    Args:
        like: places of the same two networks, from whichever weights.

    Raises:
        ModelError: it is of other networks.
    """
    lengths = [len(like[axis]) for axis in sorted(like)]
    if len(flat) != sum(lengths):
        raise ModelError(f"{len(flat)} places of channels, where these networks have {sum(lengths)}")
    return dict(zip(sorted(like), flat.split(lengths), strict=True))


class _Outputs(nn.Module):
    """A network whose call gives what a criterion reads."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> ForwardOutputs:
        outputs: ForwardOutputs = self.network.forward_outputs(images)
        return outputs


class Slices(nn.Module):
    """The narrower networks of a run. Its state is where they lie: one tensor for each.

    Args:
        networks: narrower ones, by `slice_key`.
        places: of their channels in the widest one, likewise.
    """

    def __init__(self, networks: Mapping[str, Network], places: Mapping[str, Mapping[Axis, Ints]]) -> None:
        super().__init__()
        narrowest_last = sorted(networks, key=lambda key: -sum(one.numel() for one in networks[key].parameters()))
        self.networks = nn.ModuleDict({key: _Outputs(networks[key]) for key in narrowest_last})
        self._like = {key: dict(places[key]) for key in narrowest_last}
        for key in narrowest_last:
            self.register_buffer(key, flat_places(places[key]))

    def hollow(self) -> None:
        """Drop the weights and statistics of the narrower networks: they live on slices from now on."""
        for module in self.networks.modules():
            for name in list(module._parameters):
                module.register_parameter(name, None)
            if isinstance(module, nn.BatchNorm2d):
                module.track_running_stats = False
                module.running_mean = module.running_var = module.num_batches_tracked = None

    def forward(self, network: Network, images: Float[Tensor, "B 3 H W"]) -> list[ForwardOutputs]:
        """What the narrowest network and one in between compute; the latter is drawn by torch's generator.

        Args:
            network: the widest one.
            images: normalised.
        """
        *between, narrowest = self.networks
        drawn = [between[int(torch.randint(len(between), ()))]] if between else []
        return [self.outputs(key, network, images) for key in (narrowest, *drawn)]

    def outputs(self, key: str, network: Network, images: Float[Tensor, "B 3 H W"]) -> ForwardOutputs:
        """What the narrower network `key` computes with its slices of the weights of `network`."""
        weights = sliced(dict(network.named_parameters()), axis_places(self.get_buffer(key), self._like[key]))
        own = {f"network.{name}": value for name, value in weights.items()}
        outputs: ForwardOutputs = functional_call(self.networks[key], own, (images,))
        return outputs


def make_slices(
    narrower: Iterable[ModelConfig],
    model: ModelConfig,
    network: Network,
    *,
    classes: int,
    images: Iterable[Float[Tensor, "B 3 H W"]],
    known: Mapping[str, Tensor],
) -> Slices:
    """The narrower networks of a run, in training mode.

    Args:
        narrower: their configurations: of the same layers as `model`, with fewer channels.
        model: of the widest network.
        network: the widest one, as it starts, before its norms are folded; its mode is kept.
        classes: that it knows.
        images: normalised; what flows through the network on them says which channels matter. Without any, the first
            ones do.
        known: places that a former run settled on, by `slice_key`.

    Raises:
        ModelError: a network of other layers, or of more channels somewhere.
    """
    training = network.training
    seen = inputs_of(network.eval(), images)
    networks, places = {}, {}
    for config in narrower:
        key = slice_key(model, config)
        networks[key] = build(config, classes)
        found = kept_places(networks[key], network, seen)
        if key in known:
            found = {axis: one.numpy() for axis, one in axis_places(known[key], found).items()}
        _check(network, networks[key], found)
        places[key] = found
    network.train(training)
    return Slices(networks, places).train()


def _check(network: nn.Module, narrow: nn.Module, places: Mapping[Axis, Ints]) -> None:
    """Raise ModelError where some weight of `narrow` is no slice of that of `network`."""
    own = narrow.state_dict()
    wide = network.state_dict()
    there = {axis: torch.from_numpy(one) for axis, one in places.items()}
    for name, value in sliced(wide, there).items():
        if value.shape != own[name].shape:
            raise ModelError(f"{name}: is {list(wide[name].shape)}, of which {list(own[name].shape)} is no slice")
