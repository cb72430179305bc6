"""Golden cases: outputs of the original implementations for fixed weights and inputs.

A small part lies beside this file; the full set where the project is developed. A case that is not there skips.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden import fill

HERE = Path(__file__).parent
SHARED = Path(__file__).resolve().parents[3] / "shared" / "golden"


class Case:
    """One case by name; see the docstrings of `fill` for the rule behind weights and inputs."""

    def __init__(self, name: str) -> None:
        root = next((r for r in (SHARED, HERE) if (r / "cases" / f"{name}.json").exists()), None)
        if root is None:
            pytest.skip(f"golden case {name} is not part of the copy in tests/golden, and {SHARED} is absent")
        self.root = root
        self.meta, self.arrays = fill.load(name, str(root))

    def weights(self) -> dict[str, np.ndarray]:
        """{upstream key: array}, without the entries a model makes itself."""
        return fill.weights(self.meta)

    def input(self, name: str) -> np.ndarray:
        """An input by name; a photo that is absent skips the test."""
        spec: dict[str, Any] = self.meta["inputs"][name]
        if spec["kind"] == "photo":
            if not (SHARED / "photo.npz").exists():
                pytest.skip("the photo of the golden cases is not distributed")
            image = np.load(SHARED / "photo.npz")["bgr_{}x{}".format(*spec["shape"][2:])]
            mean = np.array([103.53, 116.28, 123.675], np.float32)
            std = np.array([57.375, 57.12, 58.395], np.float32)
            return np.ascontiguousarray(((image.astype(np.float32) - mean) / std).transpose(2, 0, 1)[None])
        return fill.tensor(spec)

    def check(self, name: str, got: Any) -> None:
        """Fail unless `got` agrees with the stored output `name` within its tolerance."""
        error = fill.compare(self.meta, self.arrays, name, got)
        assert error <= 1, f"{self.meta['case']}: {name} is off by {error:.3g} times its tolerance"
