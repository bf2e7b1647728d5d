"""The tools of MCP servers as tools of an agent: their names, their calls, their results as text.

Which server there is and how it is reached is not known here.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import mcp_types as types
from mcp import MCPError

from pullcord.agent.mcp.connection import Connection, McpServerUnavailable
from pullcord.models.base import ToolDefinition
from pullcord.models.reading.text import encodable
from pullcord.models.reading.values import whole_arguments
from pullcord.native.calling import MAX_RESULT
from pullcord.native.tools import CallableTool, InvalidArguments, NotApproved, ToolFailed
from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError

_OTHER = re.compile(r"[^A-Za-z0-9_-]")
_MAX_NAME = 64
"""Characters of a tool's name that every provider takes."""


class McpToolFailed(ToolFailed):
    """The server says that the call failed; the message has its words."""


class McpTool:
    """One tool of a server, under the name that the model knows."""

    def __init__(self, connection: Connection, tool: types.Tool, name: str) -> None:
        self._connection = connection
        self._tool = tool
        self._needs_approval = connection.server.asks_about(tool.name)
        self.name = name
        self.definition = ToolDefinition(
            name, tool.description or tool.title or "", _schema(tool.input_schema)
        )

    def is_to_be_asked_about(self, arguments: str) -> bool:
        """Whether a call with these arguments waits for approval; one that must fail does not."""
        if not self._needs_approval:
            return False
        try:
            _read(arguments)
        except InvalidArguments:
            return False
        return True

    async def call(self, ctx: RunContext, arguments: str, *, approved: bool = False) -> str:
        """Calls it at the server; a cancel of this cancels it there.

        Raises:
            InvalidArguments: they are no JSON object.
            NotApproved: it needs an approval, and nothing says that it has one.
            McpToolFailed: the server says so, or does not answer.
        """
        given = _read(arguments)
        if self._needs_approval and not approved:
            raise NotApproved(f"{self.name} needs an approval")

        def progressed(done: float, total: float | None, note: str | None) -> None:
            with suppress(RunCancelledError, TypeError, ValueError):  # what a server says
                ctx.progress(done, total, note or "")

        try:
            result = await self._connection.call(self._tool.name, given, progressed)
        except (MCPError, RuntimeError, ValueError) as error:
            raise McpToolFailed(f"{self._connection.server.name}: {error}") from error
        text = text_of(result)
        if result.is_error:
            raise McpToolFailed(text or "the server does not say why")
        return text


def offered(
    own: Mapping[str, CallableTool], connections: Iterable[Connection]
) -> dict[str, CallableTool]:
    """An agent's own tools and those of its servers, by the names that the model knows.

    A name of which there are several begins with the server's name; an own tool keeps its name.
    """
    found = [
        (connection, tool)
        for connection in connections
        for tool in connection.tools
        if connection.server.offers(tool.name)
    ]
    times = Counter([*own, *(_plain(tool.name) for _, tool in found)])
    named: dict[str, CallableTool] = dict(own)
    for connection, tool in found:
        name = _plain(tool.name)
        if times[name] > 1:
            name = _plain(f"{connection.server.name}_{name}")
        name = _free(name, named)
        named[name] = McpTool(connection, tool, name)
    return named


def check_names(connection: Connection) -> None:
    """Raises McpServerUnavailable if a name that the author wrote down is no tool of the server.

    A tool of a mistyped name in `needs_approval` would be called without anybody's approval.
    """
    server = connection.server
    asked: Sequence[str] = () if isinstance(server.needs_approval, bool) else server.needs_approval
    has = {tool.name for tool in connection.tools}
    for field, names in (("tools", server.tools or ()), ("needs_approval", asked)):
        if missing := [name for name in names if name not in has]:
            words = f"has no tool {missing[0]!r}, which {field} names; it has "
            listed = ", ".join(sorted(has)[:20]) or "none"
            raise McpServerUnavailable(server, words + listed)


def text_of(result: types.CallToolResult) -> str:
    """A result as text for a model, not much longer than a tool's result may be."""
    pieces: list[str] = []
    room = MAX_RESULT + 1  # one more, so that the cut is seen where it is made
    for block in result.content:
        piece = _piece(block)
        pieces.append(piece[: max(room, 0)])
        room -= len(piece)
        if room < 0:
            break
    text = "\n".join(pieces)
    if not text and result.structured_content is not None:
        text = json.dumps(result.structured_content, ensure_ascii=False)
    return encodable(text)


def _piece(block: types.ContentBlock) -> str:
    match block:
        case types.TextContent():
            return block.text
        case types.ImageContent() | types.AudioContent():
            return f"[{block.type} {block.mime_type}, {_bytes(block.data)} bytes: not shown]"
        case types.ResourceLink():
            return f"[resource {block.name}: {block.uri}]"
        case types.EmbeddedResource():
            held = block.resource
            if isinstance(held, types.TextResourceContents):
                return held.text
            return f"[resource {held.uri}, {_bytes(held.blob)} bytes: not shown]"


def _bytes(encoded: str) -> int:
    return len(encoded) * 3 // 4 - encoded[-2:].count("=")


def _read(arguments: str) -> dict[str, Any]:
    """Whether they fit the tool's schema is for the server to say."""
    try:
        read = json.loads(whole_arguments(arguments))
    except (ValueError, RecursionError) as error:
        raise InvalidArguments(f"arguments: no JSON: {error}") from error
    if not isinstance(read, dict):
        raise InvalidArguments("arguments: must be a JSON object")
    return read


def _schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    made = {**schema}
    made.pop("$schema", None)  # some providers refuse it
    made.setdefault("type", "object")
    made.setdefault("properties", {})
    return made


def _plain(name: str) -> str:
    return _OTHER.sub("_", name)[:_MAX_NAME] or "tool"


def _free(name: str, taken: Mapping[str, object]) -> str:
    free, number = name, 1
    while free in taken:
        number += 1
        end = f"_{number}"
        free = name[: _MAX_NAME - len(end)] + end
    return free
