"""What is said at the end of a run."""

from pathlib import Path
from typing import Any

from falconet.training.outcome import outcome
from falconet.training.run_config import Train

POINT = {"F1": 0.8, "score": 0.35, "found": 40, "missed": 6, "false": 12}


def said(values: list[float | None], train: Train, *, steps: int = 100, point: bool = True) -> list[str]:
    """Of a run with one validation per epoch; None: an epoch without one."""
    history: list[dict[str, Any]] = [
        {"epoch": n, "step": n * steps, **({} if value is None else {"AP": value})}
        for n, value in enumerate(values, start=1)
    ]
    measured = [value for value in values if value is not None]
    best = {"AP": max(measured), "AP50": 0.9, "epoch": values.index(max(measured)) + 1, **(POINT if point else {})}
    return outcome(history, best, train, took="3.3 minutes", key="AP")


def test_figures_and_counts() -> None:
    lines = said([0.3, 0.5, 0.6, 0.6], Train(epochs=4))
    assert lines == [
        "done: 4 epochs in 3.3 minutes, best AP 60.0 (AP50 90.0) in epoch 3",
        "at the best threshold, which the weights keep: score above 0.35: 40 of 46 objects found, 12 false",
    ]


def test_what_still_rises_wants_more_time() -> None:
    rising = said([0.3, None, 0.5, None, None, 0.52, None, 0.55], Train(epochs=8))
    assert rising[-1] == "AP still rose by 3.0 in the last quarter: a longer run will be better, as in train.epochs=16"
    assert said([0.3, 0.5, 0.52, 0.55], Train(minutes=7.5))[-1].endswith("as in train.minutes=15")
    assert len(said([0.3, 0.5, 0.548, 0.55], Train(epochs=4))) == 2


def test_a_run_that_finds_nothing_says_why_and_what_to_do() -> None:
    few = said([0.0, 0.001], Train(epochs=2), steps=5, point=False)
    assert few[-1] == (
        "it finds nothing yet: 10 steps in all; from nothing, 1,000 are the least. Next: a new run with "
        "train.epochs=200, or with weights to start from (train.weights)"
    )
    many = said([0.0, 0.0], Train(epochs=2), steps=5000, point=False)
    assert "falconet data show" in many[-1]


def test_nothing_to_measure() -> None:
    lines = said([-1.0], Train(epochs=1), point=False)
    assert lines[0] == "done: 1 epoch in 3.3 minutes, best AP – (AP50 90.0) in epoch 1"
    assert lines[-1].startswith("the validation pictures hold nothing that counts")


def test_a_validation_of_a_part_is_no_result() -> None:
    history = [{"epoch": 1, "step": 90, "AP": 0.7, "val_images": 16}]
    best = {"AP": 0.7, "AP50": 0.9, "epoch": 1, **POINT, "val_images": 16}
    lines = outcome(history, best, Train(minutes=1), took="1 minute", key="AP")
    assert lines[1] == "there was time to validate on 16 pictures alone, which says little: 'falconet eval' takes all"


def test_few_steps_do_not_tell_how_long_more_of_them_take() -> None:
    assert "a new run with train.minutes=20" in said([0.0], Train(minutes=0.2), steps=1, point=False)[-1]
    assert "a new run with train.minutes=3.4" in said([0.0], Train(minutes=0.2), steps=60, point=False)[-1]
    known = Train(minutes=2, weights=Path("a.safetensors"))
    assert "from nothing" not in said([0.0], known, steps=1, point=False)[-1]
