"""The process of an MCP server that speaks on stdin and stdout, as a transport of the SDK.

It has a process group of its own, which is gone once the transport is left, whatever the server
does. The SDK's own transport gives an unwilling server four seconds, which no stop should take.
"""

import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import ByteReceiveStream, ByteSendStream, Process
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import jsonrpc_message_adapter

from pullcord.agent.mcp.server import McpServer

_log = logging.getLogger("pullcord.mcp")

_MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message; the connection to a server that sends a longer one ends."""
_FLUSH = 0.5
"""Seconds until what was sent must have been taken, before stdin is closed."""
_PATIENCE = 1.0
"""Seconds that the server has to end by itself once its stdin is closed; then SIGTERM follows."""
_LAST_PATIENCE = 0.5
"""Seconds from SIGTERM to SIGKILL."""
_POLL = 0.01

_Streams = tuple[
    MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]
]


class ServerProcess:
    """One process, started and ended with the transport's context."""

    def __init__(self, server: McpServer, marks: Mapping[str, str]) -> None:
        """`marks` are environment variables by which the process is known to be its run's."""
        self._server = server
        self._marks = marks
        self._process: Process | None = None

    @property
    def exit_code(self) -> int | None:
        """Once it has ended."""
        return None if self._process is None else self._process.returncode

    def kill(self) -> None:
        """Kills it with its group. Never waits."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    @asynccontextmanager
    async def transport(self) -> AsyncGenerator[_Streams, None]:
        """Starts it. Raises OSError if it cannot be started."""
        server = self._server
        process = self._process = await anyio.open_process(
            list(server.command),
            env=get_default_environment() | dict(server.env) | dict(self._marks),
            cwd=server.cwd,
            stderr=None,  # that of this process
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        inbox, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        write, outbox = anyio.create_memory_object_stream[SessionMessage](0)
        written = anyio.Event()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_read, process.stdout, inbox, server.name)
                tasks.start_soon(_write, outbox, process.stdin, inbox, written)
                try:
                    yield read, write
                finally:
                    with anyio.CancelScope(shield=True):
                        read.close()
                        write.close()
                        with anyio.move_on_after(_FLUSH):
                            await written.wait()
                        await self._end(process)
                    tasks.cancel_scope.cancel()
        finally:
            self.kill()
            for stream in (inbox, read, write, outbox):
                stream.close()
            _release(process)

    async def _end(self, process: Process) -> None:
        """The end of the protocol: its stdin is closed, and what does not end by that is ended."""
        assert process.stdin is not None
        with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            await process.stdin.aclose()
        if not await _ended(process, _PATIENCE):
            self._signal(signal.SIGTERM)
            await _ended(process, _LAST_PATIENCE)
        self.kill()  # also what it has left in its group
        await _ended(process, _LAST_PATIENCE)


async def _ended(process: Process, patience: float) -> bool:
    """Not `process.wait()`, which also waits for those who have inherited its pipes."""
    until = time.monotonic() + patience
    while process.returncode is None:
        if time.monotonic() >= until:
            return False
        await anyio.sleep(_POLL)
    return True


def _release(process: Process) -> None:
    """Closes its pipes here, though somebody may still hold the other ends."""
    transport = getattr(getattr(process, "_process", None), "_transport", None)
    if transport is not None:
        with contextlib.suppress(PermissionError):
            transport.close()


async def _read(
    stdout: ByteReceiveStream, inbox: MemoryObjectSendStream[SessionMessage | Exception], name: str
) -> None:
    rest = bytearray()
    with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        async with inbox:
            async for piece in stdout:
                begun = len(rest)
                rest += piece
                if rest.find(b"\n", begun) >= 0:
                    *lines, last = rest.split(b"\n")
                    rest = bytearray(last)
                    for line in lines:
                        if line.strip():
                            await inbox.send(_message(bytes(line)))
                elif len(rest) > _MAX_MESSAGE:
                    _log.error("the MCP server %r sent a message that is too long", name)
                    return


def _message(line: bytes) -> SessionMessage | Exception:
    try:
        return SessionMessage(jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


async def _write(
    outbox: MemoryObjectReceiveStream[SessionMessage],
    stdin: ByteSendStream,
    inbox: MemoryObjectSendStream[SessionMessage | Exception],
    written: anyio.Event,
) -> None:
    try:
        async with outbox:
            async for sent in outbox:
                line = sent.message.model_dump_json(by_alias=True, exclude_unset=True)
                await stdin.send(f"{line}\n".encode())
    except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        inbox.close()  # nobody will answer any more
    finally:
        written.set()
