"""The MCP servers of one run: connected when it begins, and let go when it ends.

How one is connected, and what its tools are, is not decided here.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

from pullcord.agent.mcp.connection import Connection
from pullcord.agent.mcp.server import McpServer
from pullcord.agent.mcp.tools import check_names, offered
from pullcord.native.tools import CallableTool
from pullcord.run.context import RunContext


@asynccontextmanager
async def connected(
    ctx: RunContext, servers: Sequence[McpServer], own: Mapping[str, CallableTool]
) -> AsyncGenerator[Mapping[str, CallableTool], None]:
    """The agent's own tools and those of its servers, which change when a server's tools do.

    Raises:
        McpServerUnavailable: a server does not work.
    """
    tools: dict[str, CallableTool] = {}

    def offer() -> None:
        made = offered(own, connections)
        tools.clear()
        tools.update(made)

    marks = ctx.process_environment if any(server.command for server in servers) else {}
    connections = [Connection(server, marks, offer) for server in servers]
    try:
        await _open(connections)
        for connection in connections:
            check_names(connection)
        offer()
        yield tools
    finally:
        await _close(connections, hurried=ctx.cancel_token.cancelled)


async def _open(connections: Sequence[Connection]) -> None:
    """All at the same time; the first that fails ends it, and the others are closed with it."""
    await asyncio.gather(*(connection.open() for connection in connections))


async def _close(connections: Sequence[Connection], *, hurried: bool) -> None:
    """Lets go of all of them; a cancel meanwhile aborts them, and is passed on once they are."""
    closing = asyncio.ensure_future(
        asyncio.gather(*(one.close(hurried=hurried) for one in connections))
    )
    cancelled = False
    while not closing.done():
        try:
            await asyncio.wait([closing])
        except asyncio.CancelledError:
            cancelled = True
            for connection in connections:
                connection.abort()
    closing.result()
    if cancelled:
        raise asyncio.CancelledError
