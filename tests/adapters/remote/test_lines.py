"""A line between two servers that breaks while both of them live on."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pullcord import RemoteRunnable, runnable
from pullcord.run.record import DisconnectPolicy

from tests.transports.harness import Cause, Serve, Signal, State, until


class Line:
    """Passes bytes between a port of its own and a server, until it is cut; then again."""

    def __init__(self, address: str) -> None:
        self._target = address.rpartition(":")
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ready = threading.Event()
        self.accepted = 0
        """Connections that there were."""
        self.address = ""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self._ready.wait()

    def cut(self) -> None:
        """Breaks every connection that there is."""
        self._loop.call_soon_threadsafe(self._cut)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = "{}:{}".format(*server.sockets[0].getsockname())
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        host, _, port = self._target
        other_reader, other_writer = await asyncio.open_connection(host, int(port))
        ways = [
            asyncio.ensure_future(_pass(reader, other_writer)),
            asyncio.ensure_future(_pass(other_reader, writer)),
        ]
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        for one in (writer, other_writer):
            one.transport.abort()
        self._tasks.discard(task)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


@pytest.fixture
def line() -> Iterator[Callable[[str], Line]]:
    lines: list[Line] = []

    def make(address: str) -> Line:
        lines.append(Line(address))
        return lines[-1]

    yield make
    for made in lines:
        made.close()


@pytest.mark.parametrize("policy", [DisconnectPolicy.CANCEL, DisconnectPolicy.LEASE])
def test_a_line_that_breaks(
    serve: Serve, line: Callable[[str], Line], policy: DisconnectPolicy
) -> None:
    """With LEASE both runs go on once the line is back; with CANCEL the remote run is lost."""
    go = Signal()

    @runnable(id="writer")
    async def writer(input: str) -> Any:
        yield "before "
        await go.come()
        yield "after"

    there = serve(writer)
    made = line(there.address)
    here = serve(RemoteRunnable(made.address, "agents/writer", on_disconnect=policy))
    stream = here.run("writer")
    stream.until("content_delta")
    run_id = stream.events[0].run_id
    made.cut()
    if policy is DisconnectPolicy.LEASE:
        until(lambda: made.accepted == 2)
        until(lambda: there.watchers(run_id) == 1)
        go.set()
        assert stream.end().run_completed.output == "before after"
        assert stream.text() == "before after"
        return
    failed = stream.end().run_failed
    assert (failed.error.type, failed.output) == ("ConnectionLost", "before ")
    its = there.wait(run_id)
    assert its.state == State.RUN_STATE_CANCELLED
    assert its.cancellation.cause == Cause.CANCEL_CAUSE_DISCONNECT
