"""The rpcs over any transport: each reads its request, calls the verb, and makes the answer.

Requests and answers are bytes of pullcord.v1 messages here. Nothing is decided about runs: that is
the verbs' and the engine's business; and no connection is known: a transport brings a `Call`.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from pullcord.run.caller import Caller
from pullcord.run.message import MAX_SHOWN, PartBounds
from pullcord.run.record import Run, RunSpec
from pullcord.run.requests import ContinueRequest
from pullcord.service.following import Following
from pullcord.service.lanes import Lane
from pullcord.service.rosters import ListFollowing, Notice
from pullcord.service.verbs import SMALL_DATA, Verbs
from pullcord.transports.encoding import Encoder
from pullcord.transports.measuring import Rpcs
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire import requests
from pullcord.wire.counting import COUNT_FROM, check_continue, split_start
from pullcord.wire.fields import decode
from pullcord.wire.run import (
    cancel_results_message,
    erased_message,
    page_message,
    receipt_message,
    run_message,
    run_token_answer,
    runnable_message,
)
from pullcord.wire.spec import parse_spec

T = TypeVar("T")

SERVICE = v1.DESCRIPTOR.services_by_name["RunService"].full_name

LARGE = 64 * 1024
"""Bytes from which on an answer is encoded aside, once its connection has room for it."""
MAX_PAGE_BYTES = 3 * 1024 * 1024
"""A page that would be larger gets fewer runs: clients take 4 MiB by default."""

_SMALL_PAGE = 32
"""Runs that are no large answer, whatever their labels."""
_STOPS = ("CancelRun", "CancelRuns")
_DATA = 256 * 1024
"""Bytes that are assumed for a run's data, which nobody counts."""


class Call(Protocol):
    """A call under way, as its transport sees it."""

    caller: Caller

    def has_room(self, size: int) -> bool:
        """Whether `room` would not wait."""

    async def room(self, size: int, held: int = 0) -> None:
        """Waits until its connection has room for an answer of so many bytes. `held`: what the call
        holds meanwhile, which is bounded as well. Raises ServerBusy."""


Unary = Callable[[Call, bytes], Awaitable[bytes]]
Opening = Callable[[Call, bytes], Awaitable[Following]]
"""Opens a stream of a run's events; the caller closes the following."""
ListOpening = Callable[[Call, bytes], Awaitable[ListFollowing]]
"""Opens a stream of the list's changes; likewise."""


class Answering:
    """The rpcs of pullcord.v1.RunService."""

    def __init__(
        self, verbs: Verbs, lane: Lane, encoder: Encoder, max_input_bytes: int, parts: PartBounds
    ) -> None:
        """`max_input_bytes` bounds a run's text, its data, and each answer to a question.

        Large requests are read in the lane.
        """
        self._verbs = verbs
        self._lane = lane
        self._encoder = encoder
        self._max_input_bytes = max_input_bytes
        self._parts = parts
        self._rpcs = Rpcs()
        unary: dict[str, Unary] = {
            "StartRun": self._start_run,
            "WaitRun": self._wait_run,
            "GetRun": self._get_run,
            "ListRuns": self._list_runs,
            "ContinueRun": self._continue_run,
            "CancelRun": self._cancel_run,
            "CancelRuns": self._cancel_runs,
            "EraseRuns": self._erase_runs,
            "ListRunnables": self._list_runnables,
            "CreateRunToken": self._create_run_token,
        }
        self.unary: Mapping[str, Unary] = {
            name: partial(self._counted, name, rpc) for name, rpc in unary.items()
        }
        """By their names in the service."""
        streams: dict[str, Opening] = {"Run": self._run, "WatchRun": self._watch_run}
        self.streams: Mapping[str, Opening] = {
            name: partial(self._measured, name, rpc) for name, rpc in streams.items()
        }
        """Likewise."""
        self.lists: Mapping[str, ListOpening] = {
            "WatchRuns": partial(self._measured, "WatchRuns", self._watch_runs)
        }
        """Likewise."""

    async def _counted(self, name: str, rpc: Unary, call: Call, data: bytes) -> bytes:
        with (
            self._rpcs.measured(name),
            self._verbs.under_way(call.caller, is_stop=name in _STOPS),
        ):
            return await rpc(call, data)

    async def _measured(
        self, name: str, rpc: Callable[[Call, bytes], Awaitable[T]], call: Call, data: bytes
    ) -> T:
        with self._rpcs.measured(name):
            return await rpc(call, data)

    # --- streams

    async def _run(self, call: Call, data: bytes) -> Following:
        turn = await self._verbs.turn(call.caller)
        try:
            spec = await self._spec(v1.RunRequest, data)
            return await self._verbs.run(call.caller, spec, turn.leave)
        except BaseException:
            turn.leave()
            raise

    async def _watch_run(self, call: Call, data: bytes) -> Following:
        request = requests.parse_watch(decode(v1.WatchRunRequest, data))
        return await self._verbs.watch(call.caller, request)

    async def _watch_runs(self, call: Call, data: bytes) -> ListFollowing:
        request = requests.parse_watch_list(decode(v1.WatchRunsRequest, data))
        return await self._verbs.watch_list(call.caller, request)

    # --- unary

    async def _start_run(self, call: Call, data: bytes) -> bytes:
        turn = await self._verbs.turn(call.caller)
        try:
            spec = await self._spec(v1.StartRunRequest, data)
            run = await self._verbs.start(call.caller, spec)
        finally:
            turn.leave()
        return await self._made(
            call, weight(run), lambda: v1.StartRunResponse(run=run_message(run))
        )

    async def _wait_run(self, call: Call, data: bytes) -> bytes:
        request = requests.parse_wait(decode(v1.WaitRunRequest, data))
        look = partial(self._verbs.wait, call.caller, request)
        return await self._found(call, look, lambda run: v1.WaitRunResponse(run=run_message(run)))

    async def _get_run(self, call: Call, data: bytes) -> bytes:
        request = requests.parse_get(decode(v1.GetRunRequest, data))
        look = partial(self._verbs.get, call.caller, request)
        return await self._found(call, look, lambda run: v1.GetRunResponse(run=run_message(run)))

    async def _list_runs(self, call: Call, data: bytes) -> bytes:
        request = requests.parse_list(decode(v1.ListRunsRequest, data))
        if request.page_size > _SMALL_PAGE:
            await call.room(MAX_PAGE_BYTES)
        while True:
            page = await self._verbs.list(call.caller, request)
            make = partial(page_message, page.runs, page.next_page_token)
            data = await self._encoder.answer(make)
            if request.page_size == 1 or len(data) <= MAX_PAGE_BYTES:
                return data
            half = max(1, min(request.page_size, len(page.runs)) // 2)
            request = replace(request, page_size=half)

    async def _continue_run(self, call: Call, data: bytes) -> bytes:
        if len(data) < COUNT_FROM:
            request = self._decisions(data)
        else:
            request = await self._lane.ask(self._decisions, data)
        run = await self._verbs.continue_run(call.caller, request)
        return await self._made(
            call, weight(run), lambda: v1.ContinueRunResponse(run=run_message(run))
        )

    async def _cancel_run(self, call: Call, data: bytes) -> bytes:
        request = requests.parse_cancel(decode(v1.CancelRunRequest, data))
        receipt = await self._verbs.cancel(call.caller, request)
        size = 0 if receipt.run is None else weight(receipt.run)
        return await self._made(call, size, lambda: receipt_message(receipt))

    async def _cancel_runs(self, call: Call, data: bytes) -> bytes:
        request = requests.parse_cancel_many(decode(v1.CancelRunsRequest, data))
        made = await self._verbs.cancel_many(call.caller, request)
        return await self._made(call, 150 * len(made), lambda: cancel_results_message(made))

    async def _erase_runs(self, call: Call, data: bytes) -> bytes:
        request = requests.parse_erase(decode(v1.EraseRunsRequest, data))
        return erased_message(await self._verbs.erase(call.caller, request)).SerializeToString()

    async def _create_run_token(self, call: Call, data: bytes) -> bytes:
        request = requests.parse_run_token(decode(v1.CreateRunTokenRequest, data))
        token, expires_at = await self._verbs.create_run_token(call.caller, request)
        return run_token_answer(token, expires_at).SerializeToString()

    async def _list_runnables(self, call: Call, data: bytes) -> bytes:
        decode(v1.ListRunnablesRequest, data)
        found = await self._verbs.runnables(call.caller)
        return v1.ListRunnablesResponse(runnables=map(runnable_message, found)).SerializeToString()

    # --- inside

    async def _made(self, call: Call, size: int, make: Callable[[], Message]) -> bytes:
        """Encodes an answer of roughly so many bytes; a large one aside, once there is room."""
        if size < LARGE:
            return make().SerializeToString()
        await call.room(size, held=size)
        return await self._encoder.answer(make)

    async def _found(
        self, call: Call, look: Callable[[], Awaitable[Run]], make: Callable[[Run], Message]
    ) -> bytes:
        """The same for a run that can be looked up again: a call that waits for room holds none,
        nor does any of its frames. From a store's file each look makes a copy."""
        run = await look()
        size = weight(run)
        if size < LARGE:
            return make(run).SerializeToString()
        if call.has_room(size):
            await call.room(size)  # which does not wait
        else:
            del run
            await call.room(size)
            run = await look()
        return await self._encoder.answer(partial(make, run))

    async def _spec(
        self, message: type[v1.RunRequest | v1.StartRunRequest], data: bytes
    ) -> RunSpec:
        """Reads what is asked for; what takes long to read, in a thread of its own."""
        if len(data) >= COUNT_FROM:
            return await self._lane.ask(self._large_spec, data)
        spec = decode(message, data).spec
        if spec.HasField("input_data") and spec.input_data.ByteSize() > SMALL_DATA:
            return await self._lane.ask(parse_spec, spec, self._max_input_bytes, self._parts)
        return parse_spec(spec, self._max_input_bytes, self._parts)

    def _large_spec(self, data: bytes) -> RunSpec:
        head, values = split_start(data, self._max_input_bytes, self._parts)
        spec = decode(run_pb2.RunSpec, head, len(head))
        return parse_spec(spec, self._max_input_bytes, self._parts, data=values)

    def _decisions(self, data: bytes) -> ContinueRequest:
        check_continue(data)
        message = decode(v1.ContinueRunRequest, data, len(data))
        return requests.parse_continue(message, self._max_input_bytes)


def notice_bytes(notice: Notice) -> bytes:
    """The bytes of a WatchRunsResponse."""
    message = v1.WatchRunsResponse(
        position=notice.position, caught_up=notice.caught_up, missed=notice.missed
    )
    if notice.run is not None:
        message.run.CopyFrom(run_message(notice.run))
    return message.SerializeToString()


def weight(run: Run) -> int:
    """Bytes that a run takes in a message, roughly."""
    calls = sum(400 + len(call.arguments) + len(call.result) for call in run.tool_calls)
    data = 0 if run.output_data is None else _DATA
    parts: int = sum(min(part.size, MAX_SHOWN) for part in run.parts)
    return len(run.input) + len(run.output) + calls + data + parts
