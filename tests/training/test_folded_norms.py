"""Norms folded into convolutions for training: the same function, the same names, the gradients of fixed norms."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from falconet.core.errors import ConfigError
from falconet.models import PRESETS, build
from falconet.models.layers import ConvNormAct
from falconet.models.weights import load_weights
from falconet.training import fit, resume
from falconet.training.depthwise import use_fast_depthwise
from falconet.training.folded_norms import fold_norms
from falconet.training.initial import StartingPoint
from falconet.training.loggers import NullCallback
from falconet.training.progress import Progress
from tests.training.tiny import assert_same_weights, draw, tiny_run


def _used(module: nn.Module) -> nn.Module:
    """`module` with norms as after some training."""
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.1, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(part.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, std=0.1, generator=generator)
    return module


@pytest.mark.parametrize("preset", ["nanodet-plus-m-320", "ppyoloe-s", "yolov3-lite-mobilenet-v2"])
def test_the_function_stays_the_same(preset: str) -> None:
    torch.manual_seed(0)
    network = _used(build(PRESETS[preset], 3)).double().eval()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    names = list(network.state_dict())
    with torch.no_grad():
        before = network(images)
        assert fold_norms(network) > 20
        after = network(images)
    assert list(network.state_dict()) == names
    torch.testing.assert_close(after.logits, before.logits)
    torch.testing.assert_close(after.box_code, before.box_code)
    assert fold_norms(network) == 0


@pytest.mark.parametrize(("depthwise", "stride"), [(False, 1), (False, 2), (True, 1), (True, 2)])
def test_gradients_are_those_of_fixed_norms(depthwise: bool, stride: int) -> None:
    def block() -> nn.Sequential:
        torch.manual_seed(1)
        made = ConvNormAct(8, 8, 3, stride=stride, depthwise=depthwise, activation="leaky-relu")
        return _used(nn.Sequential(made)).double()

    fixed, folded = block().eval(), block()
    scale = (fixed[0].norm.weight / (fixed[0].norm.running_var + fixed[0].norm.eps).sqrt()).detach()
    fold_norms(folded)
    use_fast_depthwise(folded)
    folded.train()
    first = torch.randn(2, 8, 9, 11, dtype=torch.float64, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    for module, images in ((fixed, first), (folded, second)):
        module(images).square().sum().backward()
    torch.testing.assert_close(second.grad, first.grad)
    torch.testing.assert_close(folded[0].norm.bias.grad, fixed[0].norm.bias.grad)
    torch.testing.assert_close(folded[0].conv.weight.grad * scale[:, None, None, None], fixed[0].conv.weight.grad)
    assert folded[0].norm.weight.grad is None


@pytest.mark.parametrize("norms", ["batch", "folded"])
def test_a_frozen_backbone_keeps_what_it_computes(tmp_path: Path, norms: str) -> None:
    data = draw(tmp_path / "drawn")
    with pytest.raises(ConfigError, match=r"train\.freeze=backbone: there are no weights to keep"):
        fit(tiny_run(data, tmp_path / "none", "train.freeze=backbone"))
    first = fit(tiny_run(data, tmp_path / "first"))
    options = (f"train.weights={first}", "train.freeze=backbone", f"train.norms={norms}")
    second = fit(tiny_run(data, tmp_path / "second", *options))
    files = first / "best.safetensors", second / "last.safetensors"
    before, after = (load_weights(file)[0].double().eval() for file in files)
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        for one, other in zip(before.backbone(images), after.backbone(images), strict=True):
            torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)
        assert not torch.allclose(before(images).logits, after(images).logits, rtol=1e-5)


class Backbones(NullCallback):
    """Keeps the backbone of each epoch's weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: list[list[torch.Tensor]] = []

    def epoch(self, metrics: dict[str, Any], progress: Progress) -> None:  # noqa: ARG002
        backbone = load_weights(self.folder / "last.safetensors")[0].backbone
        self.kept.append([value.clone() for value in backbone.state_dict().values() if value.is_floating_point()])


@pytest.mark.parametrize("norms", ["batch", "folded"])
def test_the_backbone_learns_after_its_share_of_the_run(tmp_path: Path, norms: str) -> None:
    data = draw(tmp_path / "drawn")
    first = fit(tiny_run(data, tmp_path / "first"))
    words = (f"train.weights={first}", f"train.norms={norms}", "train.epochs=4", "train.average_decay=0")
    seen = Backbones(tmp_path / "second")
    fit(tiny_run(data, seen.folder, *words, "train.freeze=backbone", "train.freeze_share=0.5"), callback=seen)
    same = [all(map(torch.equal, one, other)) for one, other in pairwise(seen.kept)]
    assert same == [True, False, False]


def test_a_trained_network_starts_with_a_frozen_backbone(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    first = fit(tiny_run(data, tmp_path / "first", "train.epochs=1"))
    assert "freeze: none" in (first / "run.yaml").read_text()
    second = fit(tiny_run(data, tmp_path / "second", f"train.weights={first}", "train.epochs=1"))
    told = (second / "run.yaml").read_text()
    assert "freeze: backbone" in told
    assert "freeze_share: 0.7" in told
    assert "backbone: keeps its weights in the first 70% of the run" in (second / "train.log").read_text()
    # It has not learnt before what shows other objects.
    run = tiny_run(data, tmp_path / "third", f"train.weights={first}")
    start = StartingPoint(run.model, first)
    known = start.classes[0]
    frozen = [start.settle(run, names).train.freeze for names in [(known, "cat"), (known, "cat", "dog")]]
    assert frozen == ["backbone", "none"]


class Interrupted(NullCallback):
    """Ctrl-C in the middle of the second epoch."""

    def step(self, progress: Progress, *, step: int, loss: float) -> None:  # noqa: ARG002
        if progress.epoch == 1 and step == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("freeze", "share"),
    [
        ("backbone", 0.7),
        *(pytest.param(*one, marks=pytest.mark.slow) for one in (("none", 1), ("backbone", 1), ("backbone", 0.2))),
    ],
)
def test_an_interrupted_run_with_folded_norms_resumes_exactly(tmp_path: Path, freeze: str, share: float) -> None:
    data = draw(tmp_path / "drawn")
    first = fit(tiny_run(data, tmp_path / "first"))
    words = (f"train.weights={first}", "train.epochs=3", "train.accumulate=2")
    words = (*words, f"train.freeze={freeze}", f"train.freeze_share={share}")
    whole = fit(tiny_run(data, tmp_path / "whole", *words))
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_run(data, tmp_path / "halted", *words), callback=Interrupted())
    assert "norms: folded" in (tmp_path / "halted" / "run.yaml").read_text()
    resume(tmp_path / "halted")
    assert_same_weights(tmp_path / "halted" / "last.safetensors", whole / "last.safetensors")


def test_an_interrupted_run_of_sgd_resumes_exactly(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    words = ("train.optimizer=sgd", "train.learning_rate=0.01", "train.epochs=3", "train.norms=batch")
    whole = fit(tiny_run(data, tmp_path / "whole", *words))
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_run(data, tmp_path / "halted", *words), callback=Interrupted())
    resume(tmp_path / "halted")
    assert_same_weights(tmp_path / "halted" / "last.safetensors", whole / "last.safetensors")


@pytest.mark.slow
def test_weights_with_folded_norms_are_tuned_again(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    first = fit(tiny_run(data, tmp_path / "first"))
    run = tiny_run(data, tmp_path / "second", "train.norms=folded", f"train.weights={first}")
    second = fit(run)
    network, _ = load_weights(second / "last.safetensors")
    assert all(not part.running_mean.any() for part in network.modules() if isinstance(part, nn.BatchNorm2d))
    assert "batch norms: " in (second / "train.log").read_text()
    fit(tiny_run(data, tmp_path / "third", f"train.weights={second}", "train.norms=batch"))
    assert "batch norms" in (tmp_path / "third" / "train.log").read_text(), "they are measured again"
