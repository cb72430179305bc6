"""A super-network of widths against trainings of their own: python benchmarks/shared_widths.py DATA... MINUTES

`falconet fit` trains candidates one by one. The other way is one training whose weights serve all of them: each step
trains the widest network, the narrowest and one in between on the same pictures (the sandwich rule of "Universally
Slimmable Networks", arXiv:1903.05134), the narrower ones being slices of the widest. Both start from NanoDet-Plus-m's
COCO weights and take the same minutes on this machine; then a middle width goes on from either.

Batch norms are folded in both, so none has to be re-estimated. DATA are overrides of a run, as in
data.train.annotations=train.json data.train.images=train data.val.annotations=...
"""

import json
import logging
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from falconet.api.find import weights_to_start_from
from falconet.core.run_files import BEST
from falconet.core.types import Ints
from falconet.models import build
from falconet.models.channels import Axis, inputs_of, kept_places
from falconet.models.weights import load_weights, save_weights
from falconet.models.widths import narrower
from falconet.search.finish import measured_ap
from falconet.training import fit, loop, read_run
from falconet.training.batch import Batch
from falconet.training.depthwise import use_fast_depthwise
from falconet.training.folded_norms import fold_norms
from falconet.training.prepare import Prepared
from falconet.training.progress import Progress
from falconet.training.run_config import RunConfig

PRESET, WEIGHTS = "nanodet-plus-m-320", "nanodet-plus-m-416-coco"
SHARES = (1.0, 0.85, 0.7, 0.55, 0.4)
GOES_ON = 0.55
PICTURES = 32
"""Whose features say which channels matter."""


class Outputs(nn.Module):
    """A network whose call gives what the criterion reads."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Any:
        return self.network.forward_outputs(images)


class Sandwich(loop.TrainModule):
    """The widest, the narrowest and a random width in each step; narrower networks are slices of the widest.

    Attributes:
        places: of the channels of each width in the widest network, by share.
    """

    places: ClassVar[dict[float, dict[Axis, Ints]]] = {}

    def __init__(self, prepared: Prepared) -> None:
        super().__init__(prepared)
        self._chance = random.Random(prepared.run.seed)
        model, classes = prepared.run.model, len(prepared.data.names)
        source = build(model, classes)
        source.load_state_dict(prepared.networks["network"].state_dict())
        batches = prepared.loader.validation(batch_size=PICTURES)
        seen = inputs_of(source.eval(), [self.normalize(batch.pixels) for batch in batches])
        self._narrow = {}
        for share in SHARES[1:]:
            narrow = build(narrower(model, share), classes).train()
            Sandwich.places[share] = kept_places(narrow, source, seen)
            fold_norms(narrow)
            use_fast_depthwise(narrow)
            self._narrow[share] = Outputs(narrow.to(memory_format=torch.channels_last))

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        wide, criterion = self.networks["network"], self.networks["criterion"]
        images = self.normalize(batch.pixels)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            terms = [criterion(wide.forward_outputs(images), batch.targets, progress)]
            for share in (SHARES[-1], self._chance.choice(SHARES[1:-1])):
                state = sliced(dict(wide.named_parameters()), self.places[share])
                narrow = self._narrow[share]
                called = {f"network.{name}": value for name, value in state.items()}
                terms.append(criterion(functional_call(narrow, called, (images,)), batch.targets, progress))
        return {name: torch.stack([one[name] for one in terms]).mean() for name in terms[0]}


def sliced(state: dict[str, Tensor], places: dict[Axis, Ints]) -> dict[str, Tensor]:
    """The weights of a narrower network as slices of those of the widest; gradients go through."""
    narrow = {}
    for name, value in state.items():
        for axis in range(value.ndim):
            own = places.get((name, axis))
            if own is None or _whole(own, value.shape[axis]):
                continue
            there = torch.from_numpy(own)
            value = value.index_select(axis, there.clamp_min(0))
            if (own < 0).any():
                shape = [-1 if place == axis else 1 for place in range(value.ndim)]
                value = value * (there >= 0).to(value.dtype).view(shape)
        narrow[name] = value
    return narrow


def _whole(places: Ints, count: int) -> bool:
    return len(places) >= count and bool((places[:count] == np.arange(count)).all())


@contextmanager
def sandwich() -> Iterator[None]:
    """Trainings within train all widths at once."""
    before = loop.TrainModule
    loop.TrainModule = Sandwich  # type: ignore[misc]
    try:
        yield
    finally:
        loop.TrainModule = before  # type: ignore[misc]


def run_of(data: list[str], out: Path, *, seed: int, minutes: float, weights: Any, share: float = 1.0) -> RunConfig:
    """A training of one width."""
    own = [f"output={out}", f"seed={seed}", "train.loggers=[]", "criterion.detach_epoch=0", "train.freeze=none"]
    run = read_run(PRESET, [*data, *own, "train.weights=none", "train.norms=folded"])
    train = run.train.model_copy(update={"weights": weights, "minutes": minutes})
    return run.model_copy(update={"model": narrower(run.model, share) if share < 1 else run.model, "train": train})


def compare(data: list[str], folder: Path, *, seed: int, minutes: float) -> dict[str, Any]:
    """Both ways, `minutes` for all widths and as much for the one that goes on."""
    base = run_of(data, folder / "none", seed=seed, minutes=minutes, weights=None)
    coco = weights_to_start_from(WEIGHTS, base.model)
    rows: dict[str, Any] = {"seed": seed, "minutes": minutes, "shared": {}, "own": {}}
    with sandwich():
        shared = fit(run_of(data, folder / "shared", seed=seed, minutes=minutes, weights=coco))
    network, card = load_weights(shared / BEST)
    for share in SHARES:
        file = shared / f"{share}.safetensors"
        model = narrower(base.model, share) if share < 1 else base.model
        narrow = build(model, len(card.classes))
        state = network.state_dict() if share == 1 else sliced(network.state_dict(), Sandwich.places[share])
        narrow.load_state_dict(state)
        save_weights(file, narrow, card.model_copy(update={"model": model}))
        rows["shared"][share], _ = measured_ap(file, shared, None)
        own = fit(
            run_of(data, folder / f"own-{share}", seed=seed, minutes=minutes / len(SHARES), weights=coco, share=share)
        )
        rows["own"][share], _ = measured_ap(own / BEST, own, None)
    for name, weights in (("shared", shared / f"{GOES_ON}.safetensors"), ("own", folder / f"own-{GOES_ON}" / BEST)):
        done = fit(run_of(data, folder / f"on-{name}", seed=seed, minutes=minutes, weights=weights, share=GOES_ON))
        rows[f"{name} goes on"], _ = measured_ap(done / BEST, done, None)
    return rows


def main() -> None:
    """Print a row of JSON for each seed."""
    *data, minutes = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    for seed in (0, 1):
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(compare(data, Path(folder), seed=seed, minutes=float(minutes))), flush=True)


if __name__ == "__main__":
    main()
