"""The folder of a run: what lies where, and writing it so that a crash at any moment leaves something usable.

run.yaml          the run, with absolute paths
best.safetensors  averaged weights of the best validation
last.safetensors  averaged weights of the last finished epoch
state.ckpt        everything needed to go on from the last finished epoch
metrics.jsonl     one line per epoch
tensorboard/      the same as curves
train.log         what was said
"""

import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from falconet.core.config import read_yaml, validate, write_yaml
from falconet.core.errors import ConfigError, ModelError
from falconet.core.files import replace_file
from falconet.train.run_config import RunConfig

STATE_FORMAT = 1


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths inside a run's folder."""

    path: Path

    @property
    def run_file(self) -> Path:
        return self.path / "run.yaml"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def state(self) -> Path:
        return self.path / "state.ckpt"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def log(self) -> Path:
        return self.path / "train.log"

    def refuse_if_used(self) -> None:
        """Raise ConfigError where another run has left weights or a checkpoint."""
        left = [path.name for path in (self.state, self.best, self.last) if path.exists()]
        if left:
            raise ConfigError(
                f"{self.path}: already holds a run ({', '.join(left)}); go on with it by "
                f"'falconet train --resume {self.path}', or choose another folder with output=..."
            )

    def write_run(self, run: RunConfig) -> None:
        """Write run.yaml."""
        replace_file(self.run_file, write_yaml(run, comments=True))

    def read_run(self) -> RunConfig:
        """The run that this folder is of; its output is where the folder is now.

        Raises:
            ConfigError: not the folder of a run.
        """
        if not self.run_file.is_file():
            raise ConfigError(f"{self.path}: holds no run.yaml; expected the folder of a run of 'falconet train'")
        run = validate(RunConfig, read_yaml(self.run_file), name=str(self.run_file))
        return run.model_copy(update={"output": self.path.absolute()})

    def write_state(self, state: dict[str, Any]) -> None:
        """Write state.ckpt: tensors and plain values. On a full disk the previous one survives."""
        buffer = io.BytesIO()
        torch.save({"format": STATE_FORMAT, **state}, buffer)
        replace_file(self.state, buffer.getvalue())

    def read_state(self) -> dict[str, Any] | None:
        """What `write_state` wrote, or None when no epoch was finished. Nothing in the file is executed.

        Raises:
            ModelError: damaged, or of another version.
        """
        if not self.state.exists():
            return None
        try:
            state = torch.load(self.state, map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, ValueError, KeyError) as error:
            raise ModelError(f"{self.state}: cannot be read as a checkpoint: {error}") from error
        if not isinstance(state, dict) or state.get("format") != STATE_FORMAT:
            raise ModelError(f"{self.state}: is not a checkpoint of this version of Falconet")
        return state

    def keep_metrics_until(self, epoch: int) -> None:
        """Drop the lines of epochs that are about to be repeated; `epoch` counts the finished ones."""
        if not self.metrics.exists():
            return
        kept = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue  # half a line: the process was killed while writing it
            if entry["epoch"] <= epoch:
                kept.append(line + "\n")
        replace_file(self.metrics, "".join(kept))

    def add_metrics(self, entry: dict[str, Any]) -> None:
        """Append a line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
