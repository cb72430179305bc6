"""An auxiliary branch that was never trained is not handed on to the next run."""

from pathlib import Path

import pytest

from falconet.models.weights import load_extra
from falconet.training import fit
from tests.training.tiny import draw, tiny_run


@pytest.mark.slow
def test_only_a_trained_branch_goes_on(tmp_path: Path) -> None:
    data = draw(tmp_path / "drawn")
    auto = ("criterion.detach_epoch=auto", "train.epochs=1")
    without = fit(tiny_run(data, tmp_path / "without", "criterion.detach_epoch=0", "train.epochs=1"))
    assert load_extra(without / "best.safetensors") == {}
    tuned = fit(tiny_run(data, tmp_path / "tuned", f"train.weights={without}", *auto))
    assert "these weights have none of it" in (tuned / "train.log").read_text(encoding="utf-8")
    assert load_extra(tuned / "best.safetensors") == {}
    again = fit(tiny_run(data, tmp_path / "again", f"train.weights={tuned}", *auto))
    assert "loss_auxiliary" not in (again / "metrics.jsonl").read_text(encoding="utf-8")

    trained = fit(tiny_run(data, tmp_path / "trained", *auto))
    branch = load_extra(trained / "best.safetensors")
    assert branch
    with_branch = fit(tiny_run(data, tmp_path / "with", f"train.weights={trained}", *auto))
    assert "loss_auxiliary" in (with_branch / "metrics.jsonl").read_text(encoding="utf-8")
    told = f"auxiliary branch: {len(branch)} of {len(branch)} tensors from there"
    assert told in (with_branch / "train.log").read_text(encoding="utf-8")
    narrower = ("model.neck.channels=8", "model.head.channels=8")
    pruned = fit(tiny_run(data, tmp_path / "pruned", f"train.weights={trained}", *auto, *narrower))
    log = (pruned / "train.log").read_text(encoding="utf-8")
    assert "pruned: " in log
    assert "these weights have none of it" in log
