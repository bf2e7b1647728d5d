"""The pulse of workers: pings, and what slow and missing answers mean.

Slow for a while: threads there compute and contend for one interpreter, so new runs go elsewhere.
Silent for seconds: something holds the interpreter, and the worker is retired, as is one that
answers and begins no run; silent for much longer: it is killed, because none of its runs can say
anything or be stopped. A late loop of our
own is held against nobody. Here is also the look at how much memory workers hold.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pullcord.executors.workers.contention import Contention
from pullcord.executors.workers.weight import in_words
from pullcord.link import frames_pb2 as pb
from pullcord.link.values import IMPORT_SHOWN_AFTER

if TYPE_CHECKING:
    from pullcord.executors.workers.connection import Connection
    from pullcord.executors.workers.launcher import Worker
    from pullcord.executors.workers.options import WorkerOptions
    from pullcord.executors.workers.pool import WorkerExecutor

_log = logging.getLogger("pullcord.workers")

_EVERY = 0.2
"""Seconds between two beats."""
_LATE = 0.02
"""Seconds by which our own loop may be late for its measurements to count."""


_IDLE_EVERY = 5
"""Beats between two pings of a worker that could not be late by itself."""
_COMES_WITHIN = 10.0
"""Seconds after which a worker is missed that another has to place."""
_WEIGH_EVERY = 5
"""Beats between two looks at the memory that workers hold."""


class _Beats:
    def __init__(self, samples: int) -> None:
        self.is_missed = self.import_is_shown = False
        self.sent: dict[int, float] = {}
        self.contention = Contention(samples)
        self.used = 0.0
        """Seconds of processor time, at the last beat."""
        self.share = 0.0
        """Of a processor, between the last two beats."""

    def weigh(self, worker: "Worker", elapsed: float) -> None:
        """Looks how much of a processor the worker used since the last beat."""
        used = worker.processor_time()
        self.share = (used - self.used) / elapsed if self.used else 0.0
        self.used = used


class Pulse:
    """Pings every worker and remembers how it answers."""

    def __init__(self, pool: "WorkerExecutor", options: "WorkerOptions") -> None:
        self._pool = pool
        self._options = options
        self._samples = max(2, round(options.slow_after / _EVERY))
        self._beats: dict[Connection, _Beats] = {}
        self._number = 0
        self._beat = 0

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
                    self._show_import(connection, beats, now)
                    continue
                if self._is_cut(connection, beats):
                    continue
                beats.weigh(connection.process, now - asked)
                silent = now - min(beats.sent.values(), default=now)
                if on_time and silent > 2 * _EVERY:
                    self._heard(connection, beats, silent)
                if on_time and silent > self._options.silence:
                    self._silent(connection, silent)
                elif on_time and not connection.retiring and self._begins_none(connection, now):
                    self._pool.begins_none(connection, self._options.silence)
                self._ask(connection, beats, now)
            self._pool.staff.trim()
            self._weigh_now_and_then(alive)

    def _is_cut(self, connection: "Connection", beats: _Beats) -> bool:
        """Whether the link is cut: how long that may last is its launcher's to know."""
        if connection.process.is_cut:
            beats.sent.clear()
            return True
        if connection.was_passed_over:
            connection.was_passed_over = False
            self._pool.has_room()
        return False

    def _ask(self, connection: "Connection", beats: _Beats, now: float) -> None:
        """Pings a worker. Each ping wakes both processes, so one that is hardly at work, and keeps
        no run waiting, gets few."""
        contention = beats.contention
        if (
            contention.may_be_late(beats.share)
            or beats.sent
            or self._beat % _IDLE_EVERY == 0
            or any(not execution.begun for execution in connection.runs.values())
        ):
            if len(beats.sent) < 64:
                self._number += 1
                beats.sent[self._number] = now
                connection.send(pb.DownFrame(ping=self._number))
        else:
            contention.answered(0.0, beats.share)

    def _silent(self, connection: "Connection", seconds: float) -> None:
        options = self._options
        if not connection.retiring:
            words = f"it did not answer for {options.silence:g} seconds"
            _log.warning("worker %d takes no new runs: %s", connection.process.pid, words)
            self._pool.retire(connection, words)
        if seconds > options.max_silence:
            self._pool.kill(connection, f"it did not answer for {options.max_silence:g} seconds")

    def _begins_none(self, connection: "Connection", now: float) -> bool:
        """Whether a run waits there that a free thread or loop should have begun: what begins runs
        in that process is torn, such as by code that replaced parts of `threading`."""
        runs = connection.runs.values()
        since = min((run.assigned_at for run in runs if not run.reached), default=now)
        if now - since <= self._options.silence:
            return False
        at_work = sum(1 for run in runs if run.reached)
        return at_work < min(self._options.threads, self._options.loops)

    def _show_import(self, connection: "Connection", beats: _Beats, now: float) -> None:
        if not connection.process.has_come:
            if now - connection.asked_at > _COMES_WITHIN and not beats.is_missed:
                beats.is_missed = True
                _log.warning(
                    "worker %d has not come for %g seconds: there may be no room for it; runs wait",
                    connection.process.pid,
                    _COMES_WITHIN,
                )
            connection.started_at = now
            return
        if now - connection.started_at > IMPORT_SHOWN_AFTER and not beats.import_is_shown:
            beats.import_is_shown = True
            _log.warning(
                "worker %d has been importing %s for %g seconds; its stderr shows where it is",
                connection.process.pid,
                self._options.target,
                IMPORT_SHOWN_AFTER,
            )

    def _weigh_now_and_then(self, connections: "Iterable[Connection]") -> None:
        self._beat += 1
        if self._beat % _WEIGH_EVERY:
            return
        for connection in connections:
            most, why = self._most(connection)
            if most is not None and (held := connection.process.resident()) > most:
                words = f"it held {in_words(held)} of memory, and may hold {in_words(most)}"
                self._pool.kill(connection, f"{words} ({why})")

    def _most(self, connection: "Connection") -> tuple[int | None, str]:
        """The memory that a worker may hold, and what says so."""
        most, resources = self._options.max_memory, connection.kind.resources
        asked = None if resources is None else resources.memory_bytes
        if asked is not None and (most is None or asked < most):
            return asked, "resources.memory of its runnable"
        return most, "PULLCORD_MAX_WORKER_MEMORY"

    def ponged(self, connection: "Connection", number: int) -> None:
        """An answer has come."""
        beats = self._beats.get(connection)
        sent = beats.sent.pop(number, None) if beats is not None else None
        if beats is not None and sent is not None:
            self._heard(connection, beats, time.monotonic() - sent)

    def _heard(self, connection: "Connection", beats: _Beats, after: float) -> None:
        """An answer took so long, or is due for so long already."""
        was_slow = beats.contention.found
        beats.contention.answered(after, beats.share)
        if connection.kind.takes_one:
            return
        if beats.contention.found is not was_slow:
            self._pool.staff.pace_changed()
        if not beats.contention.found:
            return
        waits = any(not execution.begun for execution in connection.runs.values())
        if waits and self._pool.staff.has_room_beside(connection):
            self._pool.placing.move(connection)

    def is_slow(self, connection: "Connection") -> bool:
        """Whether threads there contend for the interpreter."""
        beats = self._beats.get(connection)
        return beats is not None and beats.contention.found
