"""Whether threads of a worker contend for its interpreter, from how late its answers are.

Values in, a verdict out: who pings and what follows from it is not known here.
"""

from collections import deque

_LATE = 0.003
"""Seconds that an answer takes at least where several threads compute; one that idles takes 0.3 ms,
and one whose only thread computes takes 1."""
_SILENT = 0.4
"""Seconds after which an answer is late for whatever reason: the worker may be frozen."""
_BUSY = 0.1
"""Of a processor: a worker that uses less is late because the machine is busy, not by itself. One
that computes gets that much of a machine that six others keep busy, too."""


class Contention:
    """The last answers of one worker. It contends once most were late, until all are in time."""

    def __init__(self, samples: int) -> None:
        self._late: deque[bool] = deque(maxlen=samples)
        self.found = False
        """Whether its threads contend."""

    def may_be_late(self, share: float) -> bool:
        """Whether a worker that uses this share of a processor can be late by itself, or was."""
        return share >= _BUSY or any(self._late)

    def answered(self, after: float, share: float) -> None:
        """An answer took so many seconds; the worker used that share of a processor meanwhile."""
        late = self._late
        # Computing threads hand the interpreter over now and then, so that some answers are quick.
        late.append(after >= _SILENT or (after >= _LATE and share >= _BUSY))
        if len(late) == late.maxlen:
            self.found = any(late) if self.found else 2 * sum(late) > len(late)
