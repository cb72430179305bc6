"""What is told about a run: one line and one set of figures per epoch, to log, JSONL, TensorBoard and a watcher."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from falconet.train.run_folder import RunFolder

_log = logging.getLogger(__name__)

HEADLINES = ("AP", "AP50", "top1", "top5")
"""Figures of a validation that are told in a line."""


class Watcher(Protocol):
    """Who follows a run while it goes on, for example a progress bar."""

    def start(self, *, epochs: int, steps: int, finished: int) -> None:
        """The first step is about to come; `finished` epochs were done before."""

    def step(self, *, epoch: int, epochs: int, step: int, loss: float) -> None:
        """`step` of `epoch` (both from 0) was taken."""

    def epoch(self, figures: dict[str, Any]) -> None:
        """An epoch ended with these figures, as in metrics.jsonl."""

    def stop(self) -> None:
        """The run is over, whether it ended well or not."""


class Silent:
    """A watcher that does nothing."""

    def start(self, *, epochs: int, steps: int, finished: int) -> None: ...

    def step(self, *, epoch: int, epochs: int, step: int, loss: float) -> None: ...

    def epoch(self, figures: dict[str, Any]) -> None: ...

    def stop(self) -> None: ...


@contextmanager
def logging_to(path: Path) -> Iterator[None]:
    """Also write what the package logs to the file `path`; Lightning's own notices stay out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    ours = logging.getLogger("falconet")
    quiet = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric")]
    levels = [logger.level for logger in (ours, *quiet)]
    ours.setLevel(min(ours.getEffectiveLevel(), logging.INFO))
    for logger in quiet:
        logger.setLevel(logging.WARNING)
    ours.addHandler(handler)
    try:
        yield
    finally:
        ours.removeHandler(handler)
        handler.close()
        for logger, level in zip((ours, *quiet), levels, strict=True):
            logger.setLevel(level)


class Journal:
    """Writes an epoch's figures to metrics.jsonl, TensorBoard and the log.

    Args:
        folder: of the run.
        finished: epochs that were done before; their figures stay.
    """

    def __init__(self, folder: RunFolder, *, finished: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        folder.keep_metrics_until(finished)
        self._curves = SummaryWriter(str(folder.tensorboard), purge_step=finished + 1)

    def write(self, figures: dict[str, Any], *, epochs: int) -> None:
        """Keep the figures of an epoch."""
        self._folder.add_metrics(figures)
        for name, value in figures.items():
            if isinstance(value, int | float):
                self._curves.add_scalar(name, value, figures["epoch"])
        self._curves.flush()
        _log.info("%s", summary(figures, epochs=epochs))

    def close(self) -> None:
        """Finish the curves' file."""
        self._curves.close()


def summary(figures: dict[str, Any], *, epochs: int) -> str:
    """One line about an epoch."""
    terms = "  ".join(
        f"{name.removeprefix('loss_')} {value:.3f}" for name, value in figures.items() if name.startswith("loss_")
    )
    reached = "".join(f"  {name} {figures[name]:.3f}" for name in HEADLINES if name in figures)
    return (
        f"epoch {figures['epoch']}/{epochs}  loss {figures['loss']:.3f} ({terms}){reached}  "
        f"{figures['seconds']:.1f} s, {figures['images_per_second']:.0f} images/s, "
        f"{figures['data_wait']:.0%} waiting for data"
    )
