"""The garbage collector of a worker, in a thread of its own.

Python collects in whichever thread makes an object, and an author's finalizers run there: one that
blocks would block the link, and every stop with it. Here they run in this thread and in no other.
"""

import gc
import threading

_EVERY = 0.05
"""Seconds between two looks at what there is to collect."""
_YOUNG, _OLDER = 10_000, 10
"""Objects made, and younger collections done, after which the next generation is collected."""


def collect_aside() -> None:
    """Moves garbage collection into a thread of its own."""
    gc.disable()
    threading.Thread(target=_run, name="pullcord-collector", daemon=True).start()


def _run() -> None:
    pause = threading.Event()
    while True:
        pause.wait(_EVERY)
        young, middle, old = gc.get_count()
        if old > _OLDER:
            gc.collect()
        elif middle > _OLDER:
            gc.collect(1)
        elif young > _YOUNG:
            gc.collect(0)
