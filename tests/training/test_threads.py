"""How many torch threads a run takes."""

from pathlib import Path

import pytest
import torch

from falconet.training import fit, prepare
from falconet.training.run_folder import RunFolder
from tests.training.tiny import draw, tiny_run


@pytest.mark.parametrize(("busy", "threads"), [(0.4, 3), (1.2, 2), (7.0, 1), (None, 3)])
def test_cpus_that_others_keep_busy_are_left_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, busy: float | None, threads: int
) -> None:
    before = torch.get_num_threads()
    monkeypatch.setattr(prepare, "busy_cpus", lambda: busy)
    data = draw(tmp_path / "drawn")
    torch.set_num_threads(3)
    try:
        folder = fit(tiny_run(data, tmp_path / "run", "train.epochs=1"))
        assert torch.get_num_threads() == 3, "the run's number is its own"
    finally:
        torch.set_num_threads(before)
    assert RunFolder(folder).read_run().train.threads == threads
    log = (folder / "train.log").read_text()
    assert f"{threads} torch threads" in log
    assert ("torch threads instead of 3" in log) == (threads < 3)


def test_a_given_number_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "busy_cpus", lambda: 99.0)
    folder = fit(tiny_run(draw(tmp_path / "drawn"), tmp_path / "run", "train.epochs=1", "train.threads=2"))
    assert "2 torch threads" in (folder / "train.log").read_text()
