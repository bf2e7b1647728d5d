"""Keeps ended runs in this process, for one replica, until they expire or others need the room.

Nothing here survives the process. What a run is, and when it ends, is the engine's to know.
"""

import threading
from collections import OrderedDict

from pullcord.engine.clock import Clock
from pullcord.engine.ports import FinishedRun
from pullcord.run.record import Run, RunFilter


class MemoryStore:
    """A RunStore of this process alone. The oldest runs are forgotten first."""

    blocking = False

    def __init__(self, clock: Clock, max_runs: int, max_bytes: int) -> None:
        self._clock = clock
        self._max_runs = max_runs
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._runs: OrderedDict[str, FinishedRun] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._sessions: dict[str, list[str]] = {}
        self._bytes = 0

    def put(self, finished: FinishedRun) -> None:
        """Keeps a run that has ended."""
        run = finished.run
        size = _size(finished)
        with self._lock:
            if run.run_id in self._runs:
                self._forget(run.run_id)
            self._runs[run.run_id] = finished
            self._sizes[run.run_id] = size
            self._bytes += size
            if run.session_id:
                self._sessions.setdefault(run.session_id, []).append(run.run_id)
            self._expire()
            while self._runs and (
                len(self._runs) > self._max_runs or self._bytes > self._max_bytes
            ):
                self._forget(next(iter(self._runs)))

    def get(self, run_id: str) -> FinishedRun | None:
        """The run of this id; None where there is none, or it has expired."""
        with self._lock:
            self._expire()
            return self._runs.get(run_id)

    def select(self, matching: RunFilter) -> list[Run]:
        """The runs that match, in no order."""
        with self._lock:
            self._expire()
            kept = list(self._runs.values())
        return [finished.run for finished in kept if matching.matches(finished.run)]

    def history(self, session_id: str, runnable: str) -> list[Run]:
        """The session's runs of one runnable, in the order they ended."""
        with self._lock:
            self._expire()
            runs = [self._runs[run_id].run for run_id in self._sessions.get(session_id, ())]
        return [run for run in runs if run.runnable == runnable]

    def __len__(self) -> int:
        """Runs kept."""
        with self._lock:
            self._expire()
            return len(self._runs)

    def _expire(self) -> None:
        now = self._clock.time()
        while self._runs and next(iter(self._runs.values())).run.expire_time <= now:
            self._forget(next(iter(self._runs)))

    def _forget(self, run_id: str) -> None:
        finished = self._runs.pop(run_id)
        self._bytes -= self._sizes.pop(run_id)
        session = finished.run.session_id
        if session:
            self._sessions[session].remove(run_id)
            if not self._sessions[session]:
                del self._sessions[session]


def _size(finished: FinishedRun) -> int:
    """Bytes it takes, roughly; the caller's data as their JSON text would."""
    run, spec = finished.run, finished.spec
    calls = sum(len(call.arguments) + len(call.result) + 200 for call in run.tool_calls)
    data = sum(len(repr(d)) for d in (run.output_data, spec.input_data) if d is not None)
    return finished.log.nbytes + len(run.output) + len(spec.input) + calls + data + 2048
