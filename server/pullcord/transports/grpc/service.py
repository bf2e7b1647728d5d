"""RunService: each rpc decodes its request, calls the verb, and encodes the answer.

Nothing is decided here about runs: that is the verbs' and the engine's business.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from pullcord.run.caller import Caller
from pullcord.run.errors import PullcordError, ServerFault
from pullcord.run.message import PartBounds
from pullcord.run.record import RunSpec
from pullcord.run.requests import ContinueRequest
from pullcord.service.following import Following
from pullcord.service.lanes import Lane
from pullcord.service.verbs import SMALL_DATA, Verbs
from pullcord.transports.grpc.calls import Callers, Context
from pullcord.transports.grpc.encoding import Encoder
from pullcord.transports.grpc.outgoing import LARGE, PATIENCE, Outgoing
from pullcord.transports.grpc.streams import send, weight
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire import requests
from pullcord.wire.counting import COUNT_FROM, check_continue, split_start
from pullcord.wire.errors import to_status
from pullcord.wire.fields import decode
from pullcord.wire.run import (
    cancel_results_message,
    page_message,
    receipt_message,
    run_message,
    runnable_message,
)
from pullcord.wire.spec import parse_spec

SERVICE = v1.DESCRIPTOR.services_by_name["RunService"].full_name

MAX_PAGE_BYTES = 3 * 1024 * 1024
"""A page that would be larger gets fewer runs: clients take 4 MiB unless told otherwise."""

_SMALL_PAGE = 32
"""Runs that are no large answer, whatever their labels."""

T = TypeVar("T")
_log = logging.getLogger("pullcord.grpc")


class RunService:
    """The handlers of pullcord.v1.RunService. Requests and answers are bytes here."""

    def __init__(
        self,
        verbs: Verbs,
        callers: Callers,
        requests: Lane,
        encoder: Encoder,
        max_input_bytes: int,
        parts: PartBounds,
    ) -> None:
        """`max_input_bytes` bounds a run's text, its data, and each answer to a question.

        Large requests are read in the lane `requests`.
        """
        self._verbs = verbs
        self._callers = callers
        self._requests = requests
        self._encoder = encoder
        self._outgoing = Outgoing()
        self._max_input_bytes = max_input_bytes
        self._parts = parts

    def handler(self) -> grpc.GenericRpcHandler:
        """What a grpc.aio server is given."""
        unary: dict[str, Callable[[bytes, Context], Awaitable[bytes]]] = {
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
                    name: grpc.unary_unary_rpc_method_handler(partial(self._answer, method))
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
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling() or isinstance(error.__cause__, grpc.aio.BaseError):
                raise  # the caller has left, or its connection is broken
            # One of our own that escaped: gRPC would send no status, and the caller would hang.
            _log.exception("a call was cancelled by a mistake of ours")
            refusal: Exception = ServerFault()
        except Exception as error:
            if not isinstance(error, PullcordError):
                _log.exception("a call failed by a mistake of ours")
            refusal = error
        status = to_status(refusal)
        await context.abort(status.code, status.details, status.trailing_metadata)
        raise refusal  # abort has raised: only the type checker comes here

    # --- streams

    async def _run(self, data: bytes, context: Context) -> None:
        caller = await self._callers.of(context)
        turn = await self._verbs.turn(caller)
        try:
            spec = await self._spec(v1.RunRequest, data)
            following = await self._verbs.run(caller, spec, turn.leave)
            await self._follow(following, caller, context)
        finally:
            turn.leave()

    async def _watch_run(self, data: bytes, context: Context) -> None:
        caller = await self._callers.of(context)
        request = requests.parse_watch(decode(v1.WatchRunRequest, data))
        following = await self._verbs.watch(caller, request)
        await self._follow(following, caller, context)

    async def _follow(self, following: Following, caller: Caller, context: Context) -> None:
        if (check := self._callers.still(context, caller)) is not None:
            following.check_by(check)
        await send(following, context, self._outgoing, self._encoder)

    # --- unary

    async def _start_run(self, data: bytes, context: Context) -> bytes:
        caller = await self._callers.of(context)
        turn = await self._verbs.turn(caller)
        try:
            spec = await self._spec(v1.StartRunRequest, data)
            run = await self._verbs.start(caller, spec)
        finally:
            turn.leave()
        return await self._send(
            context, weight(run), lambda: v1.StartRunResponse(run=run_message(run))
        )

    async def _wait_run(self, data: bytes, context: Context) -> bytes:
        caller = await self._callers.of(context)
        request = requests.parse_wait(decode(v1.WaitRunRequest, data))
        run = await self._verbs.wait(caller, request)
        return await self._send(
            context, weight(run), lambda: v1.WaitRunResponse(run=run_message(run))
        )

    async def _get_run(self, data: bytes, context: Context) -> bytes:
        caller = await self._callers.of(context)
        request = requests.parse_get(decode(v1.GetRunRequest, data))
        run = await self._verbs.get(caller, request)
        return await self._send(
            context, weight(run), lambda: v1.GetRunResponse(run=run_message(run))
        )

    async def _list_runs(self, data: bytes, context: Context) -> bytes:
        caller = await self._callers.of(context)
        request = requests.parse_list(decode(v1.ListRunsRequest, data))
        if request.page_size > _SMALL_PAGE:
            await self._room(context, MAX_PAGE_BYTES)
        while True:
            page = await self._verbs.list(caller, request)
            make = partial(page_message, page.runs, page.next_page_token)
            data = await self._encoder.answer(make)
            if request.page_size == 1 or len(data) <= MAX_PAGE_BYTES:
                return data
            half = max(1, min(request.page_size, len(page.runs)) // 2)
            request = replace(request, page_size=half)

    async def _continue_run(self, data: bytes, context: Context) -> bytes:
        caller = await self._callers.of(context)
        if len(data) < COUNT_FROM:
            request = self._decisions(data)
        else:
            request = await self._requests.ask(self._decisions, data)
        run = await self._verbs.continue_run(caller, request)
        return await self._send(
            context, weight(run), lambda: v1.ContinueRunResponse(run=run_message(run))
        )

    async def _cancel_run(self, data: bytes, context: Context) -> bytes:
        caller = await self._callers.of(context)
        request = requests.parse_cancel(decode(v1.CancelRunRequest, data))
        receipt = await self._verbs.cancel(caller, request)
        size = 0 if receipt.run is None else weight(receipt.run)
        return await self._send(context, size, lambda: receipt_message(receipt))

    async def _cancel_runs(self, data: bytes, context: Context) -> bytes:
        caller = await self._callers.of(context)
        request = requests.parse_cancel_many(decode(v1.CancelRunsRequest, data))
        made = await self._verbs.cancel_many(caller, request)
        return await self._send(context, 150 * len(made), lambda: cancel_results_message(made))

    async def _list_runnables(self, data: bytes, context: Context) -> bytes:
        caller = await self._callers.of(context)
        decode(v1.ListRunnablesRequest, data)
        found = await self._verbs.runnables(caller)
        return v1.ListRunnablesResponse(runnables=map(runnable_message, found)).SerializeToString()

    # --- inside

    async def _send(self, context: Context, size: int, make: Callable[[], Message]) -> bytes:
        """Encodes an answer of roughly so many bytes; a large one aside, once there is room."""
        if size < LARGE:
            return make().SerializeToString()
        await self._room(context, size)
        return await self._encoder.answer(make)

    async def _room(self, context: Context, size: int) -> None:
        """Takes room in the connection until the answer is out, which ends the call's task."""
        task, peer, outgoing = asyncio.current_task(), context.peer(), self._outgoing
        assert task is not None
        await outgoing.room(peer, size, PATIENCE)
        task.add_done_callback(lambda _: outgoing.free(peer, size))

    async def _spec(
        self, message: type[v1.RunRequest | v1.StartRunRequest], data: bytes
    ) -> RunSpec:
        """Reads what is asked for; what takes long to read, in a thread of its own."""
        if len(data) >= COUNT_FROM:
            return await self._requests.ask(self._large_spec, data)
        spec = decode(message, data).spec
        if spec.HasField("input_data") and spec.input_data.ByteSize() > SMALL_DATA:
            return await self._requests.ask(parse_spec, spec, self._max_input_bytes, self._parts)
        return parse_spec(spec, self._max_input_bytes, self._parts)

    def _large_spec(self, data: bytes) -> RunSpec:
        head, values = split_start(data, self._max_input_bytes, self._parts)
        spec = decode(run_pb2.RunSpec, head, len(head))
        return parse_spec(spec, self._max_input_bytes, self._parts, data=values)

    def _decisions(self, data: bytes) -> ContinueRequest:
        check_continue(data)
        message = decode(v1.ContinueRunRequest, data, len(data))
        return requests.parse_continue(message, self._max_input_bytes)
