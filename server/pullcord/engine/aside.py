"""Work on many runs: the first few at once, the others in a thread, in batches with pauses.

A caller may be the RPC loop, which must not be kept by thousands of runs; and a thread that
computes without a pause takes the interpreter from that loop as well. What is done is the caller's.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

BATCH = 16
"""Runs that are worked on without a pause."""
_PAUSE = 0.001
"""Seconds between two batches: about as long as one takes, so that others get half of the time."""

_log = logging.getLogger("pullcord.engine")


def in_batches(items: Iterable[T]) -> Iterator[T]:
    """Yields the items, with a pause after each batch."""
    for number, item in enumerate(items):
        if number and number % BATCH == 0:
            time.sleep(_PAUSE)
        yield item


def each(items: Sequence[T], do: Callable[[T], object]) -> None:
    """Does something with each item, in order: a batch now, the rest aside. Raises nothing."""
    _work(items[:BATCH], do)
    rest = items[BATCH:]
    if rest:
        try:
            threading.Thread(
                target=_work, args=(in_batches(rest), do), name="pullcord-aside", daemon=True
            ).start()
        except RuntimeError:  # the system gives no more threads
            _work(rest, do)


def _work(items: Iterable[T], do: Callable[[T], object]) -> None:
    for item in items:
        try:
            do(item)
        except Exception:
            _log.exception("work on one of many runs failed; the others go on")
