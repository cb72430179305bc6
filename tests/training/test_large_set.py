"""A run whose annotations lie in tables on disk is the run that it would be without."""

from pathlib import Path

import pytest

from falconet.data import annotation_tables, coco, coco_table, table
from falconet.data.table import TableRecords
from falconet.training import fit
from falconet.training.run_data import load_data
from tests.training.tiny import assert_same_weights, draw, tiny_run


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    data = draw(tmp_path / "drawn")
    options = ["train.epochs=1", f"data.workers={workers}", "data.classes=[ring, disc]", "data.fraction=0.8"]
    first = fit(tiny_run(data, tmp_path / "first", *options))
    monkeypatch.setenv(annotation_tables.VARIABLE, str(tmp_path / "tables"))
    monkeypatch.setattr(coco, "LARGE", 0)
    for module in (table, coco_table):
        monkeypatch.setattr(module, "ROWS", 4)
    run = tiny_run(data, tmp_path / "second", *options)
    assert isinstance(load_data(run.data).train, TableRecords)
    second = fit(run)
    assert_same_weights(first / "last.safetensors", second / "last.safetensors")
    assert_same_weights(first / "best.safetensors", second / "best.safetensors")
