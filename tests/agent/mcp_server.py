"""A real MCP server on stdin and stdout, by the official SDK, for the tests of agents.

It writes down what happens to it in the file that its first argument names.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from mcp.server.mcpserver import Context, Image, MCPServer

NOTES = Path(sys.argv[1])
server = MCPServer("weather")


def note(words: str) -> None:
    with NOTES.open("a") as file:
        file.write(words + "\n")


note(f"pid {os.getpid()}")


@server.tool()
async def add(a: int, b: int) -> str:
    """Adds two numbers."""
    note(f"add {a} {b}")
    return str(a + b)


@server.tool()
async def fail() -> str:
    """Always fails."""
    raise ValueError("no such city")


@server.tool()
async def picture() -> Image:
    """Makes a picture."""
    return Image(data=b"12345", format="png")


@server.tool()
async def wait(ctx: Context) -> str:
    """Waits until it is cancelled, or until a file says that it may go on."""
    note("waiting")
    await ctx.report_progress(1, 3, "one of three")
    try:
        while not NOTES.with_suffix(".go").exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.02)
    except asyncio.CancelledError:
        note("cancelled")
        raise
    note("done")
    return "waited"


@server.tool()
async def learn(ctx: Context) -> str:
    """Teaches the server another tool."""

    def sing() -> str:
        """Sings."""
        return "la"

    server.add_tool(sing)
    await ctx.notify_tools_changed()  # to those who listen, since 2026-07-28
    await ctx.session.send_tool_list_changed()  # to all others
    return "learnt"


@server.tool()
async def hang() -> str:
    """Blocks the whole server, which then takes no cancel."""
    note("hanging")
    time.sleep(600)  # noqa: ASYNC251  # as a server of somebody might
    return ""


if __name__ == "__main__":
    if "--http" in sys.argv:
        server.run("streamable-http", port=int(sys.argv[-1]))
    else:
        server.run("stdio")
