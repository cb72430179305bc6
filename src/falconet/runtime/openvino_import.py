"""OpenVINO, imported so that it tells nobody: the one place that imports it.

Importing OpenVINO sends an event to its makers and writes an id into the home folder, unless it has to do without the
package for that, as it can.
"""

import sys

_telemetry = sys.modules.get("openvino_telemetry")
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
try:
    import openvino  # type: ignore[import-not-found, import-untyped, unused-ignore]  # optional
    from openvino import opset13 as ops
finally:
    del sys.modules["openvino_telemetry"]
    if _telemetry is not None:
        sys.modules["openvino_telemetry"] = _telemetry

__all__ = ["openvino", "ops"]
