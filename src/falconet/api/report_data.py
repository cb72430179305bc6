"""What a report says about the data that a model was measured on, and about the labels that it learnt from."""

import json
import os
from pathlib import Path
from typing import Any

from falconet.api.ground_truth import GroundTruth
from falconet.data.check import check_splits
from falconet.data.dataset import DataSet
from falconet.data.kinds import KINDS
from falconet.eval.report_content import Finding

SUSPECTS, SUSPECTS_PAGE = Path("suspects", "suspects.json"), Path("suspects", "suspects.html")
"""Where `falconet data suspects RUN` writes, from the run's folder."""


def findings(truth: GroundTruth) -> tuple[Finding, ...]:
    """What is odd about the pictures with boxes that a detector was measured on, without looking into the pictures."""
    # Under the name of a part that is measured on: how much there is to learn from is no question here.
    problems = check_splits({"val": DataSet(truth.names, truth.records, truth.source)}, decode=False)
    by_kind: dict[str, list[str]] = {}
    for problem in problems:
        by_kind.setdefault(problem.kind, []).append(str(problem))
    return tuple(Finding(name, *KINDS[name], len(told), told[0]) for name, told in by_kind.items())


def doubted(run: Path | None, out: Path) -> dict[str, Any]:
    """The report's parts about labels in doubt, where the run's folder has a list of them.

    Args:
        run: the run's folder.
        out: that of the report.
    """
    if run is None:
        return {}
    try:
        told = json.loads((run / SUSPECTS).read_text(encoding="utf-8"))
        known = {name: told[name] for name in ("counts", "labels", "images", "suspects")}
        page = os.path.relpath(run / SUSPECTS_PAGE, out) if (run / SUSPECTS_PAGE).is_file() else ""
    except (OSError, ValueError, KeyError, TypeError):
        return {}  # none, or one that somebody else wrote
    return {"doubted": known, "doubted_page": Path(page).as_posix() if page else ""}
