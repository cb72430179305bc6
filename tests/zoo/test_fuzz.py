"""A few hundred spoilt inputs for every reader on every run, thousands with `make slow`; `fuzz.py` tries more."""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.zoo.fuzz import Target, targets

TARGETS = targets()


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("count", [300, pytest.param(2000, marks=pytest.mark.slow)])
def test_spoilt_files_are_read_or_refused(name: str, count: int) -> None:
    rng = random.Random(f"{name} {count}")
    seen = {TARGETS[name].try_one(rng) for _ in range(count)}
    assert len(seen) > count / 2


@pytest.mark.parametrize("name", TARGETS)
@given(noise=st.binary(max_size=200), cut=st.integers(0, 400))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_within_a_valid_file(name: str, noise: bytes, cut: int) -> None:
    target = TARGETS[name]
    data = target.valid[:cut] + noise + target.valid[cut + len(noise) :]
    Target(target.read, data, lambda value, _: value).try_one(random.Random(0))
