"""The assigner and the targets made from it against the original's (`../shared/golden`)."""

import numpy as np
import pytest
import torch

from falconet.models.distances import boxes_at, expected_distances
from falconet.models.priors import make_priors
from falconet.training.assign.dynamic_soft import dynamic_soft_assign
from falconet.training.batch import Targets, pad_targets
from falconet.training.criteria.nanodet_plus import distance_targets
from tests.golden.case import Case

KINDS = ("zero", "one", "crowd", "tiny")
PRIORS = make_priors((320, 320), (8, 16, 32, 64), offset=0.0)


def _targets(case: Case, kinds: tuple[str, ...]) -> Targets:
    boxes = [case.arrays[f"gt/{kind}/boxes"] for kind in kinds]
    return pad_targets(boxes, [case.arrays[f"gt/{kind}/labels"] for kind in kinds])


@pytest.fixture(scope="module")
def case() -> Case:
    return Case("nanodet_assigner_s1")


@pytest.mark.parametrize("batched", [True, False], ids=["batch of four", "one by one"])
def test_assignment(case: Case, batched: bool) -> None:
    logits = torch.from_numpy(case.input("cls"))
    boxes = boxes_at(PRIORS, expected_distances(torch.from_numpy(case.input("reg"))))
    case.check("decoded_boxes", boxes)
    batches = [list(range(4))] if batched else [[0], [1], [2], [3]]
    checked = set()
    for images in batches:
        targets = _targets(case, tuple(KINDS[i] for i in images))
        truth, quality = dynamic_soft_assign(logits[images], boxes[images], PRIORS.points, targets)
        for row, image in enumerate(images):
            kind = KINDS[image]
            outputs = _as_original(truth[row], quality[row], Targets(*(value[row] for value in targets[:3])))
            assert int((truth[row] >= 0).sum()) == case.meta["num_pos"][kind]
            for name, value in outputs.items():
                case.check(f"{kind}/{name}", value)
                checked.add(f"{kind}/{name}")
    truths = {f"gt/{kind}/{what}" for kind in KINDS for what in ("boxes", "labels")}
    assert checked == set(case.meta["outputs"]) - truths - {"decoded_boxes"}


def _as_original(truth: torch.Tensor, quality: torch.Tensor, targets: Targets) -> dict[str, np.ndarray]:
    """One image's assignment in the original's conventions."""
    found = truth >= 0
    none = torch.zeros(len(truth), 4)
    if len(targets.boxes):
        boxes, labels = targets.boxes[truth.clamp(min=0)], targets.labels[truth.clamp(min=0)]
    else:
        boxes, labels = none, truth
    # Where nothing competes (no truth, or no point in any), the original says 0 for all.
    unassigned = -1e8 if bool(found.any()) else 0.0
    distances = distance_targets(PRIORS, boxes, reg_max=7)
    outputs = {
        "gt_inds": truth + 1,
        "labels": torch.where(found, labels, -1),
        "max_overlaps": torch.where(found, quality, unassigned),
        "target/labels": torch.where(found, labels, 80),
        "target/label_scores": quality,
        "target/label_weights": torch.ones(len(truth)),
        "target/bbox_targets": torch.where(found[:, None], boxes, none),
        "target/dist_targets": torch.where(found[:, None], distances, none),
    }
    return {name: value.numpy() for name, value in outputs.items()}
