"""Whether files have changed, looked at no more than once a second. It reads none of them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

_LOOK_EVERY = 1.0
"""Seconds."""


class Changes:
    """The last known state of some files. Used by one thread at a time."""

    def __init__(self, paths: Sequence[Path], clock: Callable[[], float] = time.monotonic) -> None:
        self._paths = paths
        self._clock = clock
        self._looked = clock()
        self._last = self._look()

    def seen(self) -> bool:
        """Whether a file has changed since this was true last."""
        now = self._clock()
        if now < self._looked + _LOOK_EVERY:
            return False
        self._looked = now
        last, self._last = self._last, self._look()
        return last != self._last

    def _look(self) -> list[tuple[int, int, int]]:
        return [_shape(path) for path in self._paths]


def _shape(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
