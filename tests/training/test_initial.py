"""What a run takes over from the weights that it starts from."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from falconet.core.errors import ModelError
from falconet.models import Detector, build
from falconet.models.deployable import Normalize
from falconet.models.norms import unmeasured
from falconet.models.ppyoloe import PLUS_INPUT, CSPPANConfig, PPYOLOEConfig
from falconet.models.weights import ModelCard, load_weights, save_weights
from falconet.training import RunConfig
from falconet.training.initial import StartingPoint
from tests.training.tiny import tiny_run

NAMES = ("square", "disc")


def run_of(folder: Path, *overrides: str) -> RunConfig:
    return tiny_run(folder, folder / "run", *overrides)


def write(folder: Path, *overrides: str) -> Path:
    """Weights of a tiny network that nobody trained."""
    model = run_of(folder, *overrides).model
    torch.manual_seed(7)
    path = folder / "known.safetensors"
    save_weights(path, build(model, len(NAMES)), ModelCard(model=model, classes=NAMES))
    return path


def given(folder: Path, weights: Path, *overrides: str) -> tuple[StartingPoint, Detector, Detector, Sequence[str]]:
    """A network before and after it was given weights, and what was said."""
    run = run_of(folder, *overrides)
    start = StartingPoint(run.model, weights)
    networks = []
    for _ in range(2):
        torch.manual_seed(1)
        network = build(run.model, len(NAMES))
        assert isinstance(network, Detector)
        networks.append(network)
    images = [torch.rand(2, 3, 64, 64)]
    said = start.give(start.settle(run, NAMES), NAMES, networks[1], images)
    return start, networks[0], networks[1], [line.short for line in said]


@pytest.mark.parametrize("change", ["neck.channels=24", "neck.blocks=2", "neck.kernel_size=5", "head.kernel_size=5"])
def test_another_neck_or_head_starts_with_the_backbone_alone(tmp_path: Path, change: str) -> None:
    overrides = [f"model.{change}"]
    if change == "neck.channels=24":
        overrides.append("model.head.channels=24")
    start, fresh, network, said = given(tmp_path, write(tmp_path), *overrides)
    assert start.trains_backbone
    assert not start.tunes
    assert any("neck and head start anew" in line for line in said)
    known = StartingPoint(run_of(tmp_path).model, tmp_path / "known.safetensors")._trained
    assert known is not None
    for name, value in network.state_dict().items():
        if name.startswith("backbone."):
            assert torch.equal(value, known[0].state_dict()[name]), name
        else:
            assert torch.equal(value, fresh.state_dict()[name]), name


def test_a_narrower_neck_is_filled(tmp_path: Path) -> None:
    start, _, _, said = given(tmp_path, write(tmp_path), "model.neck.channels=8", "model.head.channels=8")
    assert start.tunes
    assert start.is_wider(run_of(tmp_path, "model.neck.channels=8", "model.head.channels=8").model)
    assert any(line.startswith("pruned: ") for line in said)


def test_the_backbone_of_a_detector_of_another_kind(tmp_path: Path) -> None:
    backbone = "model.backbone={name: cspresnet, width: 0.125, depth: 0.33, alpha: true}"
    model = tiny_run(tmp_path, tmp_path / "run", backbone).model
    other = PPYOLOEConfig(input=PLUS_INPUT, backbone=model.backbone, neck=CSPPANConfig(channels=16))
    save_weights(tmp_path / "other.safetensors", build(other, 2), ModelCard(model=other, classes=NAMES))
    start, _, network, said = given(tmp_path, tmp_path / "other.safetensors", backbone)
    assert start.trains_backbone
    assert any("the first convolution was changed to see the model's own normalisation" in line for line in said)
    source, _ = load_weights(tmp_path / "other.safetensors")
    pixels = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        own = network.eval().backbone(Normalize(model.input)(pixels))
        its = source.eval().backbone(Normalize(PLUS_INPUT)(pixels))
    inner = (slice(None), slice(None), slice(4, 8), slice(4, 8))  # away from the border, which both pad with zeros
    assert torch.allclose(own[0][inner], its[0][inner], atol=1e-3)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    weights = write(tmp_path)
    with pytest.raises(ModelError, match=r"these are the weights of another network: .* expected weights of this one"):
        given(tmp_path, weights, "model.backbone.width=1.0", "model.neck.blocks=2")


def test_norms_of_fresh_parts_stay_as_they_are(tmp_path: Path) -> None:
    """Those of a backbone whose norms were folded away are measured; a fresh neck has none to make up for."""
    from falconet.training import fit
    from tests.training.tiny import draw

    data = draw(tmp_path / "drawn", train=4, val=2)
    weights = write(tmp_path)
    run = tiny_run(data, tmp_path / "run", f"train.weights={weights}", "model.neck.blocks=2", "train.epochs=1")
    trained, card = load_weights(fit(run) / "best.safetensors")
    assert not unmeasured(trained)
    assert card.model.neck.blocks == 2
    log = (tmp_path / "run" / "train.log").read_text(encoding="utf-8")
    assert "backbone: " in log
    assert "batch norms were folded away in these weights; measured anew" in log
