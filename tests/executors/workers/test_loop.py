"""The loop of the RPCs does as much for a large request or event as for a small one."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.executors.workers.conftest import ServeApp, Served
from tests.transports.harness import until

APP = """
import asyncio
from pullcord import RunServer, runnable

@runnable
async def counts(ctx):
    return str(sum(map(len, ctx.input_data.values())))

@runnable
async def emits(input: str, ctx):
    for name in ("first", "second"):
        ctx.emit(name, {str(n): n for n in range(int(input))})
    return {str(n): n for n in range(int(input))}

server = RunServer(agents=[counts, emits])
"""

SMALL, LARGE = 500, 12_000
SLACK = 4000
"""Calls that may come between: of pings and of reading more bytes."""


class Calls:
    """Python functions that were called on the server's loop while it was looked at."""

    def __init__(self, served: Served) -> None:
        background = served.server._background
        assert background is not None
        self._loop: asyncio.AbstractEventLoop = background._loop
        self.count = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        self.count = 0
        self._on_loop(lambda: sys.setprofile(self._look))
        try:
            yield
        finally:
            self._on_loop(lambda: sys.setprofile(None))

    def _look(self, frame: object, event: str, argument: object) -> None:
        self.count += event == "call"

    def _on_loop(self, call: Callable[[], None]) -> None:
        async def do() -> None:
            call()

        asyncio.run_coroutine_threadsafe(do(), self._loop).result()


@pytest.fixture
def served(serve: ServeApp) -> Served:
    served = serve(APP)
    until(lambda: bool(served.client.runnables()))
    return served


def test_promise_5_a_start_costs_the_loop_the_same_whatever_its_data(served: Served) -> None:
    """Values are read by a thread of their own, and again by the run's code, in its worker."""
    for shape in (lambda n: {"a": [1] * n}, lambda n: {"a": {str(i): 1 for i in range(n)}}):
        needed = []
        for count in (SMALL, SMALL, LARGE):
            calls = Calls(served)
            with calls.counted():
                run = served.client.start("agents/counts", input_data=shape(count))
                assert served.client.wait(run.run_id).output == str(count)
            needed.append(calls.count)
        assert needed[2] < needed[1] + SLACK, needed


def test_promise_5_the_same_start_again_is_compared_aside(served: Served) -> None:
    """Equal data may have other bytes; to find out, the loop reads none of them."""
    forward, back = ({f"key-{n}": n for n in order} for order in (range(LARGE), _backwards()))
    with grpc.insecure_channel(served.address) as channel:
        start = channel.unary_unary(
            "/pullcord.v1.RunService/StartRun",
            response_deserializer=v1.StartRunResponse.FromString,
        )
        first = start(_start(forward), timeout=30)
        calls = Calls(served)
        with calls.counted():
            again = start(_start(back), timeout=30)
            with pytest.raises(grpc.RpcError) as refused:
                start(_start(forward | {"key-7": 8}), timeout=30)
        assert again.run.run_id == first.run.run_id
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert calls.count < SLACK


def _backwards() -> Any:
    return reversed(range(LARGE))


def _start(data: dict[str, int]) -> bytes:
    """A StartRunRequest whose entries are in just this order."""
    spec = run_pb2.RunSpec(runnable="agents/counts", run_id="the-run").SerializeToString()
    struct = b"".join(_entry(key, value) for key, value in data.items())
    number = run_pb2.RunSpec.DESCRIPTOR.fields_by_name["input_data"].number
    return _field(1, spec + _field(number, struct))


def _entry(key: str, value: int) -> bytes:
    one = Struct()
    one.update({key: value})
    return one.SerializeToString()


def _field(number: int, body: bytes) -> bytes:
    made, length = bytearray([number << 3 | 2]), len(body)
    while length >= 0x80:
        made.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(made) + bytes([length]) + body


def test_promise_5_an_event_costs_the_loop_the_same_whatever_its_data(served: Served) -> None:
    """Data travels from the worker to every watcher without being read."""
    needed = []
    for count in (SMALL, SMALL, LARGE):
        calls = Calls(served)
        with calls.counted():
            events = list(served.client.run("agents/emits", str(count)))
        assert [len(e.payload.data) for e in events if hasattr(e.payload, "data")] == [count] * 2
        assert len(events[-1].payload.output_data) == count
        needed.append(calls.count)
    assert needed[2] < needed[1] + SLACK, needed
