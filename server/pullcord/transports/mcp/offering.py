"""The MCP server whose tools are runnables: it lists them, and a call of one is a run.

What the client hears while a run is at work is progress, if it asked for that. A call that is
cancelled stops its run, and is answered nothing.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from importlib.metadata import version
from typing import Any

import anyio
import mcp_types as types
from mcp import MCPError
from mcp.server import Server, ServerRequestContext

from pullcord.run.errors import (
    InvalidArgument,
    PullcordError,
    RunnableNotFound,
    RunNotPaused,
)
from pullcord.run.events import ContentDelta, Event, Progress, RunPaused
from pullcord.transports.mcp.asking import (
    Round,
    asked,
    can_ask,
    filled_in,
    forms,
    is_called_again,
)
from pullcord.transports.mcp.runs import Runs
from pullcord.transports.mcp.tools import (
    paused,
    refused,
    result_of,
    still_paused,
    tool_of,
    waiting_run,
    wanted_by,
)

Context = ServerRequestContext[Any, Any]
Result = types.CallToolResult | types.InputRequiredResult

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

    async def called(ctx: Context, params: types.CallToolRequestParams) -> Result:
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


async def _call(ctx: Context, runs: Runs, params: types.CallToolRequestParams) -> Result:
    if "_" not in params.name:
        raise RunnableNotFound(params.name)
    if params.request_state is not None:
        return await _again(ctx, runs, params, params.request_state)
    try:
        wanted = wanted_by(params.name, params.arguments)
    except InvalidArgument as error:
        return refused(f"InvalidArgument: {error}")
    return await _followed(ctx, runs, wanted.run_id, runs.events(wanted))


async def _again(
    ctx: Context, runs: Runs, params: types.CallToolRequestParams, state: str
) -> Result:
    """A call that comes again, with what its client's user has filled in."""
    try:
        before = Round.of(state)
    except (ValueError, RecursionError):
        raise MCPError(types.INVALID_PARAMS, "requestState is none of this server's") from None
    decisions = filled_in(params.input_responses)
    if decisions is None:
        return still_paused(before.run_id, before.waits)
    with contextlib.suppress(RunNotPaused):  # somebody else has decided
        await runs.decide(before.waits, decisions)
    events = runs.events_after(before.run_id, before.sequence)
    return await _followed(ctx, runs, before.run_id, events)


async def _followed(
    ctx: Context, runs: Runs, run_id: str, following: AsyncGenerator[Event, None]
) -> Result:
    """Follows a run to its end, or to a pause that others must end."""
    try:
        async with aclosing(following) as events:
            event = await anext(events, None)
            while event is not None:
                if isinstance(event.payload, RunPaused):
                    if is_called_again(ctx):
                        waits = waiting_run(event, run_id)
                        return forms(event.payload, Round(run_id, waits, event.sequence))
                    went_on, event = await _ask(ctx, runs, event, events, run_id)
                    if not went_on:
                        assert event is not None
                        return paused(event, run_id)
                    continue
                if words := _words(event):
                    # Rises with each; nothing is sent unless the client has asked.
                    await ctx.session.report_progress(event.sequence, None, words)
                event = await anext(events, None)
        return result_of(await runs.get(run_id))
    except anyio.get_cancelled_exc_class():
        # Suppressed: its server has gone, and the run with it.
        with anyio.move_on_after(_STOP, shield=True), contextlib.suppress(PullcordError):
            await runs.cancel(run_id, _REASON)
        raise


async def _ask(
    ctx: Context, runs: Runs, pause: Event, events: AsyncGenerator[Event, None], run_id: str
) -> tuple[bool, Event | None]:
    """Asks the client's user what a paused run asks, unless somebody else decides first.

    Whether it goes on, and the next event; or False, and the pause.
    """
    assert isinstance(pause.payload, RunPaused)
    if not can_ask(ctx):
        return False, pause
    coming: asyncio.Future[Event | None] = asyncio.ensure_future(anext(events, None))
    asking = asyncio.ensure_future(asked(ctx, pause.payload))
    both: list[asyncio.Future[Any]] = [coming, asking]
    went_on = False
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not coming.done() and (decisions := asking.result()) is not None:
            try:
                await runs.decide(waiting_run(pause, run_id), decisions)
            except RunNotPaused:  # decided by somebody else meanwhile, or over
                pass
            except PullcordError:
                return False, pause
            await asyncio.wait([coming])
        if coming.done():
            went_on = True
            return True, coming.result()
        return False, pause
    finally:
        asking.cancel()
        if not went_on:
            coming.cancel()
        with anyio.CancelScope(shield=True):  # the events can be closed only then
            await asyncio.wait(both)


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
