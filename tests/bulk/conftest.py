"""A folder of pictures that a tiny model answers, and its tables."""

from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

import falconet
from falconet.bulk.listing import Sources
from falconet.bulk.run import Progress, Results, in_streams, run_blocks
from tests.runtime import tiny_model
from tests.runtime.tiny_model import picture, save

HEAD = {"model": {"file": "m.onnx", "sha256": "0" * 64}, "version": "1", "engine": "onnxruntime"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """m.onnx, and pictures `in/00.png` to `in/deep/29.png`, of which the 7th cannot be read."""
    monkeypatch.chdir(tmp_path)
    tiny_model.write(tmp_path / "m.onnx")
    for index in range(30):
        below = "in/deep" if index >= 20 else "in"
        save(tmp_path / below / f"{index:02}.png", picture((0, index % 4, "red"), (2, 2, "blue"), value=100 + index))
    (tmp_path / "in" / "07.png").write_bytes(b"no picture")
    return tmp_path


@pytest.fixture
def predictor(folder: Path):
    """Answers with m.onnx, two pictures at once."""
    return falconet.load(folder / "m.onnx", streams=2)


def run(predictor, *arguments: str, out: str = "out", head: dict | None = None, **options) -> Progress:
    """One run of `falconet batch`, with blocks of five pictures on average."""
    sources = Sources(arguments or ("in",), leave_out=out, **({"pictures": 5} | options))
    results = Results(out, head or HEAD, sources)
    return run_blocks(in_streams(predictor, results), sources, results)


def table(out: str = "out") -> list[dict]:
    """All rows, by the name of the picture."""
    files = sorted(Path(out).glob("*.parquet"))
    return pa.concat_tables([parquet.read_table(file) for file in files]).sort_by("source").to_pylist()
