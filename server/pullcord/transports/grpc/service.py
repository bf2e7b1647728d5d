"""RunService: each rpc reads its request, asks the engine, and writes the answer.

All rpcs answer from the loop in microseconds and wait for nobody's code. What may take longer (many
runs at once, a store that may block) goes to a few control threads; cancels have threads of their
own. A run that is live here is found, watched, waited for and cancelled without any of these.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from pullcord.engine import ports
from pullcord.engine.catalog import Catalog
from pullcord.engine.directory import RunHandle
from pullcord.engine.engine import Engine
from pullcord.engine.log.watch import Watcher
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.errors import PullcordError
from pullcord.run.record import Run, RunSpec
from pullcord.run.runnable import Runnable
from pullcord.transports.grpc.streams import Bell, Context, send
from pullcord.transports.grpc.tracing import trace_of
from pullcord.transports.grpc.turnstile import Turnstile
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire import requests
from pullcord.wire.actor import actor_of
from pullcord.wire.enums import CANCEL_OUTCOME
from pullcord.wire.errors import to_status
from pullcord.wire.fields import decode
from pullcord.wire.run import page_message, receipt_message, run_message, runnable_message
from pullcord.wire.spec import parse_spec

SERVICE = v1.DESCRIPTOR.services_by_name["RunService"].full_name

_ANSWER_MARGIN = 0.05
"""Seconds before a waiting call's deadline at which it answers with what there is."""

MAX_PAGE_BYTES = 3 * 1024 * 1024
"""A page that would be larger gets fewer runs: clients take 4 MiB unless told otherwise."""

T = TypeVar("T")
_log = logging.getLogger("pullcord.grpc")
M = TypeVar("M", bound=Message)


class RunService:
    """The handlers of pullcord.v1.RunService. Requests and answers are bytes here."""

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        bell: Bell,
        turnstile: Turnstile,
        control: Executor,
        cancels: Executor,
    ) -> None:
        """`cancels` has threads that nothing else waits in."""
        self._engine = engine
        self._catalog = catalog
        self._bell = bell
        self._turnstile = turnstile
        self._control = control
        self._cancels = cancels

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server is given."""
        unary: dict[str, Callable[[bytes, Context], Awaitable[Message]]] = {
            "StartRun": self._start_run,
            "WaitRun": self._wait_run,
            "GetRun": self._get_run,
            "ListRuns": self._list_runs,
            "ContinueRun": self._continue_run,
            "CancelRun": self._cancel_run,
            "CancelRuns": self._cancel_runs,
            "ListRunnables": self._list_runnables,
        }
        streams: dict[str, Callable[[bytes, Context], Awaitable[None]]] = {
            "Run": self._run,
            "WatchRun": self._watch_run,
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                **{
                    name: grpc.unary_unary_rpc_method_handler(
                        partial(self._answer, method),
                        response_serializer=lambda message: message.SerializeToString(),
                    )
                    for name, method in unary.items()
                },
                **{
                    name: grpc.unary_stream_rpc_method_handler(partial(self._answer, method))
                    for name, method in streams.items()
                },
            },
        )

    async def _answer(
        self, method: Callable[[bytes, Context], Awaitable[T]], data: bytes, context: Context
    ) -> T:
        """Calls a handler; what it raises becomes a status with details."""
        try:
            return await method(data, context)
        except Exception as error:
            if not isinstance(error, PullcordError):
                _log.exception("a call failed by a mistake of ours")
            status = to_status(error)
            await context.abort(status.code, status.details, status.trailing_metadata)
            raise  # abort has raised: only the type checker comes here

    # --- streams

    async def _run(self, data: bytes, context: Context) -> None:
        turn = await self._turnstile.enter()
        try:
            runnable, spec = self._read_spec(decode(v1.RunRequest, data).spec)
            metadata, deadline = context.invocation_metadata(), _time_remaining(context)
            watcher = await self._follow(self._begin, runnable, spec, metadata, deadline)
            await send(watcher, self._bell, context, begun=turn.leave)
        finally:
            turn.leave()

    async def _watch_run(self, data: bytes, context: Context) -> None:
        request = requests.parse_watch(decode(v1.WatchRunRequest, data))
        run_id, after_sequence = request.run_id, request.after_sequence
        here = self._engine.find_here(run_id)
        if here is not None:
            watcher = here.watch(after_sequence)
        else:
            watcher = await self._follow(self._engine.watch, run_id, after_sequence)
        await send(watcher, self._bell, context)

    def _begin(
        self, runnable: Runnable, spec: RunSpec, metadata: Any, deadline: float | None
    ) -> Watcher:
        with trace_of(metadata):
            return self._engine.follow(runnable, spec, deadline=deadline)

    async def _follow(self, call: Callable[..., Watcher], *args: Any) -> Watcher:
        """Calls the engine for a watcher. A caller that leaves meanwhile has left its run, too."""
        if not self._engine.blocking:
            return call(*args)
        made = self._control.submit(call, *args)
        try:
            return await asyncio.wrap_future(made)
        except asyncio.CancelledError:
            made.add_done_callback(_close)
            raise

    # --- unary

    async def _start_run(self, data: bytes, context: Context) -> v1.StartRunResponse:
        turn = await self._turnstile.enter()
        try:
            runnable, spec = self._read_spec(decode(v1.StartRunRequest, data).spec)
            run = await self._ask(self._start, runnable, spec, context.invocation_metadata())
        finally:
            turn.leave()
        return v1.StartRunResponse(run=run_message(run))

    async def _wait_run(self, data: bytes, context: Context) -> v1.WaitRunResponse:
        request = requests.parse_wait(decode(v1.WaitRunRequest, data))
        run = await self._find(request.run_id)
        await self._wait_for_end(run, request.timeout, context)
        return v1.WaitRunResponse(run=run_message(run.snapshot()))

    async def _get_run(self, data: bytes, context: Context) -> v1.GetRunResponse:
        run_id = requests.parse_get(decode(v1.GetRunRequest, data))
        run = await self._find(run_id)
        return v1.GetRunResponse(run=run_message(run.snapshot()))

    async def _list_runs(self, data: bytes, context: Context) -> v1.ListRunsResponse:
        request = requests.parse_list(decode(v1.ListRunsRequest, data))
        list_page, size = self._engine.list_page, request.page_size
        while True:
            page = await self._aside(list_page, request.filter, size, request.page_token)
            message = page_message(page.runs, page.next_page_token)
            if size == 1 or message.ByteSize() <= MAX_PAGE_BYTES:
                return message
            size = max(1, min(size, len(page.runs)) // 2)

    async def _continue_run(self, data: bytes, context: Context) -> v1.ContinueRunResponse:
        message = decode(v1.ContinueRunRequest, data)
        request = requests.parse_continue(message, self._engine.options.max_input_bytes)
        found = await self._find(request.run_id)
        run = found.decide(request.decisions, _actor(context))
        return v1.ContinueRunResponse(run=run_message(run))

    async def _cancel_run(self, data: bytes, context: Context) -> v1.CancelRunResponse:
        request = requests.parse_cancel(decode(v1.CancelRunRequest, data))
        stop = _cancel_request(
            context, request.reason, request.mode, request.grace_period, request.cause
        )
        run = self._engine.find_here(request.run_id)
        if run is None:
            ask = partial(self._engine.cancel, before_start=request.before_start)
            return receipt_message(await self._ask(ask, request.run_id, stop, lane=self._cancels))
        receipt = run.cancel(stop)
        if request.wait and receipt.outcome is CancelOutcome.REQUESTED:
            await self._wait_for_end(run, request.wait, context)
            receipt = run.receipt()
        return receipt_message(receipt)

    async def _cancel_runs(self, data: bytes, context: Context) -> v1.CancelRunsResponse:
        request = requests.parse_cancel_many(decode(v1.CancelRunsRequest, data))
        results = await self._aside(
            partial(
                self._engine.cancel_many,
                validate_only=request.validate_only,
                max_affected=request.max_affected,
            ),
            request.filter,
            _cancel_request(context, request.reason, request.mode),
        )
        return v1.CancelRunsResponse(
            results=[
                v1.CancelRunsResult(
                    run_id=run_id, outcome=CANCEL_OUTCOME.numbers[outcome] if outcome else None
                )
                for run_id, outcome in results
            ]
        )

    async def _list_runnables(self, data: bytes, context: Context) -> v1.ListRunnablesResponse:
        decode(v1.ListRunnablesRequest, data)
        return v1.ListRunnablesResponse(runnables=map(runnable_message, self._catalog.all()))

    # --- inside

    def _read_spec(self, message: Any) -> tuple[Runnable, RunSpec]:
        spec = parse_spec(message, self._engine.options.max_input_bytes)
        return self._catalog.find(spec.runnable), spec

    def _start(self, runnable: Runnable, spec: RunSpec, metadata: Any) -> Run:
        with trace_of(metadata):
            return self._engine.start(runnable, spec)

    async def _find(self, run_id: str) -> RunHandle:
        """The run, held: it answers though it ends and is forgotten meanwhile."""
        here = self._engine.find_here(run_id)
        return here if here is not None else await self._ask(self._engine.find, run_id)

    async def _wait_for_end(self, run: RunHandle, timeout: float | None, context: Context) -> None:
        remaining = _time_remaining(context)
        if remaining is not None:
            remaining = max(0.0, remaining - _ANSWER_MARGIN)
            timeout = remaining if timeout is None else min(timeout, remaining)
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the caller is gone
                loop.call_soon_threadsafe(ended.set)

        forget = run.on_end(end)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await ended.wait()
        finally:
            forget()

    async def _ask(self, call: Callable[..., T], *args: Any, lane: Executor | None = None) -> T:
        """Calls the engine: here, unless its store may block."""
        return await self._aside(call, *args, lane=lane) if self._engine.blocking else call(*args)

    async def _aside(self, call: Callable[..., T], *args: Any, lane: Executor | None = None) -> T:
        """Calls the engine in a thread that may wait: a control thread, if no other is named."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(lane or self._control, partial(call, *args))


def _close(made: Future[Watcher]) -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().close()


def _time_remaining(context: Context) -> float | None:
    """Seconds until the caller gives up, at most so many; None: it does not.

    gRPC sends a timeout of 1,001 s as one of 1,010 s: it rounds up to a few digits, so that what
    arrives may be a hundredth too long.
    """
    remaining = context.time_remaining()
    if remaining is None:
        return None
    return remaining * 0.99


def _cancel_request(
    context: Context,
    reason: str,
    mode: CancelMode,
    grace_period: float | None = None,
    cause: CancelCause = CancelCause.USER,
) -> ports.CancelRequest:
    return ports.CancelRequest(Cancellation(cause, _actor(context), reason, mode), grace_period)


def _actor(context: Context) -> str:
    return actor_of(context.invocation_metadata() or ()) or context.peer()
