"""The verbs: what a caller of any transport can ask about runs. Domain values in, values out.

Each runs on the RPC loop and waits for nobody's code. A run that is live here is found, followed,
waited for and cancelled without a thread; what may wait for the store waits in its lane. Nothing
here knows a message, a status code or a connection.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

from pullcord.engine.directory import RunHandle
from pullcord.engine.engine import Engine
from pullcord.engine.log.watch import Watcher
from pullcord.engine.paging import Page
from pullcord.run.caller import Caller
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.cancel import CancelRequest as StopRequest
from pullcord.run.plain import UnreadData
from pullcord.run.record import CancelResult, Receipt, Run, RunSpec
from pullcord.run.requests import (
    CancelManyRequest,
    CancelRequest,
    ContinueRequest,
    ListRequest,
    WaitRequest,
    WatchRequest,
)
from pullcord.run.runnable import Runnable, RunnableInfo
from pullcord.service.following import Following
from pullcord.service.lanes import Lane, Lanes
from pullcord.service.notifier import Notifier
from pullcord.service.readers import Readers
from pullcord.service.tracing import trace_of
from pullcord.service.turnstile import Turn

T = TypeVar("T")

SMALL_DATA = 2 * 1024
"""Bytes of a run's data that the loop itself reads: they hold a thousand values at most."""

_LONG_ANSWERS = 64 * 1024
"""Characters of answers from which on a decision is brought by a thread."""

ANSWER_MARGIN = 0.05
"""Seconds before a caller's deadline at which a verb that waits answers with what there is."""


class Catalog(Protocol):
    """What is on offer. It may change while it is used: workers report it."""

    def find(self, name: str) -> Runnable:
        """The runnable of this full name. Raises RunnableNotFound."""

    def all(self) -> Sequence[RunnableInfo]:
        """What callers may know of each, in order of name."""


class Verbs:
    """Made and used on one loop. Every verb raises the typed errors of `run.errors`."""

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        lanes: Lanes,
        notifier: Notifier,
        readers: Readers,
    ) -> None:
        self._engine = engine
        self._catalog = catalog
        self._lanes = lanes
        self._notifier = notifier
        self._readers = readers

    # --- starting

    async def turn(self) -> Turn:
        """A start's turn. Taken before the request is read, since reading takes the loop's time."""
        return await self._lanes.turnstile.enter()

    async def start(self, caller: Caller, spec: RunSpec) -> Run:
        """Starts a run in the background; it goes on without a watcher."""

        def start() -> Run:
            with trace_of(caller.trace):
                return self._engine.start(runnable, spec)

        runnable = self._catalog.find(spec.runnable)
        return await self._ask(self._lanes.starts, start, aside=_is_large(spec))

    async def run(
        self, caller: Caller, spec: RunSpec, begun: Callable[[], None] = lambda: None
    ) -> Following:
        """Starts a run and follows it. A caller that leaves meanwhile has left its run, too.

        `begun` is called once what the run said at first is sent.
        """

        def follow() -> Watcher:
            with trace_of(caller.trace):
                return self._engine.follow(runnable, spec, deadline=caller.deadline)

        runnable = self._catalog.find(spec.runnable)
        watcher = await self._watcher(self._lanes.starts, follow, aside=_is_large(spec))
        return Following(watcher, self._notifier, self._readers, begun)

    # --- looking

    async def watch(self, caller: Caller, request: WatchRequest) -> Following:
        """Follows a run that exists, live or ended."""
        run_id, after_sequence = request.run_id, request.after_sequence
        here = self._engine.find_here(run_id)
        if here is not None:
            watcher = here.watch(after_sequence)
        else:
            watcher = await self._watcher(
                self._lanes.lookups, lambda: self._engine.watch(run_id, after_sequence)
            )
        return Following(watcher, self._notifier, self._readers)

    async def wait(self, caller: Caller, request: WaitRequest) -> Run:
        """A run once it has ended, or as it is after the request's time, or the caller's."""
        run = await self._find(request.run_id)
        await self._end_of(run, request.timeout, caller)
        return run.snapshot()

    async def get(self, caller: Caller, run_id: str) -> Run:
        """A run as it is now."""
        return (await self._find(run_id)).snapshot()

    async def list(self, caller: Caller, request: ListRequest) -> Page:
        """One page of runs, the newest first."""
        return await self._lanes.lists.ask(
            self._engine.list_page, request.filter, request.page_size, request.page_token
        )

    async def runnables(self, caller: Caller) -> Sequence[RunnableInfo]:
        """What can be run, in order of name."""
        return self._catalog.all()

    # --- continuing and stopping

    async def continue_run(self, caller: Caller, request: ContinueRequest) -> Run:
        """Brings a paused run the decision on every call that waits; the run as it then is."""
        run = await self._find(request.run_id)
        if sum(len(made.answer or "") for made in request.decisions) < _LONG_ANSWERS:
            return run.decide(request.decisions, caller.name)
        return await self._lanes.lookups.ask(run.decide, request.decisions, caller.name)

    async def cancel(self, caller: Caller, request: CancelRequest) -> Receipt:
        """Stops a run, wherever it is in its life; the receipt says what is true on return."""
        stop = _stop(caller, request.reason, request.mode, request.grace_period, request.cause)
        run = self._engine.find_here(request.run_id)
        if run is None:
            return await self._ask(
                self._lanes.cancels,
                lambda: self._engine.cancel(
                    request.run_id, stop, before_start=request.before_start
                ),
            )
        receipt = run.cancel(stop)
        if (recording := run.recording()) is not None:
            receipt = await recording.receipt()
        if request.wait and receipt.outcome is CancelOutcome.REQUESTED:
            await self._end_of(run, request.wait, caller)
            receipt = run.receipt()
        return receipt

    async def cancel_many(
        self, caller: Caller, request: CancelManyRequest
    ) -> Sequence[CancelResult]:
        """Stops every live run that the filter matches; what was achieved, the newest first."""
        results = await self._lanes.lists.ask(
            self._engine.cancel_many,
            request.filter,
            _stop(caller, request.reason, request.mode),
            validate_only=request.validate_only,
            max_affected=request.max_affected,
        )
        return [CancelResult(run_id, outcome) for run_id, outcome in results]

    # --- inside

    async def _find(self, run_id: str) -> RunHandle:
        """The run, held: it answers though it ends and is forgotten meanwhile."""
        here = self._engine.find_here(run_id)
        if here is not None:
            return here
        return await self._ask(self._lanes.lookups, lambda: self._engine.find(run_id))

    async def _end_of(self, run: RunHandle, timeout: float | None, caller: Caller) -> None:
        """Waits for a run's end, but not longer than the caller does."""
        if caller.deadline is not None:
            remaining = max(0.0, caller.deadline - ANSWER_MARGIN)
            timeout = remaining if timeout is None else min(timeout, remaining)
        forget: list[Callable[[], None]] = []

        def arm(wake: Callable[[], None]) -> bool:
            forget.append(run.on_end(wake))
            return True

        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._notifier.wait(arm, heartbeat=False)
        finally:
            for call in forget:
                call()

    async def _ask(self, lane: Lane, call: Callable[[], T], *, aside: bool = False) -> T:
        """Calls the engine: here, unless its store may block, or `aside` the call takes long."""
        return await lane.ask(call) if aside or self._engine.blocking else call()

    async def _watcher(
        self, lane: Lane, call: Callable[[], Watcher], *, aside: bool = False
    ) -> Watcher:
        """The same for a watcher, which is closed if its caller has left meanwhile."""
        if not aside and not self._engine.blocking:
            return call()
        made = lane.submit(call)
        try:
            return await asyncio.wrap_future(made)
        except asyncio.CancelledError:
            made.add_done_callback(_close)
            raise


def _is_large(spec: RunSpec) -> bool:
    """Whether to compare this spec with that of an earlier start may take long."""
    data = spec.input_data
    return isinstance(data, UnreadData) and data.nbytes > SMALL_DATA


def _close(made: "Future[Watcher]") -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().close()


def _stop(
    caller: Caller,
    reason: str,
    mode: CancelMode,
    grace_period: float | None = None,
    cause: CancelCause = CancelCause.USER,
) -> StopRequest:
    return StopRequest(Cancellation(cause, caller.name, reason, mode), grace_period)
