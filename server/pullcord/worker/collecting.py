"""The garbage collector of a worker, in a thread of its own.

Python collects in whichever thread makes an object, and an author's finalizers run there: one that
blocks would block the link, and every stop with it. Here they run in this thread and in no other.
"""

import gc
import threading
from time import sleep

_SOON, _LATER = 0.05, 0.2
"""Seconds until the next look at what there is to collect: while objects are made fast, or not."""
_YOUNG, _OLDER = 10_000, 10
"""Objects made, and younger collections done, after which the next generation is collected."""


def collect_aside() -> None:
    """Moves garbage collection into a thread of its own."""
    gc.disable()
    threading.Thread(target=_run, name="pullcord-collector", daemon=True).start()


def _run() -> None:
    wait = _SOON
    while True:
        sleep(wait)
        young, middle, old = gc.get_count()
        wait = _SOON if young * _LATER > _YOUNG * wait else _LATER
        if old > _OLDER:
            gc.collect()
        elif middle > _OLDER:
            gc.collect(1)
        elif young > _YOUNG:
            gc.collect(0)
