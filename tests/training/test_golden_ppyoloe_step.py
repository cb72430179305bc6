"""One training step of PP-YOLOE+ against the original's (`../shared/golden`)."""

import pytest
import torch

from falconet.models import PRESETS, build
from falconet.training.criteria.ppyoloe import match_by_alignment, match_by_geometry
from falconet.zoo.ppyoloe.keys import convert
from tests.golden.case import Case
from tests.training.criterion import at, make_criterion
from tests.training.test_golden_ppyoloe import l1_in_strides, truths

STATIC_EPOCHS = 30
EPOCHS = {"tal": STATIC_EPOCHS, "atss": 0}
WEIGHTS = {"cls": ("class", 1.0), "iou": ("box", 2.5), "dfl": ("distribution", 0.5)}
SHARE = 0.1
"""Of a batch in the running statistics."""


@pytest.fixture(scope="module")
def case() -> Case:
    return Case("ppyoloe_train_step_s_s1")


def _detector(case: Case):
    config = PRESETS["ppyoloe-plus-s"]
    detector = build(config, 80).train()
    state = convert({key: torch.from_numpy(value) for key, value in case.weights().items()}).detector
    detector.load_state_dict(state, strict=False)
    criterion = make_criterion(config, detector, num_classes=80, static_share=STATIC_EPOCHS / 100)
    return detector, criterion


def _our_names(case: Case) -> dict[str, str]:
    """{their name: our name} of every weight."""
    keys = [key for key, _ in case.meta["state"]]
    return {theirs: ours for ours, theirs in convert(dict(zip(keys, keys, strict=True))).detector.items()}


@pytest.mark.parametrize("how", EPOCHS)
def test_step(case: Case, how: str) -> None:
    detector, criterion = _detector(case)
    targets = truths(Case("ppyoloe_assigners_s1"), "batch")
    trace = detector.forward_outputs(torch.from_numpy(case.input("img")))
    for level, original in enumerate((2, 1, 0)):
        case.check(f"neck.{original}", trace.neck[level].detach())

    terms = criterion(trace, targets, at(EPOCHS[how]))
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()
    case.check(f"{how}/loss", loss.detach())
    for name, (ours, weight) in WEIGHTS.items():
        case.check(f"{how}/loss_{name}", (terms[ours] / weight).detach())
    if how == "tal":
        matches = match_by_alignment(trace.raw, targets)
    else:
        matches = match_by_geometry(trace.raw, targets, strides=detector.head.strides)
    case.check(f"{how}/loss_l1", l1_in_strides(trace.raw.box_code.detach(), matches))

    names = _our_names(case)
    gradients = {name: parameter.grad for name, parameter in detector.named_parameters()}
    norms = [gradients[names[key]].norm() if key in names else 0.0 for key in case.meta["param_names"]]
    case.check(f"{how}/grad_norms", torch.tensor(norms))
    stored = [name for name in case.meta["outputs"] if name.startswith(f"{how}/grad/")]
    assert stored
    for name in stored:
        case.check(name, gradients[names[name.removeprefix(f"{how}/grad/")]])


def test_batch_norms_differ_in_the_variance_of_the_batch_alone(case: Case) -> None:
    """The original's running variance takes in the biased one; torch's the unbiased one, n / (n - 1) times it."""
    detector, _ = _detector(case)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    counts = {}
    for place, module in detector.named_modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_pre_hook(
                lambda _, inputs, place=place: counts.update({place: inputs[0].numel() // inputs[0].shape[1]})
            )
    detector.forward_outputs(torch.from_numpy(case.input("img")))
    names = _our_names(case)
    stored = [name for name in case.meta["outputs"] if name.startswith("state_after/")]
    assert stored
    for name in stored:
        ours = names[name.removeprefix("state_after/")]
        value = detector.state_dict()[ours]
        if ours.endswith("running_var"):
            count = counts[ours.removesuffix(".running_var")]
            batch = (value - (1 - SHARE) * before[ours]) / SHARE * (count - 1) / count
            value = (1 - SHARE) * before[ours] + SHARE * batch
        case.check(name, value)
