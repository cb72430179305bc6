"""PP-YOLOE's assigners, loss terms and their gradients against the original's (`../shared/golden`)."""

import pytest
import torch

from falconet.models.distances import boxes_at, expected_distances
from falconet.models.priors import make_priors
from falconet.models.types import HeadOutputs
from falconet.training import losses
from falconet.training.assign.atss import atss_assign
from falconet.training.assign.task_aligned import task_aligned_assign
from falconet.training.batch import Targets, pad_targets
from falconet.training.criteria.ppyoloe import (
    CLASS_WEIGHT,
    INSIDE_BY,
    MARGIN,
    match_by_alignment,
    match_by_geometry,
    ppyoloe_terms,
)
from tests.golden.case import Case

KINDS = ("zero", "one", "crowd")
BATCHES = {"batch": KINDS, **{kind: (kind,) for kind in KINDS}}
STRIDES = (32, 16, 8)
SIZES = [100, 400, 1600]
BACKGROUND = 80


@pytest.fixture(scope="module")
def assigners() -> Case:
    return Case("ppyoloe_assigners_s1")


@pytest.fixture(scope="module")
def loss_case() -> Case:
    return Case("ppyoloe_loss_s1")


def predictions(case: Case, which: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = [KINDS.index(kind) for kind in BATCHES[which]]
    logits, code = (torch.from_numpy(case.input(name))[images] for name in ("logit", "dist"))
    return logits, code


def truths(case: Case, which: str) -> Targets:
    values = {name: torch.from_numpy(case.arrays[f"gt/{which}/{name}"]) for name in ("boxes", "labels", "pad_mask")}
    labels, mask = values["labels"].squeeze(-1), values["pad_mask"].squeeze(-1).bool()
    return Targets(values["boxes"], labels * mask, mask)


def test_priors_and_boxes(assigners: Case) -> None:
    priors = make_priors((320, 320), STRIDES, offset=0.5)
    _, code = predictions(assigners, "batch")
    half = 2.5 * priors.strides
    assigners.check("anchors", torch.cat((priors.points - half, priors.points + half), dim=-1))
    assigners.check("anchor_points", priors.points)
    assigners.check("stride_tensor", priors.strides)
    assigners.check("pred_boxes", boxes_at(priors, expected_distances(code)))


@pytest.mark.parametrize("which", BATCHES)
@pytest.mark.parametrize("how", ["tal", "atss", "atss_onehot"])
def test_assigners(assigners: Case, which: str, how: str) -> None:
    priors = make_priors((320, 320), STRIDES, offset=0.5)
    logits, code = predictions(assigners, which)
    targets = truths(assigners, which)
    boxes = boxes_at(priors, expected_distances(code))
    B, P = logits.shape[:2]
    if how == "tal":
        truth, quality = task_aligned_assign(logits, boxes, priors.points, targets)
    else:
        half = 2.5 * priors.strides
        anchors = torch.cat((priors.points - half, priors.points + half), dim=-1)
        truth = atss_assign(anchors, SIZES, targets, inside_by=INSIDE_BY, variant="paddle")
        quality = (truth >= 0).float()
        if how == "atss":
            raw = HeadOutputs(logits, code, None, priors)
            matches = match_by_geometry(raw, targets, strides=STRIDES)
            quality = torch.zeros(B * P).index_put((matches.rows,), matches.quality).unflatten(0, (B, P))
    prefix = f"{which}/{how}"
    assert (truth >= 0).sum(1).tolist() == assigners.meta["num_pos"][prefix]
    labels, assigned = torch.full((B, P), BACKGROUND), torch.zeros(B, P, 4)
    if targets.mask.shape[1]:
        rows = torch.arange(B)[:, None]
        labels = torch.where(truth >= 0, targets.labels[rows, truth.clamp(min=0)], BACKGROUND)
        assigned = targets.boxes[rows, truth.clamp(min=0)]
    assigners.check(f"{prefix}/labels", labels)
    assigners.check(f"{prefix}/boxes", assigned)
    assigners.check(f"{prefix}/scores_max", quality)


@pytest.mark.parametrize("class_loss", ["varifocal", "focal"])
@pytest.mark.parametrize("how", ["tal", "atss"])
@pytest.mark.parametrize("which", BATCHES)
def test_terms_and_gradients(assigners: Case, loss_case: Case, which: str, how: str, class_loss: str) -> None:
    logits, code = (part.requires_grad_() for part in predictions(loss_case, which))
    raw = HeadOutputs(logits, code, None, make_priors((320, 320), STRIDES, offset=0.5))
    targets = truths(assigners, which)
    if how == "tal":
        matches = match_by_alignment(raw, targets)
    else:
        matches = match_by_geometry(raw, targets, strides=STRIDES)
    alpha = 0.25 if how == "atss" else None
    terms = ppyoloe_terms(raw, matches, reg_max=16, class_loss=class_loss, focal_alpha=alpha)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()

    weights = {"cls": ("class", CLASS_WEIGHT), "iou": ("box", 2.5), "dfl": ("distribution", 0.5)}
    outputs = {f"loss_{name}": (terms[ours] / weight).detach() for name, (ours, weight) in weights.items()}
    outputs["loss"] = loss.detach()
    outputs["loss_l1"] = l1_in_strides(code.detach(), matches)
    prefix = f"{which}/{how}/"
    if class_loss == "focal":
        prefix += "focal/"
    else:
        outputs["grad_logit"] = logits.grad
        outputs["grad_logit_rowsum"] = logits.grad.abs().sum(-1)
        outputs["grad_dist_rowsum"] = code.grad.abs().sum(-1)
    stored = {name.removeprefix(prefix) for name in loss_case.meta["outputs"] if name.startswith(prefix)}
    stored = {name for name in stored if not name.startswith("focal/")}
    assert stored
    assert stored <= set(outputs)
    for name in stored:
        loss_case.check(prefix + name, outputs[name])


def l1_in_strides(code: torch.Tensor, matches) -> torch.Tensor:
    """What the original reports beside the terms it learns from."""
    if not len(matches.rows):
        return torch.zeros(())
    boxes = boxes_at(matches.priors, expected_distances(code.flatten(0, 1)[matches.rows]))
    return ((boxes - matches.boxes) / matches.priors.strides).abs().mean()


def test_generalized_iou(loss_case: Case) -> None:
    boxes, targets = (torch.from_numpy(loss_case.arrays[f"giou/{name}"]) for name in ("pred", "target"))
    loss_case.check("giou/loss", losses.generalized_iou_loss(boxes, targets)[:, None])


def test_distribution_focal(loss_case: Case) -> None:
    logits = torch.from_numpy(loss_case.input("df_pred"))
    distances = torch.from_numpy(loss_case.arrays["dfl/target"])
    assert distances.max() <= 16 - MARGIN
    loss_case.check("dfl/loss", losses.distribution_focal_loss(logits, distances).mean(1, keepdim=True))


def test_varifocal(loss_case: Case) -> None:
    logits = torch.from_numpy(loss_case.input("logit"))[0, :50]
    labels, quality = (torch.from_numpy(loss_case.arrays[f"vfl/{name}"]) for name in ("label", "gt_score"))
    rows = (labels < BACKGROUND).nonzero().squeeze(1)
    # The original multiplies the target by the one-hot label, so background has none, whatever its score.
    value = losses.varifocal_loss(logits, rows, labels[rows], quality[rows]).sum()
    loss_case.check("vfl/value", value)


def test_no_boxes_at_all() -> None:
    targets = pad_targets([torch.zeros(0, 4).numpy()] * 2, [torch.zeros(0).numpy()] * 2)
    priors = make_priors((64, 64), STRIDES, offset=0.5)
    raw = HeadOutputs(torch.zeros(2, 84, 3), torch.zeros(2, 84, 68), None, priors)
    for matches in (match_by_alignment(raw, targets), match_by_geometry(raw, targets, strides=STRIDES)):
        assert [len(part) for part in matches if isinstance(part, torch.Tensor)] == [0, 0, 0, 0]
