"""Narrower networks taken out of a run that trained them as slices of its weights."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor
from torch.optim.swa_utils import update_bn

from falconet.core.errors import ModelError
from falconet.models import ModelConfig, Network, build
from falconet.models.channels import kept_places
from falconet.models.slices import sliced
from falconet.models.weights import load_extra, load_trained_on, load_weights, save_weights
from falconet.training.initial import first_images
from falconet.training.prepare import make_loader
from falconet.training.processes import Process
from falconet.training.run_config import RunConfig
from falconet.training.run_data import load_data
from falconet.training.run_folder import RunFolder
from falconet.training.slices import axis_places, slice_key

MEASURED = 256
"""Training images that the norms of a slice are measured on."""


def write_slices(folder: Path, wanted: Sequence[tuple[ModelConfig, Path]]) -> None:
    """Write networks of a finished run, each as the folder of a run: `run.yaml` and `best.safetensors`.

    They are taken from the weights of the last epoch, since those of the best one are best for the widest network
    alone. Batch norms of a narrower network get the statistics that its features have on training images of its own
    input size; the widest network has its own already, and folded norms have none.

    Args:
        folder: of the run.
        wanted: (configuration with the input that it is for, where to write it); the run's `model` or one of its
            `slices`.

    Raises:
        ModelError: no weights there, or none of this network.
    """
    here = RunFolder(folder)
    run = here.read_run()
    network, card = load_weights(here.last)
    places, trained_on = load_extra(here.last), load_trained_on(here.last)
    for config, out in wanted:
        train = run.train.model_copy(update={"multi_scale": None})
        own = run.model_copy(update={"model": config, "slices": (), "train": train, "output": out.absolute()})
        taken = network
        if not _same(config, run.model):
            key = slice_key(run.model, config)
            if key not in places:
                raise ModelError(f"{here.last}: does not say where this narrower network lies in it")
            taken = _taken(network, build(config, len(card.classes)), places[key])
            if run.train.norms == "batch":
                update_bn(_images(own), taken)
        there = RunFolder(out)
        out.mkdir(parents=True, exist_ok=True)
        written = card.model_copy(update={"model": config, "metrics": {}})
        save_weights(there.best, taken.eval(), written, trained_on=trained_on)
        there.write_run(own)


def _same(one: ModelConfig, other: ModelConfig) -> bool:
    return one.model_copy(update={"input": other.input}) == other


def _taken(network: Network, narrow: Network, flat: Tensor) -> Network:
    """`narrow`, filled with its slices of the weights of `network`."""
    where = axis_places(flat, kept_places(narrow, network, {}))
    narrow.load_state_dict(sliced(network.state_dict(), where))
    return narrow


def _images(run: RunConfig) -> Iterator[Tensor]:
    """Training images of a run as its network sees them."""
    data = load_data(run.data)
    loader = make_loader(run, data, Process(), workers=0)
    yield from first_images(run.model.input, loader, MEASURED)
