"""One connection to an MCP server: opened, kept, and closed in a task of its own.

The SDK's client must be entered and left in one task, and a run's task may be cancelled at any
moment, so a keeper holds it. What a tool is to a model is not known here.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

import anyio
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp_types import CallToolResult, Tool, ToolListChangedNotification
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from pullcord.agent.mcp.process import ServerProcess
from pullcord.agent.mcp.server import McpServer
from pullcord.run.errors import PublicError

MAX_TOOLS = 1000
"""Tools of one server; of more the rest is left out."""
_CLOSING = 3.0
"""Seconds that a connection may take to close; then it is aborted."""
_HURRIED = 0.2
"""Likewise, if the run must stop."""
_CANCEL = 1.0
"""Seconds that the cancel of a call may take to be sent; then the connection is aborted."""

OnProgress = Callable[[float, float | None, str | None], None]


class McpServerUnavailable(PublicError):
    """An MCP server did not start, cannot be reached, or has not the tools that it should have."""

    def __init__(self, server: McpServer, words: str, said: str = "") -> None:
        super().__init__(f"the MCP server {server.name!r} {words}", said=said)
        self.server = server.name


class Connection:
    """One server, for as long as one run needs it. For the run's loop alone."""

    def __init__(
        self, server: McpServer, marks: Mapping[str, str], changed: Callable[[], None]
    ) -> None:
        """`changed` is called when the server has other tools than before."""
        self.server = server
        self.tools: tuple[Tool, ...] = ()
        self._changed = changed
        self._process = ServerProcess(server, marks) if server.command else None
        self._client: Client | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._scope = anyio.CancelScope()
        self._ready = asyncio.Event()
        self._wake = asyncio.Event()
        self._closing = False
        self._error: BaseException | None = None

    async def open(self) -> None:
        """Connects, and reads which tools there are.

        Raises:
            McpServerUnavailable: it does not work, or not in time.
        """
        self._keeper = asyncio.create_task(self._keep(), name=f"mcp {self.server.name}")
        try:
            async with asyncio.timeout(self.server.start_timeout):
                await self._ready.wait()
        except TimeoutError:
            words = f"did not say which tools it has within {self.server.start_timeout:g} s"
            raise McpServerUnavailable(self.server, words) from None
        if self._error is not None:
            error = self._error
            ended = None if self._process is None else self._process.exit_code
            words = "did not start" if self.server.command else "cannot be reached"
            if ended is not None:
                words = f"did not start: it ended with exit code {ended}"
            raise McpServerUnavailable(self.server, words, _words(error)) from error

    async def call(
        self, name: str, arguments: dict[str, Any], on_progress: OnProgress
    ) -> CallToolResult:
        """Calls a tool. If this is cancelled, so is the call there.

        Raises:
            MCPError: the server refused it, has gone, or took too long.
        """

        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            on_progress(progress, total, message)

        assert self._client is not None
        calling = asyncio.ensure_future(
            self._client.call_tool(name, arguments, self.server.call_timeout, progressed)
        )
        try:
            return await asyncio.shield(calling)
        except asyncio.CancelledError:
            calling.cancel()
            calling.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.wait([calling], timeout=_CANCEL)
            if not calling.done():  # a server that reads nothing
                self.abort()
            raise

    def abort(self) -> None:
        """Ends it at once, with the server's process. Never waits."""
        if self._process is not None:
            self._process.kill()
        self._scope.cancel()

    async def close(self, *, hurried: bool) -> None:
        """Ends it; a server that does not let go is left. A cancel of this hurries it."""
        keeper = self._keeper
        if keeper is None:
            return
        self._closing = True
        self._wake.set()
        if not self._ready.is_set():
            self.abort()  # it never got as far as to say good-bye
        try:
            await asyncio.wait([keeper], timeout=_HURRIED if hurried else _CLOSING)
            if not keeper.done():
                self.abort()
                await asyncio.wait([keeper], timeout=_CLOSING)
        finally:
            if not keeper.done():
                self.abort()
                keeper.cancel()

    async def _keep(self) -> None:
        try:
            with self._scope:
                async with AsyncExitStack() as stack:
                    client = self._client = await self._enter(stack)
                    self.tools = await _listed(client)
                    self._ready.set()
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._listen, client)
                        await self._follow(client)
                        tasks.cancel_scope.cancel()
        except Exception as error:
            self._error = error
        finally:
            self._ready.set()

    async def _enter(self, stack: AsyncExitStack) -> Client:
        async def heard(message: object) -> None:
            if isinstance(message, ToolListChangedNotification):
                self._wake.set()

        if self._process is not None:
            transport: Any = self._process.transport()
        else:
            http = await stack.enter_async_context(
                create_mcp_http_client(headers=dict(self.server.headers))
            )
            transport = streamable_http_client(self.server.url, http_client=http)
        # No cache: a list is asked for when it is needed, and again when it has changed.
        return await stack.enter_async_context(Client(transport, message_handler=heard, cache=None))

    async def _listen(self, client: Client) -> None:
        """Since 2026-07-28 a server says only to those who listen that its tools have changed."""
        offered = client.server_capabilities.tools
        if client.protocol_version not in MODERN_PROTOCOL_VERSIONS or not (
            offered and offered.list_changed
        ):
            return
        with contextlib.suppress(Exception):  # without it the tools are those of the beginning
            async with client.listen(tools_list_changed=True) as changes:
                async for _ in changes:
                    self._wake.set()

    async def _follow(self, client: Client) -> None:
        """Lists the tools again whenever they have changed, until the connection must close."""
        while True:
            await self._wake.wait()
            if self._closing:
                return
            self._wake.clear()
            with contextlib.suppress(MCPError):  # it has gone: its calls will say so
                self.tools = await _listed(client)
                self._changed()


async def _listed(client: Client) -> tuple[Tool, ...]:
    found: list[Tool] = []
    cursor: str | None = None
    while len(found) < MAX_TOOLS:
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        if not page.next_cursor or page.next_cursor == cursor:
            break
        cursor = page.next_cursor
    return tuple(found[:MAX_TOOLS])


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)[:500] or type(error).__name__
