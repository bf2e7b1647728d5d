"""The current stacks of this process's threads. Nothing is decided here."""

import gc
import sys
import threading
from types import FrameType

_lock = threading.Lock()


def frames() -> dict[int, FrameType]:
    """The frame of each thread, by the thread's identifier.

    Without a garbage collection in between: CPython before 3.11.8 and 3.12.1 holds the list of
    threads meanwhile, and a finalizer that lets another thread run stops the whole process.
    """
    with _lock:
        collects = gc.isenabled()
        gc.disable()
        try:
            return sys._current_frames()
        finally:
            if collects:
                gc.enable()


def frame_of(thread: int | None) -> FrameType | None:
    """The frame of one thread; None if it is not at work."""
    return None if thread is None else frames().get(thread)
