"""What the pool of workers is told: how many there are, and who hears of them. It does nothing."""

from dataclasses import dataclass
from typing import Protocol

from pullcord.link.values import Offer


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How many worker processes there are. Times are seconds."""

    target: str
    """What they import, such as `app:server`."""
    workers: int = 1
    """Shared workers."""
    spares: int = 0
    """Warm workers that wait for runs which have a process for themselves."""
    pool_workers: int = 1
    """Warm workers for each set of resources that runnables ask for."""
    max_pool_workers: int = 4
    """Workers of each set at once, while runs wait for them."""
    max_processes: int = 64
    """Workers alive at once; a run that needs another waits, PENDING."""
    isolate_all: bool = False
    """Whether every run has a process for itself, whatever its runnable says."""
    threads: int = 32
    """Sync runs at work in one shared worker."""
    loops: int = 8
    """Event loops of one shared worker, where others are blocked."""
    queue: int = 10_000
    """Sync runs that wait for a thread of one; more are refused."""
    silence: float = 5.0
    """A worker that answers no ping, or begins no run that it could begin, for so long is
    retired."""
    max_silence: float = 60.0
    """One that answers none for so long is killed."""
    max_memory: int | None = None
    """Bytes; a worker that holds more is killed."""
    slow_after: float = 1.0
    """A worker whose answers are slow for so long gets no new runs until they are quick again."""
    engine: str = "{}"
    """EngineOptions as JSON, for the worker's own threads and loops."""
    log_level: str = "info"
    log_json: bool = False
    disclosure: str = "full"
    """How much callers see of errors: `full`, `type` or `id`."""


class Listener(Protocol):
    """Is notified, on the pool's loop, of what concerns the whole server."""

    def offered(self, offers: list[Offer]) -> None:
        """A worker reported what the author's module serves."""

    def unready(self, words: str) -> None:
        """The author's module cannot be served."""

    def healthy(self, is_so: bool) -> None:
        """Whether runs can be executed now; False while workers crash one after the other."""

    def output(self, name: str, pid: int, data: bytes) -> None:
        """A worker wrote to its stdout or stderr; nothing: it closed that."""
