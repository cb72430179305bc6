"""Everything that lives as long as the service: models, workers, bodies, counters, the watch."""

from collections.abc import Sequence

from falconet.serving.answers import Answered
from falconet.serving.body import Uploads
from falconet.serving.hosted import Models, Source
from falconet.serving.limits import Limits
from falconet.serving.metrics import Metrics
from falconet.serving.watch import SECONDS, Watch
from falconet.serving.work import Job, Workers


class Service:
    """Models that answer requests.

    Args:
        sources: the models.
        limits: what is let in.
        look: seconds between two looks at the models' files.

    Attributes:
        models, limits, workers, uploads, metrics, watch: its parts.
        stopping: whether no more requests are taken.

    Raises:
        FalconetError: a model that cannot be opened, or two of one name.
    """

    def __init__(self, sources: Sequence[Source], limits: Limits | None = None, *, look: float = SECONDS) -> None:
        self.limits = limits or Limits()
        self.models = Models(sources)
        self.workers = Workers(self.limits, self._observe)
        self.uploads = Uploads(self.limits)
        self.metrics = Metrics(
            self.models,
            {
                "falconet_queue_pictures": ("Pictures that wait for a worker", lambda: self.workers.waiting),
                "falconet_running_pictures": ("Pictures that are worked on", lambda: self.workers.running),
                "falconet_workers": ("Threads that work on pictures", lambda: self.workers.count),
                "falconet_held_bytes": ("Bytes of requests that are not answered yet", lambda: self.uploads.held),
            },
        )
        self.watch = Watch(
            self.models, lambda one, taken: self.metrics.reload(one.source.name, taken=taken), seconds=look
        )
        self.stopping = False

    def start(self) -> None:
        """Begin to work and to watch."""
        self.workers.start()
        self.watch.start()

    def refuse(self) -> None:
        """Take no more requests; in the event loop. Bodies that do not come soon are waited for no longer."""
        self.stopping = True
        self.uploads.stop(self.limits.stop / 3)

    def close(self) -> None:
        """End all threads, once the pictures at hand are done."""
        self.watch.stop()
        self.workers.stop()

    def _observe(self, job: Job, answered: Answered) -> None:
        self.metrics.picture(job.version.name, answered)
