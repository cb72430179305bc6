"""PP-YOLOE's criterion: which assigner when, gradients, batches without boxes, half precision, learning."""

import numpy as np
import pytest
import torch

from falconet.core.errors import ConfigError
from falconet.models import build
from falconet.models.backbones import CSPResNetConfig
from falconet.models.ppyoloe import CSPPANConfig, PPYOLOEConfig, PPYOLOEHeadConfig
from falconet.training.batch import pad_targets
from falconet.training.criteria.auxiliary import guide
from falconet.training.criteria.ppyoloe import match_by_alignment, match_by_geometry, ppyoloe_terms
from falconet.training.progress import Progress
from falconet.training.recipes import read_run
from tests.training.criterion import at, make_criterion

SIZE = 64
TARGETS = pad_targets(
    [np.array([[4, 4, 40, 44], [20, 20, 60, 60]]), np.zeros((0, 4)), np.array([[30, 2, 50, 20]])],
    [np.array([0, 2]), np.zeros(0), np.array([1])],
)
EMPTY = pad_targets([np.zeros((0, 4))] * 3, [np.zeros(0)] * 3)


def _setup(*, static_epochs=2, class_loss="varifocal"):
    torch.manual_seed(0)
    config = PPYOLOEConfig(
        backbone=CSPResNetConfig(width=0.125, alpha=True),
        neck=CSPPANConfig(channels=16),
        head=PPYOLOEHeadConfig(),
    )
    detector = build(config, 3)
    for output in (*detector.head.class_predictions, *detector.head.box_predictions):
        torch.nn.init.normal_(output.weight, std=0.1)
    criterion = make_criterion(config, detector, num_classes=3, static_share=static_epochs / 100, class_loss=class_loss)
    images = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return detector, criterion, images


@pytest.mark.parametrize("class_loss", ["varifocal", "focal"])
@pytest.mark.parametrize("epoch", [0, 1, 2, 9])
def test_which_assigner_when(epoch, class_loss):
    detector, criterion, images = _setup(class_loss=class_loss)
    trace = detector.forward_outputs(images)
    terms = criterion(trace, TARGETS, at(epoch))
    if epoch < 2:
        matches = match_by_geometry(trace.raw, TARGETS, strides=(8, 16, 32))
    else:
        matches = match_by_alignment(trace.raw, TARGETS)
    assert len(matches.rows)
    alpha = 0.25 if epoch < 2 else None
    expected = ppyoloe_terms(trace.raw, matches, reg_max=16, class_loss=class_loss, focal_alpha=alpha)
    for name, value in expected.items():
        assert terms[name] == value
    other = ppyoloe_terms(trace.raw, matches, reg_max=16, class_loss=class_loss, focal_alpha=0.9)
    assert (other["class"] == terms["class"]) == (class_loss == "varifocal")


@pytest.mark.parametrize("epoch", [0, 5])
@pytest.mark.parametrize("targets", [TARGETS, EMPTY], ids=["boxes", "no boxes"])
def test_every_parameter_gets_a_finite_gradient(targets, epoch):
    detector, criterion, images = _setup()
    terms = criterion(detector.forward_outputs(images), targets, at(epoch))
    assert set(terms) == {"class", "box", "distribution"}
    assert all(term.shape == () and term.dtype == torch.float32 and term.isfinite() for term in terms.values())
    torch.stack(list(terms.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    if targets is EMPTY:
        assert (terms["box"], terms["distribution"]) == (0, 0)
        assert terms["class"] > 0


def _tiny(auxiliary="keep", **settings):
    """Size t with few channels: a detector, its criterion with an auxiliary branch, images."""
    torch.manual_seed(0)
    config = PPYOLOEConfig(
        backbone=CSPResNetConfig(width=0.125, alpha=True),
        neck=CSPPANConfig(channels=16, growth=1),
        head=PPYOLOEHeadConfig(branch="repvgg"),
    )
    detector = build(config, 3)
    criterion = make_criterion(
        config, detector, num_classes=3, auxiliary=auxiliary, guided_share=0.05, static_share=0.02, **settings
    )
    return detector, criterion, torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def test_the_auxiliary_branch_assigns_for_both():
    detector, criterion, images = _tiny(close_places=True)
    outputs = detector.forward_outputs(images)
    branch = guide(criterion.auxiliary_neck, criterion.auxiliary_head, outputs)
    assert branch.logits.shape == outputs.raw.logits.shape
    assert branch.box_code.shape == outputs.raw.box_code.shape
    for epoch in (0, 9):
        if epoch == 0:
            matches = match_by_geometry(outputs.raw, TARGETS, strides=(8, 16, 32))
        else:
            matches = match_by_alignment(branch, TARGETS, close_places=True)
        alpha = 0.25 if epoch == 0 else None
        terms = criterion(outputs, TARGETS, at(epoch))
        for prefix, raw in (("", outputs.raw), ("auxiliary_", branch)):
            for name, value in ppyoloe_terms(raw, matches, reg_max=16, focal_alpha=alpha).items():
                assert terms[prefix + name] == value


@pytest.mark.parametrize(
    ("auxiliary", "epoch", "learns", "taught"),
    [("keep", 0, True, True), ("keep", 9, True, False), ("drop", 0, True, True), ("drop", 9, False, False)],
)
def test_how_long_the_auxiliary_branch_teaches(auxiliary, epoch, learns, taught):
    """What of its loss reaches its own weights and those of the backbone."""
    detector, criterion, images = _tiny(auxiliary)
    terms = criterion(detector.forward_outputs(images), TARGETS, at(epoch))
    own = [term for name, term in terms.items() if name.startswith("auxiliary_")]
    assert len(own) == (3 if learns else 0)
    if learns:
        torch.stack(own).sum().backward()
    assert all((p.grad is not None) == learns for p in criterion.parameters())
    assert any(p.grad is not None for p in detector.backbone.parameters()) == taught


def test_an_auxiliary_branch_needs_equal_levels():
    config = PPYOLOEConfig(backbone=CSPResNetConfig(width=0.125), neck=CSPPANConfig(channels=16))
    with pytest.raises(ConfigError, match=r"criterion.auxiliary=keep: needs .*, model.neck.growth=1"):
        make_criterion(config, build(config, 3), num_classes=3, auxiliary="keep")


@pytest.mark.parametrize("epoch", [0, 5])
def test_half_precision_gives_float32_terms(epoch):
    detector, criterion, images = _setup()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = criterion(detector.forward_outputs(images), TARGETS, at(epoch))
    assert all(term.dtype == torch.float32 and term.isfinite() for term in terms.values())


@pytest.mark.parametrize("epoch", [0, 5])
def test_the_loss_falls(epoch):
    detector, criterion, images = _setup()
    optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
    totals = []
    for _ in range(25):
        terms = criterion(detector.forward_outputs(images), TARGETS, at(epoch))
        total = torch.stack(list(terms.values())).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]


def test_what_it_says_of_itself():
    _, criterion, _ = _setup(static_epochs=0)
    assert criterion.extra_repr() == "the predictions' alignment assigns; varifocal loss"
    _, criterion, _ = _setup(static_epochs=30, class_loss="focal")
    assert criterion.extra_repr().startswith("ATSS assigns in the first 30.0% of the run (criterion.static_share)")
    assert criterion.extra_repr().endswith("; focal loss")


def test_the_share_of_static_epochs_scales_with_the_run():
    def static(share, epochs):
        return sum(at(epoch, epochs).within(share) for epoch in range(epochs))

    assert static(0.333, 300) == 100  # as published for PP-YOLOE
    assert static(0.375, 80) == 30  # and for PP-YOLOE+
    assert static(0, 50) == 0
    assert static(1, 50) == 50
    assert [Progress(7, None, fraction).within(0.3) for fraction in (0, 0.29, 0.3, 1)] == [True, True, False, False]
    for preset, epochs, first in (("ppyoloe-s", 300, 100), ("ppyoloe-plus-s", 80, 30)):
        run = read_run(preset, ["data.train=x.json"])
        assert (run.train.epochs, run.train.reference_batch) == (epochs, 64)
        assert static(run.criterion.static_share, epochs) == first
