"""How soon a worker is started again after one that failed: at once, and later and later in a loop.

A worker fails that dies by itself or cannot import what it must serve. Which death counts, and what
is started, is the pool's business.
"""

import time

_FIRST, _LONGEST = 0.1, 30.0
"""Seconds between the second failure in a row and the next start; doubled with each, up to that."""
_SOON = 10.0
"""Seconds: a worker that lived for longer begins no loop, whatever came before it."""
_LOOP = 3
"""Failures in a row from which on this is a crash loop."""


class Restarts:
    """The failures in a row of one kind of workers."""

    def __init__(self) -> None:
        self._failures = 0
        self._last = 0.0

    def failed(self, lived: float) -> None:
        """A worker failed, after so many seconds."""
        self._failures = self._failures + 1 if lived < _SOON else 1
        self._last = time.monotonic()

    def reset(self) -> None:
        """What made them fail is gone, as far as is known."""
        self._failures = 0

    @property
    def is_looping(self) -> bool:
        """Whether workers fail one after the other."""
        return self._failures >= _LOOP

    def delay(self) -> float:
        """Seconds until the next one may be started."""
        if self._failures < 2:
            return 0.0
        backoff = min(_FIRST * 2.0 ** (self._failures - 2), _LONGEST)
        return max(0.0, self._last + backoff - time.monotonic())
