"""Optimiser groups, learning rate, moving average: by hand."""

import math

import pytest
import torch
from torch import nn

from falconet.training.optim import Schedule, WeightAverage, build_optimizer, parameter_groups, set_rate


def test_only_matrices_decay() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    decayed, plain = parameter_groups(module, weight_decay=0.05)
    assert [p.ndim for p in decayed["params"]] == [4]
    assert decayed["weight_decay"] == 0.05
    assert len(plain["params"]) == 5
    assert plain["weight_decay"] == 0


def test_a_parameter_without_gradient_is_not_touched() -> None:
    used, unused = nn.Linear(2, 2), nn.Linear(2, 2)
    module = nn.ModuleList([used, unused])
    before = [p.detach().clone() for p in module.parameters()]
    optimizer = build_optimizer(module, weight_decay=0.5)
    optimizer.param_groups[0]["lr"] = optimizer.param_groups[1]["lr"] = 0.1
    used(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    after = list(module.parameters())
    assert not torch.equal(before[0], after[0])
    assert torch.equal(before[2], after[2])
    assert torch.equal(before[3], after[3])


def test_schedule_by_hand() -> None:
    schedule = Schedule(peak=1.0, warmup_steps=4, total_steps=15, floor=0.1)
    assert [schedule.rate(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert schedule.rate(9) == pytest.approx(0.1 + 0.9 / 2)
    assert schedule.rate(14) == pytest.approx(0.1)
    assert schedule.rate(100) == pytest.approx(0.1)
    assert all(schedule.rate(s) >= schedule.rate(s + 1) for s in range(4, 20))


@pytest.mark.parametrize("total", [1, 2])
def test_a_schedule_of_almost_no_steps(total: int) -> None:
    schedule = Schedule(peak=1.0, warmup_steps=0, total_steps=total, floor=0.1)
    assert schedule.rate(0) == pytest.approx(1.0)
    assert math.isfinite(schedule.rate(total))


def test_the_average_is_exponential_and_takes_buffers() -> None:
    module = nn.BatchNorm1d(1)
    average = WeightAverage(module, decay=0.5)
    with torch.no_grad():
        module.weight.fill_(3.0)
        module.running_mean.fill_(2.0)
        module.num_batches_tracked.fill_(7)
    decay = average.decay_at(1000, 100_000)
    assert decay == 0.5
    average.update(module, step=1000, total_steps=100_000)
    assert average.module.weight.item() == pytest.approx(0.5 * 1 + 0.5 * 3)
    assert average.module.running_mean.item() == pytest.approx(1.0)
    assert average.module.num_batches_tracked.item() == 7
    assert not average.module.training
    assert module.training


def test_the_average_reaches_less_far_at_first_and_in_short_runs() -> None:
    average = WeightAverage(nn.Linear(1, 1), decay=0.9998)
    assert average.decay_at(0, 100_000) == pytest.approx(0.1)
    assert average.decay_at(890, 100_000) == pytest.approx(0.99)
    assert average.decay_at(99_999, 1_000_000) == pytest.approx(0.9998)
    assert average.decay_at(999, 1000) == pytest.approx(1 - 1 / 20)


def test_no_average_is_the_module_itself() -> None:
    module = nn.Linear(2, 2)
    average = WeightAverage(module, decay=0.0)
    with torch.no_grad():
        module.weight.fill_(4.0)
    average.update(module, step=5, total_steps=100)
    assert torch.equal(average.module.weight, module.weight)


def test_sgd_by_hand() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 2.0)
    optimizer = build_optimizer(module, weight_decay=0.5, name="sgd", momentum=0.9)
    set_rate(optimizer, 0.1)
    values, velocity = 2.0, 0.0
    for _ in range(3):
        optimizer.zero_grad()
        module(torch.ones(1, 1)).sum().backward()
        optimizer.step()
        velocity = 0.9 * velocity + 1 + 0.5 * values
        values -= 0.1 * velocity
        assert module.weight.item() == pytest.approx(values)
