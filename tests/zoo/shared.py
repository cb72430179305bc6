"""Real weights and pictures that are not part of the repository: tests that need them skip where they are absent."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[3] / "shared"
GRAPH = SHARED / "weights" / "nanodet-plus-m_416.param"
WEIGHTS = SHARED / "weights" / "nanodet-plus-m_416.bin"
CHECKPOINT = SHARED / "weights" / "nanodet_m_416.ckpt"
OUTPUTS = SHARED / "weights" / "nanodet_m_416_outputs.npz"
COCO_MINI = SHARED / "datasets" / "coco-val-mini"


def need(*paths: Path) -> None:
    """Skip the calling test unless all of the paths exist."""
    for path in paths:
        if not path.exists():
            pytest.skip(f"{path.name} is not distributed with the repository")
