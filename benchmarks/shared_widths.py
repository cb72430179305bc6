"""A super-network of widths against trainings of their own: python benchmarks/shared_widths.py DATA... MINUTES

`falconet fit --strategy shared` trains all widths of a network together (`falconet.training.slices`), `--strategy
halving` each by itself. Here both start from NanoDet-Plus-m's COCO weights, have one size of the input, and take the
same minutes on this machine for five widths; then a middle width goes on from either.

DATA are overrides of a run, as in data.train.annotations=train.json data.train.images=train data.val.annotations=...
"""

import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any

from falconet.api.find import weights_to_start_from
from falconet.core.run_files import BEST
from falconet.models import ModelConfig
from falconet.models.widths import narrower
from falconet.search.finish import measured_ap
from falconet.training import fit, read_run
from falconet.training.run_config import RunConfig
from falconet.training.slice_files import write_slices

PRESET, WEIGHTS = "nanodet-plus-m-320", "nanodet-plus-m-416-coco"
SHARES = (1.0, 0.85, 0.7, 0.55, 0.4)
GOES_ON = 0.55


def of_width(model: ModelConfig, share: float) -> ModelConfig:
    """`model` with a share of its channels."""
    return narrower(model, share) if share < 1 else model


def run_of(data: list[str], out: Path, *, seed: int, minutes: float, weights: Any, share: float = 1.0) -> RunConfig:
    """A training of one width."""
    own = [f"output={out}", f"seed={seed}", "train.loggers=[]", "criterion.detach_epoch=0", "train.freeze=none"]
    run = read_run(PRESET, [*data, *own, "train.weights=none", "train.norms=folded"])
    train = run.train.model_copy(update={"weights": weights, "minutes": minutes})
    return run.model_copy(update={"model": of_width(run.model, share), "train": train})


def compare(data: list[str], folder: Path, *, seed: int, minutes: float) -> dict[str, Any]:
    """Both ways, `minutes` for all widths and as much for the one that goes on."""
    base = run_of(data, folder / "shared", seed=seed, minutes=minutes, weights=None)
    coco = weights_to_start_from(WEIGHTS, base.model)
    rows: dict[str, Any] = {"seed": seed, "minutes": minutes, "shared": {}, "own": {}}
    slices = tuple(narrower(base.model, share) for share in SHARES[1:])
    train = base.train.model_copy(update={"weights": coco})
    shared = fit(base.model_copy(update={"slices": slices, "train": train}))
    places = {share: shared / f"slice-{share}" for share in SHARES}
    write_slices(shared, [(of_width(base.model, share), place) for share, place in places.items()])
    for share, place in places.items():
        rows["shared"][share], _ = measured_ap(place / BEST, place, None)
        own = fit(
            run_of(data, folder / f"own-{share}", seed=seed, minutes=minutes / len(SHARES), weights=coco, share=share)
        )
        rows["own"][share], _ = measured_ap(own / BEST, own, None)
    for name, weights in (("shared", places[GOES_ON] / BEST), ("own", folder / f"own-{GOES_ON}" / BEST)):
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
