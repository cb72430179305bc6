"""Looks at the files of the served models, and lets a new version take over."""

import logging
from collections.abc import Callable
from threading import Event, Thread

from falconet.serving.hosted import Hosted, Models, Stamp, stamp_of

_log = logging.getLogger(__name__)

SECONDS = 1.0
"""Between two looks. A file that is still being written differs from one to the next, and is left alone."""


class Watch:
    """A thread that looks at the files of models once a second.

    Args:
        models: whose files.
        tell: called with a model and whether a new version of it took over.
        seconds: between two looks.
    """

    def __init__(self, models: Models, tell: Callable[[Hosted, bool], None], *, seconds: float = SECONDS) -> None:
        self._models, self._tell, self._seconds = models, tell, seconds
        self._seen: dict[str, Stamp | None] = {}
        self._stop = Event()
        self._thread = Thread(target=self._run, name="falconet-watch", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; a version that is being opened is not waited for long."""
        self._stop.set()
        self._thread.join(timeout=5)

    def look(self) -> None:
        """Take what has changed since a model was opened, and rests since the last look."""
        for one in self._models:
            name, stamp = one.source.name, stamp_of(one.source.path)
            before = self._seen.get(name, one.stamp)
            self._seen[name] = stamp
            if stamp == one.stamp or stamp != before:
                continue
            if stamp is None:
                one.lose()
                _log.warning("%s: %s", name, (one.refused or {})["reason"])
                continue
            taken = one.renew(stamp)
            if taken:
                _log.info("%s: a new version took over, sha256 %s", name, one.version.sha256[:12])
            else:
                reason = (one.refused or {}).get("reason", "")
                _log.error("%s: the new version is refused, and the old one goes on: %s", name, reason)
            self._tell(one, taken)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.look()
            except Exception:
                _log.exception("the files of the models could not be looked at; it is tried again")
