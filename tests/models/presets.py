"""Preset names for contract tests; the large ones are marked slow."""

import pytest

from falconet.models import PRESETS

LARGE = ("yolov3-darknet53", "yolov3-spp", *(f"ppyoloe-{kind}{size}" for kind in ("", "plus-") for size in "mlx"))
EVERY = [pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name for name in PRESETS]
