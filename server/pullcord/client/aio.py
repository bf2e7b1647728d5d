"""The asyncio face of the client: AsyncRunClient, and AsyncRunStream, which follows one run.

It calls and awaits. What a broken stream does next is decided in `resume`, what the messages say
in the wire layer.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
import grpc.aio

from pullcord.client.calls import (
    CALL_TIMEOUT,
    DEFAULT_TARGET,
    Metadata,
    SpecOptions,
    call_metadata,
    channel_options,
    new_spec,
    starting_metadata,
)
from pullcord.client.resume import Pace, Result, Resume
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.errors import PullcordError
from pullcord.run.events import Event, Heartbeat
from pullcord.run.record import CancelResult, Decision, Receipt, Run, RunFilter, RunSpec
from pullcord.run.requests import (
    DEFAULT_MAX_AFFECTED,
    DEFAULT_PAGE_SIZE,
    CancelManyRequest,
    CancelRequest,
    ContinueRequest,
    ListRequest,
    WaitRequest,
)
from pullcord.run.runnable import RunnableInfo
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub
from pullcord.wire.actor import with_actor
from pullcord.wire.errors import from_rpc_error
from pullcord.wire.event import event_of
from pullcord.wire.requests import (
    cancel_many_message,
    cancel_message,
    continue_message,
    list_message,
    wait_message,
)
from pullcord.wire.run import cancel_results_of, receipt_of, run_of, runnable_of
from pullcord.wire.spec import spec_message

_FAREWELL = 1.0
"""Seconds that a call's status may take to follow the run's terminal event."""


class AsyncRunClient:
    """Starts, follows, looks at and stops the runs of a server, on one event loop.

    Make it inside the loop; close it, or use it in `async with`. Every refusal is raised as its
    class in `pullcord.run.errors`; what has no class of its own is a `CallFailed`.

    Args:
        target: the server's address, as gRPC takes it.
        credentials: for TLS; None: the line is not encrypted.
        metadata: goes with every call.
        actor: who asks, as receipts and events will say; None: `user@host` of this process.
        options: gRPC channel options, over the client's own.
        pace: how a broken stream is taken up again.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Iterable[tuple[str, str | bytes]] = (),
        actor: str | None = None,
        options: Iterable[tuple[str, Any]] = (),
        pace: Pace = Pace(),  # noqa: B008  # a frozen value
    ) -> None:
        settings = channel_options(options)
        if credentials is None:
            self._channel = grpc.aio.insecure_channel(target, settings)
        else:
            self._channel = grpc.aio.secure_channel(target, credentials, settings)
        self._stub: Any = RunServiceStub(self._channel)
        self._metadata = call_metadata(metadata, actor)
        self._pace = pace

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends every stream and closes the channel. Runs go on as their disconnect policy says."""
        await self._channel.close()

    # --- starting and following

    def run(
        self,
        runnable: str,
        input: str = "",
        *,
        timeout: float | None = None,
        heartbeats: bool = False,
        **options: Unpack[SpecOptions],
    ) -> "AsyncRunStream":
        """Starts a run and follows it.

        `timeout` seconds from now the run ends with cause DEADLINE, a little before the call does.
        """
        spec = new_spec(runnable, input, options)
        resume = Resume(spec.run_id, self._pace, starting=True, timeout=timeout)
        return AsyncRunStream(self, resume, spec, heartbeats)

    async def start(self, runnable: str, input: str = "", **options: Unpack[SpecOptions]) -> Run:
        """Starts a run in the background."""
        request = v1.StartRunRequest(spec=spec_message(new_spec(runnable, input, options)))
        metadata = starting_metadata(self._metadata)
        call = self._call(self._stub.StartRun, request, metadata=metadata)
        return run_of((await call).run)

    def watch(
        self,
        run_id: str,
        after_sequence: int = 0,
        *,
        timeout: float | None = None,
        heartbeats: bool = False,
    ) -> "AsyncRunStream":
        """Follows a run from any point to its end; `timeout` seconds from now the watching ends."""
        resume = Resume(run_id, self._pace, after_sequence=after_sequence, timeout=timeout)
        return AsyncRunStream(self, resume, None, heartbeats)

    async def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """The run once it has ended, or as it is after `timeout` seconds."""
        resume = Resume(run_id, self._pace, timeout=timeout)
        left = timeout
        while True:
            try:
                request = wait_message(WaitRequest(run_id, left))
                limit = None if left is None else left + CALL_TIMEOUT
                return run_of((await self._call(self._stub.WaitRun, request, limit)).run)
            except PullcordError as error:
                await asyncio.sleep(resume.lost(error))
            left = resume.opening()

    # --- looking

    async def get(self, run_id: str) -> Run:
        """A run as it is now."""
        return run_of((await self._call(self._stub.GetRun, v1.GetRunRequest(run_id=run_id))).run)

    async def list(
        self, matching: RunFilter | None = None, *, page_size: int = DEFAULT_PAGE_SIZE
    ) -> AsyncIterator[Run]:
        """All runs that match, the newest first, without input and output, page by page."""
        token = ""
        while True:
            request = ListRequest(matching or RunFilter(), page_size, token)
            page = await self._call(self._stub.ListRuns, list_message(request))
            for message in page.runs:
                yield run_of(message)
            token = page.next_page_token
            if not token:
                return

    async def runnables(self) -> tuple[RunnableInfo, ...]:
        """What can be run, in order of name."""
        response = await self._call(self._stub.ListRunnables, v1.ListRunnablesRequest())
        return tuple(map(runnable_of, response.runnables))

    # --- going on

    async def continue_run(self, run_id: str, decisions: Iterable[Decision]) -> Run:
        """Brings a paused run the decision on every call that waits; the run as it then is.

        Raises RunNotPaused where it does not wait, also because somebody else has decided.
        """
        request = continue_message(ContinueRequest(run_id, tuple(decisions)))
        return run_of((await self._call(self._stub.ContinueRun, request)).run)

    # --- stopping

    async def cancel(
        self,
        run_id: str,
        reason: str = "",
        *,
        mode: CancelMode = CancelMode.GRACEFUL,
        grace_period: float | None = None,
        wait: float = 0.0,
        before_start: bool = False,
        cause: CancelCause = CancelCause.USER,
        actor: str | None = None,
    ) -> Receipt:
        """Stops a run. The answer waits at most `wait` seconds for the stop.

        `grace_period` is how many seconds a tool call in flight may take to finish; None: the
        server's default. With `before_start` a run is stopped that has not come yet. `cause` is
        USER, or PARENT where the run is part of one elsewhere; `actor` is on whose behalf this is
        asked, None: the client's own.
        """
        request = CancelRequest(run_id, reason, mode, grace_period, wait, before_start, cause)
        limit = CALL_TIMEOUT + wait
        metadata = None if actor is None else with_actor(self._metadata, actor)
        message = cancel_message(request)
        return receipt_of(await self._call(self._stub.CancelRun, message, limit, metadata))

    async def cancel_many(
        self,
        matching: RunFilter,
        reason: str = "",
        *,
        mode: CancelMode = CancelMode.GRACEFUL,
        validate_only: bool = False,
        max_affected: int = DEFAULT_MAX_AFFECTED,
    ) -> tuple[CancelResult, ...]:
        """Stops every live run that the filter matches, by session, user, runnable and labels."""
        request = CancelManyRequest(matching, reason, mode, validate_only, max_affected)
        response = await self._call(self._stub.CancelRuns, cancel_many_message(request))
        return tuple(cancel_results_of(response))

    # --- calling

    async def _call(
        self,
        method: Any,
        request: Any,
        timeout: float | None = CALL_TIMEOUT,
        metadata: Metadata | None = None,
    ) -> Any:
        try:
            return await method(request, timeout=timeout, metadata=metadata or self._metadata)
        except grpc.RpcError as error:
            run_id = getattr(request, "run_id", "")
            raise from_rpc_error(error, run_id) from error

    def open(self, resume: Resume, spec: RunSpec | None) -> Any:
        """A connection's call: of Run while the run may not be known, else of WatchRun."""
        timeout = resume.opening()
        if spec is not None and not resume.begun:
            request: Any = v1.RunRequest(spec=spec_message(spec))
            metadata = starting_metadata(self._metadata)
            return self._stub.Run(request, timeout=timeout, metadata=metadata)
        request = v1.WatchRunRequest(run_id=resume.run_id, after_sequence=resume.after_sequence)
        return self._stub.WatchRun(request, timeout=timeout, metadata=self._metadata)


class AsyncRunStream:
    """The events of one run, in order, each once, over as many connections as it takes.

    It ends after the terminal event. Closing or dropping it leaves the run to its disconnect
    policy, and so does cancelling the task that awaits its next event; `cancel` stops the run.
    """

    def __init__(
        self, client: AsyncRunClient, resume: Resume, spec: RunSpec | None, heartbeats: bool
    ) -> None:
        self.run_id = resume.run_id
        self._client = client
        self._resume = resume
        self._spec = spec
        self._heartbeats = heartbeats
        self._closed = asyncio.Event()
        self._responses: AsyncIterator[Any] | None = None
        self._call: Any = None
        self._connect()

    @property
    def result(self) -> Result | None:
        """What the run came to; None before its terminal event was seen."""
        return self._resume.result

    @property
    def after_sequence(self) -> int:
        """The number of the last event seen: what another watch can go on with."""
        return self._resume.after_sequence

    async def cancel(
        self,
        reason: str = "",
        *,
        mode: CancelMode = CancelMode.GRACEFUL,
        grace_period: float | None = None,
        wait: float = 0.0,
    ) -> Receipt:
        """Stops the run, also where it has not begun; its last events then come as usual."""
        return await self._client.cancel(
            self.run_id,
            reason,
            mode=mode,
            grace_period=grace_period,
            wait=wait,
            before_start=not self._resume.begun,
        )

    async def close(self) -> None:
        """Leaves the stream; whoever awaits its next event sees it end."""
        self._leave()

    aclose = close  # for contextlib.aclosing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._leave()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, RuntimeError):  # never opened; or its loop is gone
            self._leave()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        try:
            while not (self._resume.ended or self._closed.is_set()):
                event = await self._receive()
                if event is not None:
                    return event
            await self._see_out()
        except BaseException:
            self._leave()
            raise
        self._leave()
        raise StopAsyncIteration

    async def _see_out(self) -> None:
        """Takes the call's status, which follows the terminal event at once.

        A call that is cancelled instead comes back from gRPC's core a little later, when its loop
        may be closed: the loops of other calls would then log an error.
        """
        if self._call is not None and not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._call.code()

    async def _receive(self) -> Event | None:
        """The next event that is new to the caller; None where something else happened."""
        try:
            if self._responses is None:
                self._connect()
            assert self._responses is not None
            response = await anext(self._responses)
        except StopAsyncIteration:
            await self._recover(None)
        except grpc.RpcError as error:
            await self._recover(from_rpc_error(error, self.run_id))
        except asyncio.CancelledError:
            # grpc.aio says a closed call in the words of a cancelled task.
            task = asyncio.current_task()
            if not self._closed.is_set() or (task is not None and task.cancelling()):
                raise
        else:
            event = event_of(response.event)
            if event is None:
                self._resume.skip(response.event.sequence)
            elif self._resume.admit(event):
                is_shown = self._heartbeats or not isinstance(event.payload, Heartbeat)
                return event if is_shown else None
        return None

    def _connect(self) -> None:
        self._call = self._client.open(self._resume, self._spec)
        self._responses = aiter(self._call)

    def _leave(self) -> None:
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    async def _recover(self, error: PullcordError | None) -> None:
        """Waits until it is time for the next connection. Raises what the caller is to see."""
        self._responses = None
        if self._closed.is_set():
            return
        if error is None and self._resume.begun:
            try:
                self._resume.learn(await self._client.get(self.run_id))
            except PullcordError as failed:
                error = failed
        if not self._resume.ended:
            delay = self._resume.lost(error)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closed.wait(), delay)
