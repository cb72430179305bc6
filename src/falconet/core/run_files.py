"""Names of files in a training run's folder, for whoever is handed one; `falconet.training.run_folder` writes them."""

import json
from pathlib import Path

from falconet.core.errors import ModelError
from falconet.core.terminal import argument

STATE, STATE_KEY = "state.ckpt", "falconet-state"
"""The checkpoint, and where in it the plain values are."""

RUN_FILE, BEST, LAST, METRICS = "run.yaml", "best.safetensors", "last.safetensors", "metrics.jsonl"

CURVE, CURVE_PICTURE = "curve.json", "curve.svg"
"""In the folder of `falconet data curve`: what came out, in numbers and drawn."""


def find_weights(path: Path) -> Path:
    """The weights file that `path` means: itself, or the best (else the last) one of a run folder.

    Raises:
        ModelError: nothing there, or a folder without weights.
    """
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        if (path / RUN_FILE).is_file():
            raise ModelError(
                f"{path}: this run has no weights yet, for it was stopped in its first epoch; go on with it by: "
                f"falconet train --resume {argument(path)}"
            )
        raise ModelError(f"{path}: holds no weights; expected a run folder with {BEST} or {LAST}")
    if not path.is_file():
        raise ModelError(f"{path}: does not exist; expected a weights file (.safetensors) or a run folder")
    return path


def unfinished(run: Path) -> int | None:
    """How many epochs of a run are done, where more were to come; None where it is finished, or nobody can tell."""
    import safetensors

    try:
        with safetensors.safe_open(run / STATE, framework="np") as file:
            state = json.loads((file.metadata() or {}).get(STATE_KEY, "{}"))
        return None if state["stopped"] else int(state["epoch"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError):
        return None  # whoever resumes it is told


def find_run(model: Path) -> Path | None:
    """The folder of the training run that `model` is, or lies in; None where there is none."""
    folder = model if model.is_dir() else model.parent
    return folder if (folder / RUN_FILE).is_file() else None
