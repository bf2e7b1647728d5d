"""The pulse of workers: pings, and what slow and missing answers mean.

Slow for a while: threads there compute and share one interpreter, so new runs go elsewhere. Silent
for seconds: something holds the interpreter, and the worker is retired. A late loop of our own is
held against nobody.
"""

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from pullcord.link import frames_pb2 as pb

if TYPE_CHECKING:
    from pullcord.executors.workers.connection import Connection
    from pullcord.executors.workers.pool import WorkerExecutor

_EVERY = 0.2
"""Seconds between two pings."""
_SLOW = 0.008
"""Seconds that an answer takes where the interpreter is shared with threads that compute."""
_LATE = 0.02
"""Seconds by which our own loop may be late for its measurements to count."""


class _Beats:
    def __init__(self, samples: int) -> None:
        self.sent: dict[int, float] = {}
        self.recent: deque[float] = deque(maxlen=samples)


class Pulse:
    """Pings every worker and remembers how it answers."""

    def __init__(self, pool: "WorkerExecutor", silence: float, slow_after: float) -> None:
        self._pool = pool
        self._silence = silence
        self._samples = max(2, round(slow_after / _EVERY))
        self._beats: dict[Connection, _Beats] = {}
        self._number = 0

    async def beat(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            asked = time.monotonic()
            await asyncio.sleep(_EVERY)
            now = time.monotonic()
            on_time = now - asked - _EVERY < _LATE
            alive = self._pool.connections()
            self._beats = {c: self._beats.get(c) or _Beats(self._samples) for c in alive}
            for connection, beats in self._beats.items():
                if not connection.ready:
                    continue
                oldest = min(beats.sent.values(), default=now)
                if on_time and now - oldest > 2 * _EVERY:
                    beats.recent.append(now - oldest)
                    self._look(connection, beats)
                if on_time and now - oldest > self._silence:
                    self._pool.retire(
                        connection, f"it did not answer for {self._silence:g} seconds"
                    )
                if len(beats.sent) < 64:
                    self._number += 1
                    beats.sent[self._number] = now
                    connection.send(pb.DownFrame(ping=self._number))

    def ponged(self, connection: "Connection", number: int) -> None:
        """An answer has come."""
        beats = self._beats.get(connection)
        sent = beats.sent.pop(number, None) if beats is not None else None
        if beats is not None and sent is not None:
            beats.recent.append(time.monotonic() - sent)
            self._look(connection, beats)

    def _look(self, connection: "Connection", beats: _Beats) -> None:
        if connection.exclusive or not self.is_slow(connection):
            return
        waits = any(not execution.begun for execution in connection.runs.values())
        if waits and self._pool.has_room_beside(connection):
            self._pool.move(connection)

    def is_slow(self, connection: "Connection") -> bool:
        """Whether every answer of late took long."""
        beats = self._beats.get(connection)
        if beats is None or len(beats.recent) < self._samples:
            return False
        return min(beats.recent) > _SLOW
