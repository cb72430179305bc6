"""What the service counts, in the text format of Prometheus."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from falconet.serving.answers import Answered
from falconet.serving.hosted import Models

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""

ANSWERED = "answered"
"""The outcome of a request that is no problem."""


class Metrics:
    """Counters and histograms of one service.

    Args:
        models: whose names and versions are told.
        state: the gauges that are read when somebody asks: name -> (help, value).
    """

    def __init__(self, models: Models, state: dict[str, tuple[str, Callable[[], float]]]) -> None:
        self._models, self._state = models, state
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "falconet_requests",
            "Requests for detection by outcome: answered, or the kind of problem",
            ("model", "outcome"),
            registry=self._registry,
        )
        self._pictures = Counter(
            "falconet_pictures", "Pictures that were answered", ("model",), registry=self._registry
        )
        self._stages = Histogram(
            "falconet_stage_seconds",
            "Seconds of a picture by stage, and of whole requests",
            ("stage",),
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._decode, self._queue, self._detect, self._request = (
            self._stages.labels(stage) for stage in ("decode", "queue", "detect", "request")
        )
        self._reloads = Counter(
            "falconet_reloads",
            "New versions of model files, taken or refused",
            ("model", "outcome"),
            registry=self._registry,
        )
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def picture(self, model: str, answered: Answered) -> None:
        """Count a picture."""
        self._pictures.labels(model).inc()
        self._decode.observe(answered.decode / 1e3)
        self._queue.observe(answered.queue / 1e3)
        self._detect.observe(answered.detect / 1e3)

    def request(self, model: str, outcome: str, seconds: float | None) -> None:
        """Count a request for detection; `model` is empty where it named none that is served."""
        self._requests.labels(model, outcome).inc()
        if seconds is not None:
            self._request.observe(seconds)

    def reload(self, model: str, *, taken: bool) -> None:
        """Count a new version of a model."""
        self._reloads.labels(model, "taken" if taken else "refused").inc()

    def collect(self) -> Iterator[Metric]:
        """What is read when somebody asks, as prometheus_client calls it."""
        for name, (text, value) in self._state.items():
            yield GaugeMetricFamily(name, text, value())
        keys = ("name", "sha256", "engine", "precision", "task")
        about = GaugeMetricFamily("falconet_model_info", "The version of each model that answers", labels=keys)
        refused = GaugeMetricFamily(
            "falconet_model_refused", "1 where the newest file of a model is refused", labels=("name",)
        )
        for one in self._models:
            card = one.card()
            about.add_metric([str(card[key]) for key in keys], 1)
            refused.add_metric([one.source.name], 0 if one.refused is None else 1)
        yield about
        yield refused

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)
