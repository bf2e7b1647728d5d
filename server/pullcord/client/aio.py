"""The asyncio face of the client: AsyncRunClient, and AsyncRunStream, which follows one run.

It calls and awaits. The calls are described in `verbs`; what a stream does after it broke is
decided in `resume`.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
import grpc.aio

from pullcord.client import verbs
from pullcord.client.calls import SpecOptions
from pullcord.client.face import Face, refusals
from pullcord.client.following import Following
from pullcord.client.resume import Resume
from pullcord.client.verbs import (
    Answer,
    Call,
    CancelManyOptions,
    CancelOptions,
    RunChange,
    RunToken,
    StreamCancelOptions,
)
from pullcord.run.errors import PullcordError
from pullcord.run.events import Event
from pullcord.run.record import CancelResult, Decision, Erased, Receipt, Run, RunFilter, RunSpec
from pullcord.run.requests import DEFAULT_PAGE_SIZE, DEFAULT_TOKEN_LIFETIME, EraseRequest
from pullcord.run.runnable import RunnableInfo
from pullcord.wire.errors import from_rpc_error

_FAREWELL = 1.0
"""Seconds that a call's status may take to follow the run's terminal event."""


class AsyncRunClient(Face["AsyncRunStream", grpc.aio.Channel]):
    """Starts, follows, looks at and stops the runs of a server, on one event loop.

    Create it inside the loop; close it, or use it in `async with`. An error of the server is raised
    as its class in `pullcord.run.errors`, and as `CallFailed` if it has none.
    """

    _grpc = grpc.aio

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
        if self._owns_channel:
            await self._channel.close()

    async def start(self, runnable: str, input: str = "", **options: Unpack[SpecOptions]) -> Run:
        """Starts a run in the background."""
        return await self._ask(verbs.start(runnable, input, options))

    async def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """Returns the run once it has ended, or as it is after `timeout` seconds."""
        resume = Resume(run_id, self.pace, timeout=timeout)
        left = timeout
        while True:
            try:
                return await self._ask(verbs.wait(run_id, left))
            except PullcordError as error:
                await asyncio.sleep(resume.lost(error))
            left = resume.opening()

    async def get(self, run_id: str) -> Run:
        """Returns a run as it is now."""
        return await self._ask(verbs.get(run_id))

    async def list(
        self, matching: RunFilter | None = None, *, page_size: int = DEFAULT_PAGE_SIZE
    ) -> AsyncIterator[Run]:
        """Yields all runs that match, newest first, without input and output, page by page."""
        token, is_more = "", True
        while is_more:
            page = await self._ask(verbs.page(matching, page_size, token))
            for run in page.runs:
                yield run
            token, is_more = page.next_token, bool(page.next_token)

    async def watch_runs(
        self, matching: RunFilter | None = None, after: str = ""
    ) -> AsyncIterator[RunChange]:
        """Yields every live run that matches, and then each run that is new, changes or ends.

        It goes on until it is closed, over as many connections as it takes. `after` is the position
        of a change that was seen: only what has changed since is yielded. States in the filter are
        not looked at.
        """
        resume = Resume("", self.pace)
        heard = 0
        while True:
            error: PullcordError | None = None
            answers = self._open_list(resume, matching, after)
            try:
                async for answer in answers:
                    heard += 1
                    resume.skip(heard)
                    change = verbs.change_in(answer)
                    after = change.position
                    if change.run is not None or change.caught_up or change.missed:
                        yield change
            except grpc.RpcError as failed:
                error = from_rpc_error(failed)
            finally:
                answers.cancel()
            await asyncio.sleep(resume.lost(error))

    async def create_run_token(
        self, run_id: str, lifetime: float = DEFAULT_TOKEN_LIFETIME, *, watch_only: bool = False
    ) -> RunToken:
        """Returns a token with which a web page may see this run, and stop it, and nothing else.

        It is good for `lifetime` seconds, at most a day.
        """
        return await self._ask(verbs.create_run_token(run_id, lifetime, watch_only))

    async def runnables(self) -> tuple[RunnableInfo, ...]:
        """Returns what can be run, in order of name."""
        return await self._ask(verbs.runnables())

    async def continue_run(self, run_id: str, decisions: Iterable[Decision]) -> Run:
        """Sends a paused run a decision for each waiting call; returns the run afterwards.

        Raises RunNotPaused if it does not wait, for example because somebody else has decided.
        """
        return await self._ask(verbs.continue_run(run_id, decisions))

    async def cancel(
        self, run_id: str, reason: str = "", **options: Unpack[CancelOptions]
    ) -> Receipt:
        """Stops a run, gracefully unless `mode` says otherwise; returns the receipt.

        Options: mode, grace_period, wait, before_start, cause, actor; see `CancelOptions`.
        """
        return await self._ask(verbs.cancel(run_id, reason, options))

    async def cancel_many(
        self, matching: RunFilter, reason: str = "", **options: Unpack[CancelManyOptions]
    ) -> tuple[CancelResult, ...]:
        """Stops every live run that the filter matches, by session, user, runnable and labels.

        Options: mode, validate_only, max_affected; see `CancelManyOptions`.
        """
        return await self._ask(verbs.cancel_many(matching, reason, options))

    async def erase(
        self, *, user_id: str = "", session_id: str = "", validate_only: bool = False
    ) -> Erased:
        """Deletes for good what is kept of ended runs: of a user, of a session, and of the tenant
        and owner that this client was made with; live runs stay. With `validate_only` it only
        says what would be deleted.

        Raises InvalidArgument if none of the four is given.
        """
        request = EraseRequest(user_id, session_id, validate_only=validate_only)
        return await self._ask(verbs.erase(request))

    async def _ask(self, call: Call[Answer]) -> Answer:
        with refusals(call):
            return call.read(await self._send(call))

    def _follow(self, resume: Resume, spec: RunSpec | None, heartbeats: bool) -> "AsyncRunStream":
        return AsyncRunStream(self, resume, spec, heartbeats)


class AsyncRunStream(Following[AsyncRunClient]):
    """The events of one run, in order, each once, over as many connections as it takes.

    It ends after the terminal event. Closing or dropping it leaves the run to its disconnect
    policy, and so does cancelling the task that awaits its next event; `cancel` stops the run.
    """

    def __init__(
        self, client: AsyncRunClient, resume: Resume, spec: RunSpec | None, heartbeats: bool
    ) -> None:
        super().__init__(client, resume, spec, heartbeats)
        self._closed = asyncio.Event()
        self._responses: AsyncIterator[Any] | None = None
        self._call: Any = None
        self._connect()

    async def cancel(self, reason: str = "", **options: Unpack[StreamCancelOptions]) -> Receipt:
        """Stops the run, also before it has begun; its last events then come as usual.

        Options: mode, grace_period, wait; see `StreamCancelOptions`.
        """
        return await self._client._ask(self._stop(reason, options))

    async def close(self) -> None:
        """Leaves the stream; a task that awaits its next event sees it end."""
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
        with contextlib.suppress(AttributeError, RuntimeError):  # never opened, or its loop closed
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
        """Reads the call's status, which follows the terminal event at once.

        A call that is cancelled instead comes back from gRPC's core a little later, when its loop
        may be closed: the loops of other calls would then log an error.
        """
        if self._call is not None and not self._closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await self._call.code()

    async def _receive(self) -> Event | None:
        """Returns the next event for the caller; None if something else happened."""
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
            # grpc.aio reports a closed call as it would a cancelled task.
            task = asyncio.current_task()
            if not self._closed.is_set() or (task is not None and task.cancelling()):
                raise
        else:
            return self._shown(response.event)
        return None

    def _connect(self) -> None:
        self._call = self._client.open(self._resume, self._spec)
        self._responses = aiter(self._call)

    def _leave(self) -> None:
        self._closed.set()
        if self._call is not None:
            self._call.cancel()

    async def _recover(self, error: PullcordError | None) -> None:
        """Waits until it is time for the next connection. Raises what the caller must see."""
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
