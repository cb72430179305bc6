"""What a service lets in, and how long it waits."""

from dataclasses import dataclass

from falconet.core.cpus import usable_cpus
from falconet.core.errors import ConfigError

MOST_WORKERS = 16
"""Each takes memory for the layers of a picture."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a service lets in, and how long it waits.

    Attributes:
        bytes: of a request's body.
        pixels: of a picture, as its header says.
        pictures: of a request.
        queue: pictures that wait for a worker, of all requests.
        memory: bytes of the bodies of all requests that are not answered yet.
        workers: pictures that are worked on at once; None takes the usable CPUs.
        deadline: seconds from a request's last byte to its answer.
        client: seconds that a client has for sending a request, and for taking its answer.
        stop: seconds that requests have that are under way when the service is stopped.

    Raises:
        ConfigError: a limit that lets nothing in.
    """

    bytes: int = 20 * 10**6
    pixels: int = 25 * 10**6
    pictures: int = 16
    queue: int = 64
    memory: int = 128 * 10**6
    workers: int | None = None
    deadline: float = 10.0
    client: float = 20.0
    stop: float = 15.0

    def __post_init__(self) -> None:
        for name in ("bytes", "pixels", "pictures", "queue", "memory", "deadline", "client", "stop"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: expected a number above 0, but got {getattr(self, name)!r}")
        if self.bytes > self.memory:
            raise ConfigError(
                f"bytes: a request may have {self.bytes} bytes, more than the {self.memory} that all requests together "
                "may have; raise that, or lower this"
            )
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers: expected a whole number from 1, but got {self.workers!r}")

    @property
    def most_pictures(self) -> int:
        """Pictures of a request: those that find a place in an empty queue."""
        return min(self.pictures, self.queue)


def usual_workers(threads: int = 1) -> int:
    """Workers that keep all usable CPUs busy, each with so many threads."""
    return max(1, min(usable_cpus() // threads, MOST_WORKERS))
