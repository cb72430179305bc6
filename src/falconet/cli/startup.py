"""A quick start: `falconet predict` is to take little longer than importing what it needs."""

import gc
import os
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from falconet.core.errors import ModelError

if TYPE_CHECKING:
    import onnxruntime


def begin() -> None:
    """No garbage collection until `finish`; no search of all installed packages for plugins of pydantic.

    Start-up creates many objects and drops almost none, so that the collector, which looks at all of them again
    and again, takes a fifth of the time and finds nothing.
    """
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def finish() -> None:
    """Start-up is over: what is there by now is never looked at again. Does nothing without `begin`."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


class Opening:
    """A model file that a thread opens while the command line is being imported and parsed.

    Opening takes ONNX Runtime about as long as that takes Python, and needs no lock of Python's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._session: onnxruntime.InferenceSession | None = None
        self._error: ModelError | None = None
        # Not a daemon: a program that ends early has to wait, or the thread would wake up in its ruins.
        self._thread = threading.Thread(target=self._open, name="falconet-opening")
        self._thread.start()

    def session(self) -> "onnxruntime.InferenceSession":
        """The open file, when it is. Raises ModelError where it is not a whole model."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._session is not None
        return self._session

    def _open(self) -> None:
        from falconet.runtime.session import default_threads, open_session

        try:
            self._session = open_session(self.path, default_threads())
        except ModelError as error:
            self._error = error


def open_early(words: Sequence[str]) -> Opening | None:
    """The model of a plain `predict ... --model FILE.onnx`, which is going to be needed; else None."""
    if "predict" not in words[:1] or any(word.startswith(("--threads", "--help")) for word in words):
        return None
    after = [value for option, value in pairwise(words) if option == "--model"]
    if len(after) != 1 or not after[0].endswith(".onnx") or not Path(after[0]).is_file():
        return None
    return Opening(Path(after[0]))
