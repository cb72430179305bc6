"""What a page is told about a model, by a service or by the site that it is part of."""

from typing import Any

from falconet.core.manifest import Manifest


def model_card(name: str, manifest: Manifest) -> dict[str, Any]:
    """What its manifest says, for `GET /v1/models` and for `models.json` of a site.

    Args:
        name: of the model, for people.
    """
    fit = manifest.preprocess
    return {
        "name": name,
        "task": manifest.task,
        "architecture": manifest.model,
        "classes": list(manifest.classes),
        "input": {"height": fit.height, "width": fit.width},
        "score_threshold": manifest.told_selection.score_threshold if manifest.task == "detect" else None,
        "calibrated": bool(manifest.calibration),
        "operating_points": [
            {"name": one.name, "thresholds": dict(zip(manifest.classes, one.thresholds, strict=True))}
            for one in manifest.operating_points
        ],
        "licence": manifest.licence,
        "source": manifest.source,
    }
