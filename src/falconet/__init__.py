"""Falconet: lightweight real-time object detectors for CPUs and edge devices.

`import falconet` imports nothing heavy; public names load on first use.
"""

import os
from importlib import import_module
from typing import Any

# Else ONNX Runtime (from 1.32) writes a device id and a database of events into the user's cache when it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# A last resort behind our own limits: a decoder of OpenCV allocates no more than falconet.core.images.MAX_PIXELS.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 28))

__version__ = "0.1.0"

_PUBLIC = {
    "load": "falconet.api.load",
    "train": "falconet.api.train",
    "evaluate": "falconet.api.measure",
    "compare": "falconet.api.measure",
    "calibrate": "falconet.api.calibrate",
    "export": "falconet.api.export",
    "export_site": "falconet.api.web",
    "fit": "falconet.search.public",
    "Run": "falconet.api.train",
    "Predictor": "falconet.runtime.predictor",
    "Classification": "falconet.core.types",
    "Detections": "falconet.core.types",
    "Record": "falconet.core.types",
    "Sample": "falconet.core.types",
    "FalconetError": "falconet.core.errors",
    "ConfigError": "falconet.core.errors",
    "DataError": "falconet.core.errors",
    "PicturesError": "falconet.core.errors",
    "ModelError": "falconet.core.errors",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'falconet' has no attribute '{name}'")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
