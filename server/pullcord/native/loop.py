"""The loop of an agent: ask the model, call the tools it wants, ask again, until it wants none.

Everything is said through the run's context, and every way out, also a cancel in the middle, leaves
no task and no open stream behind. What the messages are made of is not known here.
"""

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import aclosing

from pydantic import BaseModel

from pullcord.models.base import (
    AssistantMessage,
    Finished,
    Message,
    Model,
    ModelError,
    ModelRequest,
    Reasoning,
    Text,
    ToolMessage,
    ToolRequest,
)
from pullcord.native.approval import answer_of, decisions_on
from pullcord.native.meter import Meter
from pullcord.native.tools import Tool
from pullcord.run.context import RunContext
from pullcord.run.events import UsageUpdated
from pullcord.run.record import Decision
from pullcord.run.usage import Usage


class UnknownTool(Exception):
    """The model asked for a tool that it was not offered."""


async def converse(
    ctx: RunContext,
    model: Model,
    messages: Iterable[Message],
    tools: Mapping[str, Tool],
    output_schema: type[BaseModel] | None = None,
) -> str:
    """Carries the conversation on until the model has given its answer, and returns that.

    Raises:
        ModelError: the model could not answer.
    """
    said = tuple(messages)
    definitions = tuple(tool.definition for tool in tools.values())
    ledger_ids = _LedgerIds()
    while True:
        answer = await _ask(ctx, model, ModelRequest(said, definitions, output_schema))
        if not answer.tool_requests:
            return answer.text
        results = await _call_tools(ctx, tools, answer.tool_requests, ledger_ids)
        said = (*said, answer, *results)


async def _ask(ctx: RunContext, model: Model, request: ModelRequest) -> AssistantMessage:
    ctx.use(Usage(steps=1))
    meter = Meter(ctx, model)
    text: list[str] = []
    tool_requests: list[ToolRequest] = []
    begun = told = False
    try:
        meter.sent(request)
        async with aclosing(model.stream(request)) as chunks:
            async for chunk in chunks:
                begun = True
                match chunk:
                    case Text(piece):
                        text.append(piece)
                        ctx.write(piece)
                        meter.received(piece)
                    case Reasoning(piece):
                        ctx.think(piece)
                        meter.received(piece, reasoning=True)
                    case ToolRequest():
                        tool_requests.append(chunk)
                        meter.received(chunk.name + chunk.arguments)
                    case Usage():
                        told = True
                        meter.told(chunk)
                    case Finished():
                        break
    except ModelError:
        if not begun:
            told = True
            meter.refused()
        raise
    finally:
        if not told:
            meter.unsettled()
    ctx.emit(UsageUpdated(ctx.usage))
    return AssistantMessage("".join(text), tuple(tool_requests))


async def _call_tools(
    ctx: RunContext,
    tools: Mapping[str, Tool],
    requests: Iterable[ToolRequest],
    ledger_ids: "_LedgerIds",
) -> list[ToolMessage]:
    """Calls all of them at the same time; the results are in the order of the requests.

    Nothing of them is executed before somebody has decided about those that need it.

    Not a TaskGroup: that would cancel the others when the first call to end finds the run
    cancelled, and a GRACEFUL cancel lets every call in flight finish. Cancelling *this* cancels
    them all, and waits for them.
    """
    wanted = [(ledger_ids.make(request), request) for request in requests]
    decisions = await decisions_on(ctx, tools, wanted)
    calls = [
        _call_tool(ctx, tools, request, ledger_id, decisions.get(ledger_id))
        for ledger_id, request in wanted
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    messages: list[ToolMessage] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        messages.append(result)
    return messages


async def _call_tool(
    ctx: RunContext,
    tools: Mapping[str, Tool],
    request: ToolRequest,
    ledger_id: str,
    decision: Decision | None,
) -> ToolMessage:
    """One call. What an author's function raises is news for the model, and no end of the run."""
    if decision is not None and (instead := answer_of(decision)) is not None:
        return ToolMessage(request.id, instead)
    try:
        with ctx.tool_call(ledger_id, request.name, request.arguments) as returned:
            tool = tools.get(request.name)
            if tool is None:
                raise UnknownTool(f"there is no tool {request.name!r}")
            text = await tool.call(ctx, request.arguments, approved=decision is not None)
            returned(text)
    except Exception as error:
        text = f"Error: {type(error).__name__}: {error}"
    return ToolMessage(request.id, text)


class _LedgerIds:
    """Ids for the run's ledger: the model's, made different where it repeats itself.

    Some servers number the calls of every answer from 0 again.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def make(self, request: ToolRequest) -> str:
        ledger_id, number = request.id, 1
        while ledger_id in self._taken:
            number += 1
            ledger_id = f"{request.id}-{number}"
        self._taken.add(ledger_id)
        return ledger_id
