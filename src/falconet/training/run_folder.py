"""The folder of a run: what lies where, and writing it so that a crash at any moment leaves something usable.

run.yaml          the run, with absolute paths
best.safetensors  averaged weights of the best validation
last.safetensors  averaged weights of the last finished epoch
state.ckpt        everything needed to go on from the last finished epoch
metrics.jsonl     one line per epoch
tensorboard/      the same as curves
train.log         what was said
"""

import json
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from falconet.core.config import read_yaml, validate, write_yaml
from falconet.core.errors import ConfigError, ModelError
from falconet.core.files import replace_file
from falconet.core.run_files import BEST, LAST, METRICS, RUN_FILE, STATE, STATE_KEY
from falconet.core.terminal import argument
from falconet.training.run_config import RunConfig

STATE_KINDS: dict[str, Any] = {
    **dict.fromkeys(("epoch", "step", "images"), int),
    **dict.fromkeys(("networks", "average", "optimizer"), dict),
    **{"pace": dict | None, "best": dict | None, "peak_rate": float, "stopped": bool, "classes": list},
}
"""What a checkpoint must hold."""

STATE_FORMAT = 2


class RunFolder:
    """Paths inside a run's folder `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_file, self.metrics = path / RUN_FILE, path / METRICS
        self.best, self.last, self.state = path / BEST, path / LAST, path / STATE
        self.tensorboard, self.log = path / "tensorboard", path / "train.log"

    def refuse_if_used(self) -> None:
        """Raise ConfigError where another run has left weights or a checkpoint."""
        left = [path.name for path in (self.state, self.best, self.last) if path.exists()]
        if left:
            raise ConfigError(
                f"{self.path}: already holds a run ({', '.join(left)}); go on with it by "
                f"'falconet train --resume {argument(self.path)}', or choose another folder with output=..."
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
        """Write state.ckpt: plain values, tensors, and dictionaries of them. On a full disk the previous one survives.

        The file is of the safetensors kind: nothing in it can be executed.
        """
        tensors: dict[str, Tensor] = {}
        values = _without_tensors({"format": STATE_FORMAT, **state}, "", tensors)
        data = safetensors.torch.save(tensors, metadata={STATE_KEY: json.dumps(values)})
        replace_file(self.state, data)

    def read_state(self) -> dict[str, Any] | None:
        """What `write_state` wrote (keys of dictionaries as text), or None when no epoch was finished.

        Raises:
            ModelError: damaged, foreign, or of another version.
        """
        if not self.state.exists():
            return None
        try:
            with safetensors.safe_open(self.state, framework="pt", device="cpu") as file:
                text = (file.metadata() or {}).get(STATE_KEY, "{}")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            state: dict[str, Any] = json.loads(text)
        except (OSError, safetensors.SafetensorError, json.JSONDecodeError, RecursionError) as error:
            raise ModelError(f"{self.state}: cannot be read as a checkpoint: {error}") from error
        if not isinstance(state, dict):
            raise ModelError(f"{self.state}: cannot be read as a checkpoint: holds a {type(state).__name__}")
        try:
            if state.get("format") == 1:
                self._bring_up_to_date(state)
            elif state.get("format") != STATE_FORMAT:
                raise ModelError(f"{self.state}: is not a checkpoint of this version of Falconet")
            for name, tensor in tensors.items():
                *parents, last = name.split("/")
                node = state
                for parent in parents:
                    node = node[parent]
                node[last] = tensor
        except (KeyError, TypeError) as error:
            raise ModelError(f"{self.state}: is a damaged checkpoint: {error} is missing or something else") from error
        for key, kind in STATE_KINDS.items():
            if not isinstance(state.get(key), kind):
                raise ModelError(f"{self.state}: is a damaged checkpoint: {key} is missing or something else")
        return state

    def _bring_up_to_date(self, state: dict[str, Any]) -> None:
        """Change what a run of version 0.1 left to what it would leave now."""
        if state["pace"] is not None and not state["stopped"]:
            raise ModelError(
                f"{self.state}: comes from a version of Falconet that planned train.minutes in epochs, which this one "
                f"cannot go on with; start a new run with train.weights={self.last} and another output"
            )
        state["pace"] = {"used": state["seconds"]}
        state["peak_rate"], state["images"] = state["plan"]["peak_rate"], state["pictures"]

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


def _without_tensors(tree: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """`tree` without its tensors, which go to `tensors` by their path."""
    if isinstance(tree, dict):
        kept = {}
        for key, value in tree.items():
            if isinstance(value, Tensor):
                tensors[f"{prefix}{key}"] = value.detach().cpu().contiguous()
            else:
                kept[str(key)] = _without_tensors(value, f"{prefix}{key}/", tensors)
        return kept
    return tree
