"""`pullcord mcp`: a bridge for MCP clients that start a program and speak on its stdin and stdout.

Those two are the client's; every word of ours goes to stderr. Which tools there are and what a call
does is `transports.mcp`'s.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from pullcord.cli.exits import wrong_usage
from pullcord.cli.options import Address, Connection, connection
from pullcord.client import AsyncRunClient, AsyncRunStream
from pullcord.client.calls import DEFAULT_TARGET
from pullcord.extras import MissingExtra, needed
from pullcord.run.errors import PullcordError
from pullcord.run.events import Event
from pullcord.run.record import Decision, DisconnectPolicy, Run
from pullcord.run.runnable import RunnableInfo
from pullcord.transports.mcp.runs import Wanted

_STOP = 10.0
"""Seconds that the cancels of all runs may take when the bridge ends."""
_INTERRUPTED = 130
_MAX_HEARD = 64
"""Events that wait for a client that reads slowly; then the server merges what comes."""


def mcp(address: Address = DEFAULT_TARGET) -> None:
    """Offer what a server runs as the tools of an MCP server on stdin and stdout.

    For clients that start a program, such as desktop applications and editors: their settings take
    the command `pullcord mcp --address HOST:PORT`. A call that the client cancels stops its run;
    when the client leaves, or at Ctrl-C, all runs of the bridge stop. A token comes from
    PULLCORD_TOKEN or PULLCORD_TOKEN_FILE.
    """
    try:
        with needed("mcp", "pullcord mcp"):
            import mcp.server.stdio  # noqa: F401  # to say at once what is missing
    except MissingExtra as error:
        raise wrong_usage(str(error)) from None
    code = asyncio.run(_bridge(connection(address)))
    # A thread may still read from stdin, which no interrupt reaches.
    sys.stderr.flush()
    os._exit(code)


async def _bridge(options: Connection) -> int:
    """Serves until the client leaves or a signal comes; the exit code."""
    from mcp.server.stdio import stdio_server

    from pullcord.transports.mcp.offering import offering

    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncRunClient(**options) as client:
        runs = _ClientsRuns(client)
        server = offering(lambda _: runs)

        async def serve() -> None:
            async with stdio_server() as (read, write):
                await server.run(read, write, server.create_initialization_options())

        serving = asyncio.ensure_future(serve())
        interrupt = asyncio.ensure_future(stopped.wait())
        await asyncio.wait([serving, interrupt], return_when=asyncio.FIRST_COMPLETED)
        await runs.close()
        if not serving.done():
            return _INTERRUPTED
        interrupt.cancel()
        serving.result()
    return 0


class _Following:
    """One run that is followed to its end by a task, whether or not the call still listens.

    Leaving its stream would stop the run as if the bridge had gone: before the cancel that says
    why, and also if it waits for a decision.
    """

    def __init__(self, stream: AsyncRunStream) -> None:
        self._stream = stream
        self._heard: asyncio.Queue[Event | PullcordError | None] = asyncio.Queue(_MAX_HEARD)
        self._listens = True
        self.task = asyncio.ensure_future(self._follow())

    async def _follow(self) -> None:
        end: PullcordError | None = None
        try:
            async for event in self._stream:
                if self._listens:
                    await self._heard.put(event)
        except PullcordError as error:
            end = error
        if self._listens:
            await self._heard.put(end)

    async def events(self) -> AsyncGenerator[Event, None]:
        """The events of the run; closing the iterator does not stop the run."""
        try:
            while (heard := await self._heard.get()) is not None:
                if isinstance(heard, PullcordError):
                    raise heard
                yield heard
        finally:
            self._listens = False
            while not self._heard.empty():  # which lets a producer go on that waits for room
                self._heard.get_nowait()


class _ClientsRuns:
    """The runs of one bridge, by a client of the server."""

    def __init__(self, client: AsyncRunClient) -> None:
        self._client = client
        self._open: dict[str, _Following] = {}
        """Those that have not ended."""

    async def offers(self) -> Sequence[RunnableInfo]:
        """The runnables that the server serves."""
        return await self._client.runnables()

    async def events(self, wanted: Wanted) -> AsyncGenerator[Event, None]:
        """Starts a run and follows it to its end."""
        run_id = wanted.run_id
        following = self._open[run_id] = _Following(
            self._client.run(
                wanted.runnable,
                wanted.input,
                input_data=wanted.input_data,
                run_id=run_id,
                session_id=wanted.session_id,
                on_disconnect=DisconnectPolicy.CANCEL,
            )
        )
        following.task.add_done_callback(lambda _: self._open.pop(run_id, None))
        async with aclosing(following.events()) as events:
            async for event in events:
                yield event

    async def events_after(self, run_id: str, sequence: int) -> AsyncGenerator[Event, None]:
        """Follows a run of an earlier call, which is followed all the while (`_open`)."""
        async with aclosing(aiter(self._client.watch(run_id, sequence))) as events:
            async for event in events:
                yield event

    async def get(self, run_id: str) -> Run:
        """The run as it is now."""
        return await self._client.get(run_id)

    async def decide(self, run_id: str, decisions: Sequence[Decision]) -> None:
        """Brings a paused run the decisions that it waits for."""
        await self._client.continue_run(run_id, decisions)

    async def cancel(self, run_id: str, reason: str) -> None:
        """Stops a run, also one that has not started."""
        await self._client.cancel(run_id, reason, before_start=True)

    async def close(self) -> None:
        """Stops all runs that have not ended."""
        cancels = (self.cancel(run_id, "the MCP bridge ended") for run_id in list(self._open))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP):
                await asyncio.gather(*cancels, return_exceptions=True)
        for following in list(self._open.values()):
            following.task.cancel()
