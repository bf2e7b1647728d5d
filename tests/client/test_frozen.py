"""A server machine that vanishes without closing its connection, as each face sees it."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pullcord.client import AsyncRunClient, RunClient
from pullcord.client.resume import Pace
from pullcord.run.errors import ConnectionLost

SERVER = """
import asyncio
from pullcord import RunContext, RunServer, runnable

@runnable
async def waits(ctx: RunContext):
    await asyncio.Event().wait()

server = RunServer(agents=[waits])
print(server.start(), flush=True)
input()
"""
KEEPALIVE = (("grpc.keepalive_time_ms", 1000), ("grpc.keepalive_timeout_ms", 1000))
NOTICED = 30.0
"""Seconds: a peer that is frozen is noticed by then; the core itself would wait for a minute."""
AT_ONCE = Pace(reconnect_for=0.0)


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.send_signal(signal.SIGKILL)


def test_promise_10_a_server_that_is_frozen_is_noticed(
    server: tuple[subprocess.Popen[str], str],
) -> None:
    """A stream from a frozen server ends after keepalive and keepalive_timeout."""
    process, address = server

    with (
        RunClient(address, options=KEEPALIVE, pace=AT_ONCE) as client,
        ThreadPoolExecutor() as pool,
    ):
        stream = client.run("agents/waits")
        next(stream)
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(ConnectionLost):
            pool.submit(next, stream).result(NOTICED)


async def test_promise_10_a_server_that_is_frozen_is_noticed_by_async_callers(
    server: tuple[subprocess.Popen[str], str],
) -> None:
    """The same for the awaiting face."""
    process, address = server
    async with AsyncRunClient(address, options=KEEPALIVE, pace=AT_ONCE) as client:
        stream = client.run("agents/waits")
        await anext(aiter(stream))
        process.send_signal(signal.SIGSTOP)
        async with asyncio.timeout(NOTICED):
            with pytest.raises(ConnectionLost):
                await anext(aiter(stream))
