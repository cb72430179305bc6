"""Losses against the original's, values and gradients (`../shared/golden`)."""

import numpy as np
import torch

from falconet.training import losses
from tests.golden.case import Case


def _tensor(case: Case, name: str) -> torch.Tensor:
    return torch.from_numpy(case.arrays[name])


def test_quality_focal_loss() -> None:
    case = Case("nanodet_loss_functions_s1")
    logits = torch.from_numpy(case.input("pred")).requires_grad_()
    labels = _tensor(case, "qfl/label")
    rows = (labels < 80).nonzero().squeeze(1)
    loss = losses.quality_focal_loss(logits, rows, labels[rows], _tensor(case, "qfl/score")[rows])
    case.check("qfl/none", loss.detach())
    value = (loss * _tensor(case, "qfl/weight")).sum() / 37
    case.check("qfl/value", value.detach())
    value.backward()
    case.check("qfl/grad", logits.grad)


def test_distribution_focal_loss() -> None:
    case = Case("nanodet_loss_functions_s1")
    logits = torch.from_numpy(case.input("dist")).requires_grad_()
    loss = 0.25 * losses.distribution_focal_loss(logits, _tensor(case, "dfl/target"))
    case.check("dfl/none", loss.detach())
    value = (loss * _tensor(case, "dfl/weight")).sum() / 91
    case.check("dfl/value", value.detach())
    value.backward()
    case.check("dfl/grad", logits.grad)


def test_generalized_iou_loss() -> None:
    case = Case("nanodet_loss_functions_s1")
    boxes = _tensor(case, "giou/pred").clone().requires_grad_()
    loss = 2 * losses.generalized_iou_loss(boxes, _tensor(case, "giou/target"))
    case.check("giou/none", loss.detach())
    # The case's note leaves out the divisor; its own values say 53: sum(none * weight) / value.
    value = (loss * _tensor(case, "giou/weight")).sum() / 53
    case.check("giou/value", value.detach())
    value.backward()
    case.check("giou/grad", boxes.grad)


def test_overlaps_of_all_pairs() -> None:
    case = Case("nanodet_loss_functions_s1")
    boxes, others = _tensor(case, "giou/pred"), _tensor(case, "giou/target")[:30]
    case.check("overlaps/iou", losses.iou(boxes[:, None], others))
    case.check("overlaps/giou", losses.generalized_iou(boxes[:, None], others))
    own = losses.area(boxes).clamp(min=losses.SMALLEST_AREA)[:, None]
    case.check("overlaps/iof", losses.overlap_area(boxes[:, None], others) / own)


def test_every_output_of_the_case_is_compared() -> None:
    names = set(Case("nanodet_loss_functions_s1").meta["outputs"])
    inputs = {"qfl/label", "qfl/score", "qfl/weight", "dfl/target", "dfl/weight"}
    inputs |= {"giou/pred", "giou/target", "giou/weight"}
    kinds = {f"{loss}/{what}" for loss in ("qfl", "dfl", "giou") for what in ("none", "value", "grad")}
    assert names == inputs | kinds | {"overlaps/iou", "overlaps/iof", "overlaps/giou"}
    assert np.isfinite(Case("nanodet_loss_functions_s1").arrays["giou/grad"]).all()
