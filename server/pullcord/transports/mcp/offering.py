"""The MCP server whose tools are runnables: it lists them, and a call of one is a run.

What the client hears while a run is at work is progress, if it asked for that. A call that is
cancelled stops its run, and is answered nothing.
"""

import contextlib
from collections.abc import Callable
from contextlib import aclosing
from importlib.metadata import version
from typing import Any

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server import Server, ServerRequestContext

from pullcord.run.errors import InvalidArgument, PullcordError, RunnableNotFound
from pullcord.run.events import ContentDelta, Event, Progress, RunPaused
from pullcord.transports.mcp.runs import Runs
from pullcord.transports.mcp.tools import paused, refused, result_of, tool_of, wanted_by

Context = ServerRequestContext[Any, Any]

_STOP = 10.0
"""Seconds that the cancel of a run may take to be accepted."""
_REASON = "the MCP client cancelled the call, or left"


def offering(runs_of: Callable[[Context], Runs]) -> Server[Any]:
    """A server of the runs that `runs_of` finds for each request."""

    async def listed(ctx: Context, _: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        try:
            infos = await runs_of(ctx).offers()
        except PullcordError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from error
        return types.ListToolsResult(tools=[tool_of(info) for info in infos])

    async def called(ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            return await _call(ctx, runs_of(ctx), params)
        except RunnableNotFound as error:
            words = f"unknown tool {params.name[:160]!r}; tools/list has those there are"
            raise MCPError(types.INVALID_PARAMS, words) from error
        except PullcordError as error:
            return refused(f"{type(error).__name__}: {error}")

    return Server(
        "pullcord",
        version=version("pullcord"),
        instructions="Each tool starts a run of an agent, a team or a workflow, and waits for it.",
        on_list_tools=listed,
        on_call_tool=called,
    )


async def _call(
    ctx: Context, runs: Runs, params: types.CallToolRequestParams
) -> types.CallToolResult:
    if "_" not in params.name:
        raise RunnableNotFound(params.name)
    try:
        wanted = wanted_by(params.name, params.arguments)
    except InvalidArgument as error:
        return refused(f"InvalidArgument: {error}")
    try:
        async with aclosing(runs.events(wanted)) as events:
            async for event in events:
                if isinstance(event.payload, RunPaused):
                    return paused(event, wanted.run_id)
                if words := _words(event):
                    # Rises with each; nothing is sent unless the client has asked.
                    await ctx.session.report_progress(event.sequence, None, words)
        return result_of(await runs.get(wanted.run_id))
    except anyio.get_cancelled_exc_class():
        # Suppressed: its server has gone, and the run with it.
        with anyio.move_on_after(_STOP, shield=True), contextlib.suppress(PullcordError):
            await runs.cancel(wanted.run_id, _REASON)
        raise


def _words(event: Event) -> str:
    """The words of an event for the client: the run's own text, or its progress."""
    if event.source is not None:
        return ""
    match event.payload:
        case ContentDelta(text):
            return text
        case Progress(done, total, note):
            far = f"{done:g} of {total:g}" if total else f"{done:g}"
            return f"{note} ({far})" if note else far
        case _:
            return ""
