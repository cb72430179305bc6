"""Models by name, each in the version that answers at present."""

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, NamedTuple

from falconet.core.card import model_card
from falconet.core.errors import ConfigError, FalconetError, ModelError
from falconet.core.exported_files import model_files
from falconet.core.images import decode_image
from falconet.core.suggest import did_you_mean
from falconet.runtime.predictor import Predictor
from falconet.runtime.tasks import Task
from falconet.serving.problems import Problem

_log = logging.getLogger(__name__)

TRIAL = "trial.jpg"
"""The drawn picture that a model is tried on before it answers requests."""


class Opened(NamedTuple):
    """A model file that was opened."""

    many: Predictor[Any]
    """Runs as many pictures at once as it has streams."""
    alone: Predictor[Any] | None
    """The same with more threads, for a picture that has all CPUs for itself; None where that gains nothing."""
    precision: str


class About(NamedTuple):
    """What is known of a model file besides what it says itself."""

    ap: float | None = None
    """AP or top-1, a fraction."""
    ap_source: str | None = None
    receipt: Mapping[str, Any] | None = None
    """Of the comparison with torch."""


@dataclass(frozen=True, slots=True)
class Source:
    """A model that is to be served.

    Attributes:
        name: in requests.
        path: of the file that stands for it.
        open: opens it; raises FalconetError for a file that cannot be used.
        about: what is known of it.
    """

    name: str
    path: Path
    open: Callable[[Path], Opened]
    about: Callable[[Path], About] = lambda _: About()


Stamp = tuple[tuple[int, int, int], ...]
"""(time of change, size, inode) of each file of a model."""


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """One version of a model, opened and tried.

    Attributes:
        name: of the model.
        opened: what answers.
        sha256: of the file; of a pair, of graph and weights one after the other, as in receipts.
        card: its entry in `/v1/models`.
        places: runs that may go on at once.
        tasks: what was asked for so far, and the task that answers it.
    """

    name: str
    opened: Opened
    sha256: str
    card: Mapping[str, Any]
    places: BoundedSemaphore
    tasks: dict[Any, Task[Any]] = field(default_factory=dict)


class Hosted:
    """A model under its name; another version of it may take over at any time.

    Attributes:
        source: as given.
        version: the one that answers.
        stamp: of the files it was made of.
        refused: why the newest file is not taken, and its time; None where it is.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.stamp = stamp_of(source.path)
        self.version = open_version(source)
        self.refused: dict[str, str] | None = None

    def card(self) -> dict[str, Any]:
        """Its entry in `/v1/models`."""
        return {**self.version.card, "refused": self.refused}

    def lose(self) -> None:
        """The file is gone; the version that is open goes on."""
        self.stamp = None
        self.refused = {"reason": f"{self.source.path} is gone; the version that was loaded goes on", "at": now()}

    def renew(self, stamp: Stamp | None) -> bool:
        """Open the file as it is now beside the version that answers, try it, let it take over.

        Returns:
            Whether it took over. Otherwise the old one goes on, and `refused` says why.
        """
        self.stamp = stamp
        try:
            version = open_version(self.source)
            if version.card["task"] != self.version.card["task"]:
                raise ConfigError(
                    f"{self.source.path}: is of the task {version.card['task']}, but clients of '{self.source.name}' "
                    f"expect {self.version.card['task']}; serve it under another name"
                )
        except Exception as error:
            if not isinstance(error, FalconetError):
                _log.exception("%s: a new version failed in a way that was not expected", self.source.name)
            self.refused = {"reason": str(error), "at": now()}
            return False
        self.version, self.refused = version, None
        return True


class Models:
    """The models of a service by name, the first one the default."""

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise ConfigError("no model is named; expected one or more")
        names = [one.name for one in sources]
        if twice := next((one for one in sources if names.count(one.name) > 1), None):
            paths = " and ".join(str(one.path) for one in sources if one.name == twice.name)
            raise ConfigError(
                f"two models have the name '{twice.name}': {paths}; give one of them another, as in other={twice.path}"
            )
        self._hosted = {one.name: Hosted(one) for one in sources}

    def __iter__(self) -> Any:
        return iter(self._hosted.values())

    def find(self, name: str | None) -> Version:
        """The version that answers for a model; None means the first one. Raises Problem for an unknown name."""
        if name is None:
            return next(iter(self._hosted.values())).version
        if name not in self._hosted:
            names = ", ".join(self._hosted)
            guess = did_you_mean(name, self._hosted)
            raise Problem(
                "unknown-model", f"model: '{name[:100]}' is not served; expected one of: {names}. {guess}".strip()
            )
        return self._hosted[name].version


def stamp_of(path: Path) -> Stamp | None:
    """What tells one state of a model's files from another; None where one of them is missing."""
    try:
        states = [file.stat() for file in model_files(path)]
    except OSError:
        return None
    return tuple((state.st_mtime_ns, state.st_size, state.st_ino) for state in states)


def sum_of(path: Path) -> str:
    """The SHA-256 of a model's file; of a pair, of graph and weights one after the other, as in receipts.

    Raises:
        ModelError: a file is missing, or cannot be read.
    """
    try:
        content = b"".join(file.read_bytes() for file in model_files(path)[:2])
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from error
    return hashlib.sha256(content).hexdigest()


def open_version(source: Source) -> Version:
    """Open the file of a model and try it on a stored picture.

    Raises:
        FalconetError: a file that cannot be used, or whose answers mean nothing.
    """
    opened = source.open(source.path)
    picture, original = decode_image(files("falconet.serving").joinpath(TRIAL).read_bytes(), TRIAL)
    for predictor in filter(None, (opened.many, opened.alone)):
        predictor.answer([predictor.resize(picture, original)])
    sha256 = sum_of(source.path)
    card = _card(source, opened, sha256, source.about(source.path))
    return Version(source.name, opened, sha256, card, BoundedSemaphore(opened.many.streams))


def now() -> str:
    """The time, as RFC 3339 has it, in seconds of UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _card(source: Source, opened: Opened, sha256: str, about: About) -> dict[str, Any]:
    return model_card(source.name, opened.many.manifest) | {
        "sha256": sha256,
        "engine": opened.many.engine.name,
        "precision": opened.precision,
        "ap": about.ap,
        "ap_source": about.ap_source,
        "receipt": about.receipt,
        "loaded_at": now(),
    }
