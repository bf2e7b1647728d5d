"""One run at another server: started, followed to its end, and stopped when the run here is.

The call outlives a stop by as much as it takes to hear what the remote run still made. `joining`
decides what its events mean here.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace

from pullcord.adapters.remote.joining import Joining
from pullcord.client import AsyncRunClient
from pullcord.client.calls import SpecOptions
from pullcord.client.resume import Result
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode
from pullcord.run.context import RunContext
from pullcord.run.errors import (
    CallFailed,
    ConnectionLost,
    DeadlineExceeded,
    PublicError,
    PullcordError,
    RunCancelledError,
    RunNotFound,
)
from pullcord.run.events import RunCancelled, RunCompleted, RunFailed
from pullcord.run.record import MAX_REASON_LENGTH, DisconnectPolicy
from pullcord.run.usage import Limits, Usage

_log = logging.getLogger("pullcord.remote")

_KEPT = 0.1
"""Seconds of the run's time that are kept for its own end, or half of it if there is less."""
_LAST_WORDS = 0.3
"""Seconds that are waited for a remote's terminal event once the stop is IMMEDIATE."""
_AGAIN = 0.1
"""Seconds between attempts to bring a cancel to a server that cannot be reached."""
_LEAST_COST = 1e-9
_ONE = {"max_steps": Usage(steps=1), "max_tool_calls": Usage(tool_calls=1)}
"""The work that is refused when a limit is reached. Tokens and cost reach theirs by being used."""


class RemoteRunFailed(PublicError):
    """The remote run failed; the message has the type and the words of its error."""


class RemoteCall:
    """One remote run, for one run here. Used by one task."""

    def __init__(
        self,
        client: AsyncRunClient,
        ctx: RunContext,
        name: str,
        joining: Joining,
        options: SpecOptions,
    ) -> None:
        self._client = client
        self._ctx = ctx
        self._name = name
        self._joining = joining
        self._options = options
        self._begun = False
        self._stopping = asyncio.Event()
        self._reading: asyncio.Task[Result] | None = None
        self._asking: dict[CancelMode, asyncio.Task[None]] = {}

    async def follow(self) -> None:
        """Runs it to its end. A GRACEFUL stop is the remote's to end; an IMMEDIATE one raises.

        Raises:
            RunCancelledError: it was stopped there, and the run here with it.
            RemoteRunFailed: it failed there.
            PullcordError: it was refused, or the connection was lost.
        """
        loop = asyncio.get_running_loop()

        def heard(cancellation: Cancellation) -> None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._pass_on, cancellation)

        token = self._ctx.cancel_token
        # A task of its own, so that what interrupts this one does not tear the stream.
        reading = self._reading = loop.create_task(self._read())
        forget = token.on_cancel(heard)
        try:
            await self._until_read(reading)
            if not reading.cancelled():  # else it was stopped before it had begun
                await self._end(reading)
        finally:
            forget()

    async def _until_read(self, reading: "asyncio.Task[Result]") -> None:
        stop = self._ctx.cancel_token
        try:
            await asyncio.wait([reading])
        except asyncio.CancelledError:
            if stop.cancellation is not None:
                self._pass_on(stop.cancellation)
                await asyncio.wait([reading], timeout=_LAST_WORDS)
            raise
        finally:
            await self._let_go()

    async def _read(self) -> Result:
        left = self._ctx.limits_left.timeout
        stream = self._client.run(
            self._name,
            self._ctx.input,
            timeout=None if left is None else max(left - _KEPT, left / 2),
            **self._options,
        )
        async with stream:
            async for event in stream:
                self._begun = True
                self._joining.take(event)
        if stream.result is None:
            raise self._lost("its stream ended before the run did")
        return stream.result

    async def _end(self, reading: "asyncio.Task[Result]") -> None:
        """Ends this run as the remote run ended."""
        try:
            result = reading.result()
        except DeadlineExceeded:
            late = "the remote run did not end in time"
            result = RunCancelled(Cancellation(CancelCause.DEADLINE, reason=late))
        except ConnectionLost as error:
            raise self._lost("its server cannot be reached") from error
        if isinstance(result, RunFailed):
            why = result.error
            words = f"the remote {self._name} failed: {why.type}"
            raise RemoteRunFailed(words, said=why.message)
        if isinstance(result, RunCompleted):
            return
        stop = result.cancellation
        if stop.cause is CancelCause.DISCONNECT:
            raise self._lost("the connection to its server broke, and it was stopped there")
        if stop.cause is CancelCause.DEADLINE:
            await self._out_of_time()
        if stop.cause is CancelCause.BUDGET:
            self._out_of_budget(stop.limit)
        self._ctx.cancel(replace(stop, accept_time=0.0))

    def _out_of_budget(self, limit: str) -> None:
        """The limit there is what was left here, so what was refused there is refused here.

        By that the run whose limit it is stops, which may be a parent of this one.
        """
        asked = _ONE.get(limit)
        for usage in () if asked is None else (asked, Usage() - asked):
            with suppress(RunCancelledError):
                self._ctx.use(usage, begun=True)

    async def _out_of_time(self) -> None:
        """The time of the remote run is that of this one, which is stopped a little later.

        Were this to end by itself before that, a workflow would go on to its next step.
        """
        left = self._ctx.limits_left.timeout
        if left is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(left + _KEPT):
                    await self._stopping.wait()

    def _lost(self, words: str) -> ConnectionLost:
        return ConnectionLost(f"remote {self._name}: {words}", self._ctx.run_id)

    # --- stopping

    def _pass_on(self, cancellation: Cancellation) -> None:
        """Brings a stop to the remote run, each mode once."""
        self._stopping.set()
        mode = cancellation.mode
        if mode not in self._asking and self._reading is not None and not self._reading.done():
            self._asking[mode] = asyncio.create_task(self._ask(cancellation))

    async def _ask(self, cancellation: Cancellation) -> None:
        while True:
            try:
                await self._client.cancel(
                    self._ctx.run_id,
                    cancellation.reason[:MAX_REASON_LENGTH],
                    mode=cancellation.mode,
                    grace_period=self._ctx.grace_period,
                    before_start=not self._begun,
                    cause=CancelCause.PARENT,
                    actor=cancellation.actor or None,
                )
                return
            except RunNotFound:
                return  # it is no more
            except CallFailed:
                if not self._begun and self._reading is not None:
                    self._reading.cancel()  # if it comes to its server after all, nobody is there
                    return
                await asyncio.sleep(_AGAIN)
            except PullcordError as refusal:
                _log.warning("a remote run could not be cancelled: %s", refusal)
                return

    async def _let_go(self) -> None:
        assert self._reading is not None
        tasks = [self._reading, *self._asking.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def spec_options(
    ctx: RunContext, on_disconnect: DisconnectPolicy, lease: float | None
) -> SpecOptions:
    """The options of the remote run: those of this run."""
    return SpecOptions(
        run_id=ctx.run_id,
        session_id=ctx.session_id,
        user_id=ctx.user_id,
        input_data=ctx.input_data,
        parts=ctx.parts,
        messages=ctx.messages,
        labels=ctx.labels,
        limits=_sendable(ctx.limits_left),
        on_disconnect=on_disconnect,
        lease=lease,
    )


def _sendable(left: Limits) -> Limits:
    """The remaining limits, as sent: the deadline carries the time, and 0 would mean none."""
    return Limits(
        max_tokens=None if left.max_tokens is None else max(left.max_tokens, 1),
        max_cost=None if left.max_cost is None else max(left.max_cost, _LEAST_COST),
        max_steps=None if left.max_steps is None else max(left.max_steps, 1),
        max_tool_calls=None if left.max_tool_calls is None else max(left.max_tool_calls, 1),
    )
