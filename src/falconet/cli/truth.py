"""What `eval` and `export` share: which model, which pictures with which truth, a progress bar."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from falconet.core.errors import ConfigError, ModelError
from falconet.core.types import Record

if TYPE_CHECKING:
    from falconet.runtime.engines import Engine

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Truth:
    """Pictures with their truth.

    Attributes:
        names: class names of the truth.
        records: what can be used of the data.
        source: where they come from, for messages.
        notes: what was left out, and why.
    """

    names: tuple[str, ...]
    records: tuple[Record, ...]
    source: str
    notes: tuple[str, ...]


def require(modules: Sequence[str], *, extra: str, purpose: str) -> None:
    """Raise ConfigError with the install command unless all `modules` are installed."""
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"{purpose} needs {', '.join(missing)}, which the base install leaves out; "
            f"install it with: pip install 'falconet[{extra}]'"
        )


def is_weights(model: Path) -> bool:
    """Whether `model` is a run folder or a weights file, in contrast to an exported file."""
    return model.is_dir() or model.suffix == ".safetensors"


def run_folder(model: Path) -> Path | None:
    """The training run that `model` is, or lies in; None where there is none."""
    folder = model if model.is_dir() else model.parent
    return folder if (folder / "run.yaml").is_file() else None


def open_engine(model: Path, *, engine: str, threads: int | None) -> "Engine":
    """What runs `model`: torch for weights, ONNX Runtime for an exported file.

    Raises:
        ModelError: nothing there, not ours, or an engine that does not run this kind of file.
    """
    if not model.exists():
        raise ModelError(f"{model}: no such file; expected a run folder, a weights file or an exported .onnx file")
    kind = "torch" if is_weights(model) else "onnxruntime"
    if engine not in ("auto", kind):
        what = "weights run in torch" if kind == "torch" else "an exported file runs in onnxruntime"
        raise ModelError(f"{model}: --engine {engine} does not run it; {what}: leave --engine out")
    if kind == "onnxruntime":
        from falconet.runtime.engines import OnnxEngine

        return OnnxEngine(model, threads=threads)
    require(["torch"], extra="train", purpose="running weights")
    import torch

    from falconet.export.torch_engine import TorchEngine

    if threads is not None:
        torch.set_num_threads(threads)
    return TorchEngine(model)


def open_truth(model: Path, data: Path | None, images: Path | None, split: str | None) -> Truth:
    """The data named on the command line, else the validation data of the run that `model` belongs to.

    Raises:
        ConfigError: neither is there.
        DataError: the data cannot be read, or nothing of them can be used.
    """
    if data is not None:
        from falconet.data.records import open_dataset, usable

        dataset, problems = usable(open_dataset(data, images, split=split))
        return Truth(dataset.names, dataset.records, dataset.source, tuple(str(problem) for problem in problems))
    if images is not None or split is not None:
        raise ConfigError(f"{'--images' if images is not None else '--split'} needs --data ANNOTATIONS beside it")
    folder = run_folder(model)
    if folder is None:
        raise ConfigError(
            f"{model}: belongs to no training run, so there is no default data; add --data ANNOTATIONS --images FOLDER"
        )
    require(["torch", "pytorch_lightning"], extra="train", purpose="reading a training run")
    from falconet.train.run_data import load_data
    from falconet.train.run_folder import RunFolder

    loaded = load_data(RunFolder(folder).read_run().data)
    return Truth(loaded.names, loaded.val, f"validation data of {folder}", ())


@contextmanager
def progress(title: str) -> "Iterator[Bar]":
    """A bar on standard error, where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        yield Bar(bar)


class Bar:
    """Wraps a sequence, so that the bar follows the loop over it."""

    def __init__(self, bar: "Progress") -> None:
        self._bar = bar

    def __call__(self, items: Sequence[Item]) -> Iterator[Item]:
        yield from self._bar.track(items, total=len(items))


if TYPE_CHECKING:
    from rich.progress import Progress
