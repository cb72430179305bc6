"""The criterion's terms and their gradients against the original's (`../shared/golden`)."""

import pytest
import torch

from falconet.models.priors import make_priors
from falconet.models.types import HeadOutputs
from falconet.training.batch import pad_targets
from falconet.training.criteria.nanodet_plus import nanodet_plus_terms
from tests.golden.case import Case

KINDS = ("zero", "one", "crowd")
NAMES = {"loss_qfl": "class", "loss_bbox": "box", "loss_dfl": "distribution"}


@pytest.fixture(scope="module")
def case() -> Case:
    return Case("nanodet_head_loss_s1")


def _leaf(case: Case, which: str, images: list[int]) -> torch.Tensor:
    """Predictions of one head as the original keeps them: logits, then bins."""
    parts = [torch.from_numpy(case.input(f"{which}_{kind}"))[images] for kind in ("cls", "reg")]
    return torch.cat(parts, dim=-1).requires_grad_()


@pytest.mark.parametrize("guided", [False, True], ids=["noaux", "aux"])
@pytest.mark.parametrize("which", ["batch", *KINDS])
def test_terms_and_gradients(case: Case, which: str, guided: bool) -> None:
    images = list(range(3)) if which == "batch" else [KINDS.index(which)]
    truths = Case("nanodet_assigner_s1").arrays
    kinds = [KINDS[image] for image in images]
    targets = pad_targets(
        [truths[f"gt/{kind}/boxes"] for kind in kinds], [truths[f"gt/{kind}/labels"] for kind in kinds]
    )
    priors = make_priors((320, 320), (8, 16, 32, 64), offset=0.0)
    leaves = {"": _leaf(case, "pred", images)}
    if guided:
        leaves["auxiliary_"] = _leaf(case, "aux", images)
    found = {name: HeadOutputs(*leaf.split((80, 32), -1), None, priors) for name, leaf in leaves.items()}
    terms = nanodet_plus_terms(found, targets, reg_max=7)
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()

    outputs = {"loss": loss.detach()}
    for original, ours in NAMES.items():
        outputs[original] = terms[ours].detach()
        if guided:
            outputs[f"aux_{original}"] = terms[f"auxiliary_{ours}"].detach()
    prefix = f"{which}/{'aux' if guided else 'noaux'}/"
    if f"{prefix}grad_pred" in case.meta["outputs"]:
        outputs["grad_pred"] = leaves[""].grad
        outputs["grad_pred_rowsum"] = leaves[""].grad.abs().sum(-1)
        if guided:
            outputs["grad_aux"] = leaves["auxiliary_"].grad
    assert {prefix + name for name in outputs} == {n for n in case.meta["outputs"] if n.startswith(prefix)}
    for name, value in outputs.items():
        case.check(prefix + name, value)
