"""The assign-guidance branch and whole training steps against the original's (`../shared/golden`)."""

from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from falconet.models import PRESETS
from falconet.models.detector import Detector
from falconet.training.batch import pad_targets
from falconet.zoo.nanodet.keys import convert, convert_key
from tests.golden.case import Case
from tests.training.criterion import at, make_criterion

PRESET_OF = {
    "nanodet_plus_m_320": "nanodet-plus-m-320",
    "nanodet_plus_m_416": "nanodet-plus-m-416",
    "nanodet_plus_m_1p5x_320": "nanodet-plus-m-1.5x-320",
    "nanodet_train_step_s1": "nanodet-plus-m-320",
}
TERMS = {
    "loss_qfl": "class",
    "loss_bbox": "box",
    "loss_dfl": "distribution",
    "aux_loss_qfl": "auxiliary_class",
    "aux_loss_bbox": "auxiliary_box",
    "aux_loss_dfl": "auxiliary_distribution",
}


def _loaded(case: Case) -> tuple[Detector, nn.Module]:
    """Detector and criterion ("keep", as the original) with the weights of the case."""
    config = PRESETS[PRESET_OF[case.meta["case"]]]
    detector = config.build(80)
    criterion = make_criterion(config, detector, num_classes=80, auxiliary="keep", detach_epoch=10)
    state = convert({name: torch.from_numpy(value) for name, value in case.weights().items()})
    # `strict` on both: every parameter comes from the case, and every weight of the case has a place.
    detector.load_state_dict(state.detector)
    criterion.load_state_dict(state.auxiliary)
    assert not state.unused
    return detector, criterion


@pytest.mark.parametrize("name", ["nanodet_plus_m_320", "nanodet_plus_m_416", "nanodet_plus_m_1p5x_320"])
def test_auxiliary_outputs(name: str) -> None:
    case = Case(name)
    detector, criterion = _loaded(case)
    detector.eval()
    criterion.eval()
    parameters = [*detector.parameters(), *criterion.parameters()]
    # The original counts the constant 0..7 of its distribution projection as a buffer, not as a parameter.
    assert sum(parameter.numel() for parameter in parameters) == case.meta["params_with_aux"]
    for source in case.meta["inputs"]:
        with torch.no_grad():
            trace = detector.forward_outputs(torch.from_numpy(case.input(source)))
            raw = criterion.guide(trace)
            levels = criterion.auxiliary_neck(trace.backbone)
        case.check(f"{source}/aux_head", torch.cat((raw.logits, raw.box_code), -1))
        outputs = {n for n in case.meta["outputs"] if n.startswith(f"{source}/aux_fpn.")}
        assert outputs == {f"{source}/aux_fpn.{index}" for index in range(len(levels))}
        for index, level in enumerate(levels):
            case.check(f"{source}/aux_fpn.{index}", level)


@lru_cache(maxsize=2)
def _step(epoch: int) -> dict[str, Tensor | np.ndarray]:
    """Outputs of one training step in the original's names."""
    case = Case("nanodet_train_step_s1")
    detector, criterion = _loaded(case)
    detector.train()
    criterion.train()
    truths = Case("nanodet_assigner_s1").arrays
    kinds = ("zero", "one", "crowd")
    targets = pad_targets(
        [truths[f"gt/{kind}/boxes"] for kind in kinds], [truths[f"gt/{kind}/labels"] for kind in kinds]
    )
    trace = detector.forward_outputs(torch.from_numpy(case.input("img")))
    terms = criterion(trace, targets, at(epoch))
    loss = torch.stack(list(terms.values())).sum()
    loss.backward()

    parameters = dict(detector.named_parameters()) | dict(criterion.named_parameters())
    state = detector.state_dict() | criterion.state_dict()
    gradients = {}
    for key in case.meta["param_names"]:
        parameter = parameters.pop(convert_key(key))
        gradients[key] = torch.zeros(()) if parameter.grad is None else parameter.grad
    assert not parameters, "parameters that the original does not have"
    outputs = {"head_out": torch.cat((trace.raw.logits, trace.raw.box_code), -1).detach()}
    outputs["loss"] = loss.detach()
    outputs |= {theirs: terms[ours].detach() for theirs, ours in TERMS.items()}
    outputs["grad_norms"] = np.array([gradient.norm() for gradient in gradients.values()], np.float32)
    outputs |= {f"grad/{key}": gradient for key, gradient in gradients.items()}
    outputs |= {
        f"state_after/{key}": state[convert_key(key)].detach() for key, _ in case.meta["state"] if convert_key(key)
    }
    return outputs


@pytest.mark.parametrize("epoch", [0, 10])
def test_training_step(epoch: int) -> None:
    case = Case("nanodet_train_step_s1")
    outputs = _step(epoch)
    names = [name for name in case.meta["outputs"] if name.startswith(f"epoch{epoch}/")]
    assert len(names) == 16
    for name in names:
        case.check(name, outputs[name.removeprefix(f"epoch{epoch}/")])


def test_training_forward() -> None:
    case = Case("nanodet_train_step_s1")
    outputs = _step(0)
    names = [name for name in case.meta["outputs"] if not name.startswith("epoch")]
    assert len(names) == 7
    for name in names:
        case.check(name, outputs[name])


def test_detaching_spares_backbone_and_neck_the_branch_and_nothing_else() -> None:
    before, after = _step(0), _step(10)
    changed = {
        name.split(".")[0].removeprefix("grad/")
        for name in before
        if name.startswith("grad/") and not torch.equal(before[name], after[name])
    }
    assert changed == {"backbone", "fpn"}
