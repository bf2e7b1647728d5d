"""Records stops of runs that are live here in a store that outlives the process.

The stop was delivered before: no store that is slow or away delays it. What waits for the store is
the answer, for a limited time. What a stop does to a run is the run's own business.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from pullcord.engine.journal import Journal
from pullcord.engine.live.live import LiveRun
from pullcord.engine.ports import CancelRequest, EndedRun, RunStore
from pullcord.run.errors import StoreUnavailable
from pullcord.run.record import Receipt

PATIENCE = 5.0
"""Seconds that an answer waits for the store."""
_THREADS = 16
"""That many stops share a commit."""

_STOPPING = (
    "the run is being stopped here all the same, but the store does not answer, so the stop is not"
    " recorded yet; ask again"
)
_ENDED = "the run has ended here, but the store has not taken its end yet; ask again"


class Recording:
    """The answer to one canceller, once it is true and will stay so."""

    def __init__(self, live: LiveRun) -> None:
        self._live = live
        self._answer: Future[Receipt] = Future()
        self.is_recorded = False
        """Whether the store has the stop; its end may not be there yet."""

    def wait(self) -> Receipt:
        """Blocks until the store has the stop, or the run's end, but not for long.

        Raises StoreUnavailable.
        """
        try:
            return self._answer.result(PATIENCE)
        except TimeoutError:
            return self._too_late()

    async def receipt(self) -> Receipt:
        """The same for a loop."""
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._answer), PATIENCE)
        except TimeoutError:
            return self._too_late()

    def answer_at_end(self) -> None:
        """The answer is that of the run's end, as soon as the store has it."""
        self._live.ending.call_back(self.answer)

    def answer(self) -> None:
        """The answer is what is true now."""
        if self._answer.set_running_or_notify_cancel():
            self._answer.set_result(self._live.receipt())

    def fail(self, error: BaseException) -> None:
        """The store did not answer, or not as it should."""
        if self._answer.set_running_or_notify_cancel():
            refusal = StoreUnavailable(_STOPPING, stopping=True)
            refusal.__cause__ = error
            self._answer.set_exception(refusal)

    def _too_late(self) -> Receipt:
        if self.is_recorded:
            return self._live.receipt()
        if self._live.cancellation is None:
            raise StoreUnavailable(_ENDED)
        raise StoreUnavailable(_STOPPING, stopping=True)


class Recorder:
    """Asks the store, in a few threads of its own. Any thread may call."""

    def __init__(self, store: RunStore, journal: Journal) -> None:
        self._store = store
        self._journal = journal
        self._changed = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._threads = self._idle = 0
        self._closed = False

    def record(self, live: LiveRun) -> Recording:
        """A stop was delivered to this run, or it had ended before: records what stands."""
        recording = Recording(live)
        if live.cancellation is None:  # its end was decided before, and the store is being asked
            recording.answer_at_end()
        else:
            self._submit(lambda: self._record(live, recording))
        return recording

    def close(self) -> None:
        """Asks the store for nothing more."""
        with self._changed:
            self._closed = True
            self._jobs.clear()
            self._changed.notify_all()

    # --- inside

    def _record(self, live: LiveRun, recording: Recording) -> None:
        cancellation = live.cancellation
        assert cancellation is not None
        request = CancelRequest(cancellation, live.machine.stopping.grace)
        try:
            answer = self._store.request_stop(*live.key, request, before_start=False)
            # A child that the store has not heard of: the journal brings it, and its stop.
            if answer is None and not self._journal.wait_written(live, PATIENCE):
                raise StoreUnavailable()
        except Exception as error:
            recording.fail(error)
            return
        recording.is_recorded = True
        if isinstance(answer, EndedRun) or live.state.is_terminal:
            recording.answer_at_end()
        else:
            recording.answer()

    def _submit(self, job: Callable[[], None]) -> None:
        with self._changed:
            if self._closed:
                return
            self._jobs.append(job)
            if len(self._jobs) > self._idle and self._threads < _THREADS:
                self._threads += 1
                name = f"pullcord-recorder-{self._threads}"
                threading.Thread(target=self._run, name=name, daemon=True).start()
            self._changed.notify()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            job()
            del job  # or this thread, waiting, would keep the last run alive

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._jobs or self._closed)
            self._idle -= 1
            return None if self._closed else self._jobs.popleft()
