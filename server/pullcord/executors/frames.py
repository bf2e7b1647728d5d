"""The current stacks of this process's threads and tasks. Nothing is decided here."""

import asyncio
import gc
import sys
import threading
from types import FrameType
from typing import Any

_MAX_LINES = 100

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


def stack_of(task: "asyncio.Task[Any]") -> str:
    """Where a task waits: a line for each coroutine, the outermost first, at most 100.

    `Task.get_stack` has only the outermost one of a task that waits. Raises RuntimeError if the
    task moves on meanwhile.
    """
    lines: list[str] = []
    waits: Any = task.get_coro()
    while waits is not None and len(lines) < _MAX_LINES:
        if (frame := _first(waits, "cr_frame", "gi_frame", "ag_frame")) is not None:
            lines.append(f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}\n")
        waits = _first(waits, "cr_await", "gi_yieldfrom", "ag_await")
    return "".join(lines)


def _first(waits: object, *names: str) -> Any:
    return next((found for name in names if (found := getattr(waits, name, None))), None)
