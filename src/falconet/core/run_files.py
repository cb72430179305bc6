"""Names of files in a training run's folder, for whoever is handed one; `falconet.training.run_folder` writes them."""

from pathlib import Path

from falconet.core.errors import ModelError

RUN_FILE, BEST, LAST, METRICS = "run.yaml", "best.safetensors", "last.safetensors", "metrics.jsonl"


def find_weights(path: Path) -> Path:
    """The weights file that `path` means: itself, or the best (else the last) one of a run folder.

    Raises:
        ModelError: nothing there, or a folder without weights.
    """
    if path.is_dir():
        for name in (BEST, LAST):
            if (path / name).is_file():
                return path / name
        raise ModelError(f"{path}: holds no weights; expected a run folder with {BEST} or {LAST}")
    if not path.is_file():
        raise ModelError(f"{path}: does not exist; expected a weights file (.safetensors) or a run folder")
    return path


def find_run(model: Path) -> Path | None:
    """The folder of the training run that `model` is, or lies in; None where there is none."""
    folder = model if model.is_dir() else model.parent
    return folder if (folder / RUN_FILE).is_file() else None
