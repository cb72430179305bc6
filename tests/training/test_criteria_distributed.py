"""The criterion in two processes, one of which sees no boxes."""

from pathlib import Path

import torch
from torch import distributed, multiprocessing, nn

from falconet.models import PRESETS
from falconet.models.priors import make_priors
from falconet.models.types import HeadOutputs
from falconet.training.batch import Targets, pad_targets
from falconet.training.criteria.nanodet_plus import nanodet_plus_terms
from tests.training.criterion import at, make_criterion

PRIORS = make_priors((64, 64), (8, 16, 32, 64), offset=0.0)


def _targets(rank: int) -> Targets:
    """Boxes for the first process only."""
    boxes = torch.tensor([[2.0, 2, 60, 62], [4, 4, 30, 30], [30, 20, 62, 62]]).numpy()[: 3 * (1 - rank)]
    return pad_targets([boxes], [torch.arange(len(boxes)).numpy()])


def _predictions(rank: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(rank)
    # Good boxes and sure classes: more than one match per process and sums of weights above 1.
    code = torch.linspace(-2, 2, 8).repeat(1, len(PRIORS.points), 4)
    logits = 2 * torch.randn(1, len(PRIORS.points), 3, generator=generator) + 2
    return torch.cat([logits, code], -1)


def _terms(predictions: torch.Tensor, targets: Targets) -> dict[str, torch.Tensor]:
    logits, code = predictions.split((3, 32), -1)
    return nanodet_plus_terms({"": HeadOutputs(logits, code, None, PRIORS)}, targets, reg_max=7)


class _Training(nn.Module):
    """Detector and criterion as one module, as a distributed run wraps them."""

    def __init__(self) -> None:
        super().__init__()
        config = PRESETS["nanodet-plus-demo"]
        torch.manual_seed(0)
        self.detector = config.build(3)
        self.criterion = make_criterion(config, self.detector, num_classes=3, auxiliary="drop", detach_epoch=1)

    def forward(self, images: torch.Tensor, targets: Targets, epoch: int) -> torch.Tensor:
        return torch.stack(
            list(self.criterion(self.detector.forward_outputs(images), targets, at(epoch)).values())
        ).sum()


def _work(rank: int, folder: str) -> None:
    """One of the two processes; leaves what it found in `folder`."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    predictions = _predictions(rank).requires_grad_()
    terms = _terms(predictions, _targets(rank))
    torch.stack(list(terms.values())).sum().backward()
    result = {"gradient": predictions.grad, "terms": {name: term.detach() for name, term in terms.items()}}

    training = nn.parallel.DistributedDataParallel(_Training(), find_unused_parameters=True)
    optimiser = torch.optim.SGD(training.parameters(), lr=0.01)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(rank))
    targets = Targets(*(torch.cat([value, value]) for value in _targets(rank)[:3]))
    for epoch in (0, 0, 1, 1):
        optimiser.zero_grad()
        training(images, targets, epoch).backward()
        optimiser.step()
    result["weights"] = {name: value.detach() for name, value in training.module.named_parameters()}
    torch.save(result, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_learn_like_one(tmp_path: Path) -> None:
    multiprocessing.spawn(_work, args=(str(tmp_path),), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]

    together = torch.cat([_predictions(0), _predictions(1)]).requires_grad_()
    boxes = [_targets(rank).boxes[0].numpy() for rank in (0, 1)]
    labels = [_targets(rank).labels[0].numpy() for rank in (0, 1)]
    terms = _terms(together, pad_targets(boxes, labels))
    torch.stack(list(terms.values())).sum().backward()
    # A distributed run averages the gradients, and so the terms, of its processes.
    for name, term in terms.items():
        mean = (results[0]["terms"][name] + results[1]["terms"][name]) / 2
        torch.testing.assert_close(mean, term.detach())
    assert results[1]["terms"]["box"] == 0
    gradients = torch.cat([result["gradient"] for result in results]) / 2
    torch.testing.assert_close(gradients, together.grad)

    # Wrapped, with the branch and after it was dropped, both end with the same weights.
    for name, value in results[0]["weights"].items():
        assert value.isfinite().all()
        assert torch.equal(value, results[1]["weights"][name]), name
