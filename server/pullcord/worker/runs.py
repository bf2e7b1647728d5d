"""`agent.run()` inside a worker: the control process admits the run, and it executes here.

There is one engine, in the control process; a worker never makes a second one. These are its verbs
as the in-process face uses them, carried by the link.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from pullcord.link import frames_pb2 as pb
from pullcord.link.values import data_bytes, fill_decisions, fill_offer, fill_spec, question
from pullcord.run.cancel import CancelRequest
from pullcord.run.errors import RunNotFound
from pullcord.run.events import Event
from pullcord.run.gate import described
from pullcord.run.record import Decision, Receipt, Run, RunSpec
from pullcord.run.runnable import Runnable
from pullcord.run.scope import Scope
from pullcord.run.usage import Usage
from pullcord.v1 import run_service_pb2
from pullcord.wire.event import event_of
from pullcord.wire.run import fill_cancellation, receipt_of, run_of

if TYPE_CHECKING:
    from pullcord.worker.host import Host
    from pullcord.worker.link import Link


class LinkRuns:
    """Fills `Runs` by the link, for the runs of one scope."""

    def __init__(self, host: "Host", link: "Link", scope: Scope) -> None:
        self._host = host
        self._link = link
        self._scope = scope

    def follow(
        self,
        runnable: Runnable,
        spec: RunSpec,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        parent_run_id: str = "",
    ) -> "LinkWatcher":
        """Admits a run, or finds the one that this spec has started already; a watcher of it."""
        key = self._host.expect(runnable, spec.given, loop)
        frame = question(self._scope)
        ask = frame.ask.follow_run
        ask.key = key
        ask.parent_run_id = parent_run_id
        fill_offer(ask.offer, runnable, described(runnable))
        fill_spec(ask.spec, spec)
        if (data := data_bytes(spec.input_data)) is not None:
            ask.data = data
        try:
            following = self._link.ask(None, frame).following
        except BaseException:
            self._host.forget(key)
            raise
        return LinkWatcher(self, self._link, following.run_id, following.watch)

    def usage(self, run_id: str) -> Usage:
        """What a run has used so far. Raises RunNotFound."""
        here = self._host.usage(self._scope, run_id)
        return self.get(run_id).usage if here is None else here

    def get(self, run_id: str) -> Run:
        """A run as it is now. Raises RunNotFound."""
        frame = question(self._scope)
        frame.ask.get = run_id
        return run_of(self._link.ask(None, frame).run)

    def cancel(self, run_id: str, request: CancelRequest, *, before_start: bool = False) -> Receipt:
        """Stops a run, wherever it is in its life."""
        frame = question(self._scope)
        cancel = frame.ask.cancel
        cancel.run_id = run_id
        cancel.before_start = before_start
        fill_cancellation(cancel.cancellation, request.cancellation)
        if request.grace_period is not None:
            cancel.grace_period = request.grace_period
        return receipt_of(self._link.ask(None, frame).receipt)

    def continue_run(self, run_id: str, decisions: Sequence[Decision], actor: str = "") -> Run:
        """Brings a paused run the decision on every call that waits."""
        frame = question(self._scope)
        ask = frame.ask.continue_run
        ask.run_id = run_id
        ask.actor = actor
        fill_decisions(ask.decisions, decisions)
        return run_of(self._link.ask(None, frame).run)

    def on_end(self, run_id: str, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back once, in the link's thread, when the run has ended or is unknown."""
        frame = question(self._scope)
        frame.ask.wait = run_id
        called = threading.Lock()

        def once(answer: pb.Answer | None) -> None:
            if called.acquire(blocking=False) and answer is not None:
                callback()

        self._link.ask_then(None, frame, once)
        return lambda: once(None)

    def owns_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is a run loop, which no caller may block to wait for a run."""
        return self._host.executor.owns_loop(loop)


class LinkWatcher:
    """One reader of one run's events, which the control process keeps the place of."""

    def __init__(self, runs: LinkRuns, link: "Link", run_id: str, number: int) -> None:
        self._runs = runs
        self._link = link
        self.run_id = run_id
        self._number = number
        self._closed = False
        self._used = Usage()
        self.ended = False
        """Whether the terminal event was taken."""

    def usage(self) -> Usage:
        """What the run has used so far."""
        if not self.ended:
            with suppress(RunNotFound):
                self._used = self._runs.usage(self.run_id)
        return self._used

    def close(self) -> None:
        """Leaves. The last watcher to leave a live run sets off its disconnect policy."""
        if not self._closed:
            self._closed = True
            self._link.outbox.put(None, pb.UpFrame(closed=self._number))

    def _take(self) -> pb.UpFrame:
        frame = pb.UpFrame()
        frame.ask.take = self._number
        return frame

    def _events(self, answer: pb.Answer) -> Iterator[Event]:
        for data in answer.events.responses:
            event = event_of(run_service_pb2.WatchRunResponse.FromString(data).event)
            if event is not None:
                if event.is_terminal:
                    self.ended = True
                    self._used = getattr(event.payload, "usage", self._used)
                yield event

    def __iter__(self) -> Iterator[Event]:
        """Blocks this thread between events; ends after the terminal one. Closes the watcher."""
        with closing(self):
            while not self.ended:
                yield from self._events(self._link.ask_interruptibly(self._take()))

    async def __aiter__(self) -> AsyncGenerator[Event, None]:
        """Awaits between events; ends after the terminal one. Closes the watcher."""
        with closing(self):
            while not self.ended:
                for event in self._events(await self._link.ask_async(None, self._take())):
                    yield event
