"""The criterion: paper examples, what learns when, nothing at all, half precision."""

import math

import pytest
import torch

from falconet.models import MODELS, PRESETS
from falconet.models.distances import boxes_at, expected_distances
from falconet.models.priors import make_priors
from falconet.models.types import HeadOutputs, Priors
from falconet.training import losses
from falconet.training.batch import Targets, pad_targets
from falconet.training.criteria import CRITERIA
from falconet.training.criteria.nanodet_plus import distance_targets, nanodet_plus_terms
from tests.training.criterion import at, make_criterion

SIZE = 64
MAIN = {"class", "box", "distribution"}
AUXILIARY = {f"auxiliary_{name}" for name in MAIN}
TARGETS = pad_targets(
    [torch.tensor([[4.0, 4, 40, 44], [20, 20, 60, 60]]).numpy(), torch.zeros(0, 4).numpy()],
    [torch.tensor([0, 2]).numpy(), torch.zeros(0).numpy()],
)
EMPTY = pad_targets([torch.zeros(0, 4).numpy()] * 2, [torch.zeros(0).numpy()] * 2)


def _setup(auxiliary="drop", *, detach_epoch=10):
    torch.manual_seed(0)
    config = PRESETS["nanodet-plus-demo"]
    detector = config.build(3)
    criterion = make_criterion(config, detector, num_classes=3, auxiliary=auxiliary, detach_epoch=detach_epoch)
    return detector, criterion


def _images():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def _gradients(module):
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def _total(terms):
    return torch.stack(list(terms.values())).sum()


def test_every_model_has_a_criterion():
    assert set(CRITERIA) == {*MODELS, "classifier"}


def test_terms_by_hand():
    # One place at (8, 8) that says: 1 stride of 8 to each side, so box 0, 0, 16, 16, half of the truth below it.
    code = torch.full((1, 1, 4, 8), 0.0)
    code[..., 1] = 50.0
    priors = Priors(torch.tensor([[8.0, 8]]), torch.tensor([[8.0]]))
    raw = HeadOutputs(torch.tensor([[[0.0, 0.0]]]), code.flatten(2), None, priors)
    targets = pad_targets([torch.tensor([[0.0, 0, 16, 32]]).numpy()], [torch.tensor([0]).numpy()])
    terms = nanodet_plus_terms({"": raw}, targets, reg_max=7)
    # IoU = GIoU = 0.5. Class 0 says 0.5 and is right; class 1 should say 0.
    assert terms["class"].item() == pytest.approx(math.log(2) / 4)
    # Weight 0.5 (the best class score), divisor max(0.5, 1).
    assert terms["box"].item() == pytest.approx(2 * (1 - 0.5) * 0.5)
    # Three sides are certain and right; the bottom is 3 strides away, where it puts e^-50.
    assert terms["distribution"].item() == pytest.approx(0.25 * 50 / 4 * 0.5)


def test_distance_targets_by_hand():
    priors = Priors(torch.tensor([[8.0, 16], [8, 16]]), torch.tensor([[8.0], [16]]))
    boxes = torch.tensor([[0.0, 20, 100, 32], [0, 0, 16, 32]])
    expected = torch.tensor([[1, 0, 6.9, 2], [0.5, 1, 0.5, 1]])
    torch.testing.assert_close(distance_targets(priors, boxes, reg_max=7), expected)


def test_auxiliary_neck_starts_as_a_copy_of_its_own():
    detector, criterion = _setup()
    own, copied = dict(detector.neck.named_parameters()), dict(criterion.auxiliary_neck.named_parameters())
    assert own.keys() == copied.keys()
    for name in own:
        assert torch.equal(own[name], copied[name])
        assert own[name] is not copied[name]


@pytest.mark.parametrize(
    ("auxiliary", "epoch", "names"),
    [
        ("drop", 0, MAIN | AUXILIARY),
        ("drop", 9, MAIN | AUXILIARY),
        ("drop", 10, MAIN),
        ("keep", 9, MAIN | AUXILIARY),
        ("keep", 10, MAIN | AUXILIARY),
    ],
)
@pytest.mark.parametrize("targets", [TARGETS, EMPTY], ids=["boxes", "no boxes"])
def test_what_learns_when(auxiliary, epoch, names, targets):
    detector, criterion = _setup(auxiliary)
    terms = criterion(detector.forward_outputs(_images()), targets, at(epoch))
    assert set(terms) == names
    assert all(term.shape == () and term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    _total(terms).backward()
    assert all(gradient is not None for gradient in _gradients(detector).values())
    runs = names > MAIN
    assert all((gradient is not None) == runs for gradient in _gradients(criterion).values())
    boxes = [term.item() for name, term in terms.items() if not name.endswith("class")]
    assert all((box > 0) == (targets is TARGETS) for box in boxes)


def test_dropping_is_assigning_for_itself():
    detector, criterion = _setup("drop", detach_epoch=0)
    trace = detector.forward_outputs(_images())
    expected = nanodet_plus_terms({"": trace.raw}, TARGETS, reg_max=7)
    terms = criterion(trace, TARGETS, at(0))
    assert {name: term.item() for name, term in terms.items()} == {name: term.item() for name, term in expected.items()}


def test_detached_branch_teaches_the_detector_nothing():
    gradients = []
    for names in (MAIN, MAIN | AUXILIARY):
        detector, criterion = _setup("keep", detach_epoch=3)
        terms = criterion(detector.forward_outputs(_images()), TARGETS, at(3))
        _total({name: terms[name] for name in names}).backward()
        gradients.append(_gradients(detector))
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_losses_are_float32_under_autocast():
    detector, criterion = _setup()
    trace = detector.forward_outputs(_images())
    full = criterion(trace, TARGETS, at(0))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = criterion(trace, TARGETS, at(0))
        half = trace._replace(
            raw=HeadOutputs(trace.raw.logits.bfloat16(), trace.raw.box_code.bfloat16(), None, trace.raw.priors)
        )
        rounded = criterion(half, TARGETS, at(0))
    for name in MAIN | AUXILIARY:
        assert mixed[name].dtype == rounded[name].dtype == torch.float32
        assert mixed[name].item() == pytest.approx(full[name].item(), rel=0.05)
        assert rounded[name].item() == pytest.approx(full[name].item(), rel=0.05)


def test_labels_and_boxes_of_padding_do_not_matter():
    detector, criterion = _setup()
    trace = detector.forward_outputs(_images())
    padded = Targets(
        torch.cat([TARGETS.boxes, torch.full((2, 3, 4), torch.nan)], 1),
        torch.cat([TARGETS.labels, torch.full((2, 3), 2)], 1),
        torch.cat([TARGETS.mask, torch.zeros(2, 3, dtype=torch.bool)], 1),
    )
    terms, same = criterion(trace, TARGETS, at(0)), criterion(trace, padded, at(0))
    assert {name: term.item() for name, term in terms.items()} == {name: term.item() for name, term in same.items()}


@pytest.mark.parametrize("broken", [math.nan, math.inf])
@pytest.mark.parametrize("targets", [TARGETS, EMPTY], ids=["boxes", "no boxes"])
def test_a_broken_network_is_seen_in_the_loss(broken, targets):
    """The loop stops on a loss that is not finite; the criterion must neither fail before nor hide it."""
    detector, criterion = _setup()
    trace = detector.forward_outputs(_images())
    logits, code = torch.full_like(trace.raw.logits, broken), torch.full_like(trace.raw.box_code, broken)
    terms = criterion(trace._replace(raw=HeadOutputs(logits, code, None, trace.raw.priors)), targets, at(10))
    assert not _total(terms).isfinite()


def test_free_predictions_learn_the_truth():
    """Without a network in between, descent on the terms ends with a good box of the right class for each."""
    priors = make_priors((SIZE, SIZE), (8, 16, 32), offset=0.0)
    P = len(priors.points)
    logits, code = torch.full((2, P, 3), -2.0).requires_grad_(), torch.zeros(2, P, 32).requires_grad_()
    optimiser = torch.optim.Adam([logits, code], lr=0.1)
    raw = HeadOutputs(logits, code, None, priors)
    for _ in range(150):
        optimiser.zero_grad()
        _total(nanodet_plus_terms({"": raw}, TARGETS, reg_max=7)).backward()
        optimiser.step()
    boxes, scores = boxes_at(priors, expected_distances(code.detach())), logits.detach().sigmoid()
    assert scores[1].max() < 0.1
    for truth, label in zip(TARGETS.boxes[0], TARGETS.labels[0], strict=True):
        best = scores[0, :, label].argmax()
        assert scores[0, best, label] > 0.8
        assert scores[0, best].argmax() == label
        assert losses.iou(boxes[0, best], truth) > 0.9
