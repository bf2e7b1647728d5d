"""The loop of an agent: ask the model, call the tools it wants, ask again, until it wants none.

Everything is said through the run's context, and every way out, also a cancel in the middle, leaves
no task and no open stream behind. How messages are made, and how a tool's function may end, is not
known here.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import monotonic
from typing import Any

from pydantic import BaseModel

from pullcord.models.base import (
    AssistantMessage,
    Finished,
    Kept,
    Message,
    Model,
    ModelError,
    ModelRequest,
    Reasoning,
    Text,
    ToolMessage,
    ToolRequest,
    UserMessage,
)
from pullcord.models.reading.values import reason as finish_reason
from pullcord.native.approval import answer_of, by_call, decisions_on, to_be_asked_about
from pullcord.native.calling import Repetitions, result_of
from pullcord.native.carrying import Turn, dumped, loaded
from pullcord.native.endings import Answer, OnCutOff, check_end
from pullcord.native.meter import Meter
from pullcord.native.structured import complaint
from pullcord.native.tools import CallableTool
from pullcord.native.waiting import OpenCall, OpenTurn, at_work
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.context import RunContext
from pullcord.run.errors import PublicError
from pullcord.run.events import UsageUpdated
from pullcord.run.finish import FinishReason
from pullcord.run.model_call import ModelCall
from pullcord.run.plain import class_name
from pullcord.run.record import Decision
from pullcord.run.redaction import redacted
from pullcord.run.usage import Usage

_CUT = {FinishReason.LENGTH, FinishReason.CONTENT_FILTER}
"""An answer that ended so is not asked for again: it would end so again."""
_NO_REASON = (FinishReason.STOP, "")


class UnknownTool(PublicError):
    """The model asked for a tool that it was not offered."""


class PriceUnknown(PublicError):
    """A run has a limit on its cost, and nobody knows what its model costs."""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """The author's options for the loop."""

    on_cut_off: OnCutOff = "complete"
    """The end of a run whose answer the limit of tokens cut off, if it has text."""
    max_model_calls: int | None = 50
    """More end the run CANCELLED, cause BUDGET, limit `max_steps`; None is no bound."""
    max_same_failures: int | None = 3
    """So many failures of one call, with one error, fail the run; None is no bound."""

    output_retries: int = 0
    """The number of times that a model is asked again if its answer does not fit the schema."""

    def __post_init__(self) -> None:
        retries: Any = self.output_retries
        if not (isinstance(retries, int) and retries >= 0):
            words = f"must be a whole number, at least 0: {retries!r}"
            raise ValueError(f"output_retries {words}")
        if self.on_cut_off not in ("complete", "fail"):
            raise ValueError(f"on_cut_off must be 'complete' or 'fail', not {self.on_cut_off!r}")
        for name in ("max_model_calls", "max_same_failures"):
            bound = getattr(self, name)
            if bound is not None and not (isinstance(bound, int) and bound >= 1):
                raise ValueError(f"{name} must be a whole number, at least 1, or None: {bound!r}")


def _nothing() -> None:
    """Returns None: nothing belongs to the run besides its conversation."""


async def converse(
    ctx: RunContext,
    model: Model,
    messages: Iterable[Message],
    tools: Mapping[str, CallableTool],
    output_schema: type[BaseModel] | None = None,
    options: LoopOptions = LoopOptions(),  # frozen
    extra: Callable[[], Any] = _nothing,
) -> Answer:
    """Carries the conversation on until the model has given its answer, and returns that.

    A run that goes on after a pause in another process goes on from the turn that paused, whatever
    `messages` are. `extra` is what belongs to the run besides, as JSON, whenever it pauses.

    Raises:
        ContinuationRefused: the run paused in another process, and cannot go on with these tools.
        ModelError: the model could not answer.
        AnswerCutOff, AnswerWithheld, AnswerRefused: its answer cannot be the result.
        RepeatedFailure: it asks for the same failing call again and again.
        PriceUnknown: the run has a limit on its cost that nobody could keep.
    """
    _check_price(ctx, model)
    said = tuple(messages)
    most_failures = options.max_same_failures
    repetitions = Repetitions(most_failures)
    ledger_ids, calls, rejected = _LedgerIds(), 0, 0
    if (resumed := ctx.resumed) is not None:
        turn = loaded(resumed.continuation, model, tools)
        ledger_ids, calls = _LedgerIds(turn.ledger_ids), turn.model_calls
        rejected, repetitions = turn.rejected, Repetitions(most_failures, turn.failures)
        decisions = by_call(turn.asked, resumed.decisions)
        opened = OpenTurn(ctx, turn, model, tools, extra)
        results = await _call_tools(ctx, tools, turn, opened, decisions, repetitions)
        said = (*turn.said, *results)
    while True:
        if calls == options.max_model_calls:
            reason = f"the limit of {calls} model calls of the agent was reached"
            ctx.cancel(Cancellation(CancelCause.BUDGET, reason=reason, limit="max_steps"))
        calls += 1
        # Anew each time: the tools of other servers may change meanwhile.
        definitions = tuple(tool.definition for tool in tools.values())
        answer, end = await _ask(ctx, model, ModelRequest(said, definitions, output_schema))
        requests = answer.tool_requests
        announced = end.reason is FinishReason.TOOL_CALLS  # of calls that never came: it just ended
        reason_ = FinishReason.STOP if announced and not requests else end.reason
        ctx.set_finish_reason(reason_)
        check_end(end, answer.text, has_calls=bool(requests), on_cut_off=options.on_cut_off)
        if not requests:
            wrong = (
                complaint(output_schema, answer.text) if rejected < options.output_retries else ""
            )
            if not wrong or reason_ in _CUT:
                return Answer(answer.text, reason_, rejected)
            rejected += 1
            said = (*said, answer, UserMessage(wrong))
            continue
        wanted = tuple((ledger_ids.make(request), request) for request in requests)
        said = (*said, answer)
        decisions = {}
        turn = Turn(
            said,
            wanted,
            (),
            calls,
            ledger_ids.taken,
            rejected=rejected,
            failures=repetitions.data(),
        )
        if asked := to_be_asked_about(tools, wanted):
            ids = tuple(call.tool_call_id for call in asked)
            waits = replace(turn, asked=ids, extra=extra())
            decisions = await decisions_on(ctx, asked, dumped(waits, model, tools))
        opened = OpenTurn(ctx, turn, model, tools, extra)
        results = await _call_tools(ctx, tools, turn, opened, decisions, repetitions)
        said = (*said, *results)


def _check_price(ctx: RunContext, model: Model) -> None:
    if ctx.limits_left.max_cost is None or model.cost(Usage(1, 1)) is not None:
        return
    raise PriceUnknown(
        f"the limit max_cost cannot be kept: the price of the model {model.id!r} is not known; "
        "leave the limit out, or give the model a price"
    )


async def _ask(
    ctx: RunContext, model: Model, request: ModelRequest
) -> tuple[AssistantMessage, Finished]:
    ctx.use(Usage(steps=1))
    meter = Meter(ctx, model)
    text: list[str] = []
    tool_requests: list[ToolRequest] = []
    kept: object = None
    end: Finished | None = None
    begun = False
    began_at, first_at, failed_by = monotonic(), 0.0, ""
    try:
        meter.sent(request)
        async with aclosing(model.stream(request)) as chunks:
            async for chunk in chunks:
                if not begun:
                    begun, first_at = True, monotonic()
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
                        meter.requested(chunk.name + chunk.arguments)
                    case Usage():
                        meter.told(chunk)
                    case Kept(kept):
                        pass
                    case Finished(reason):
                        # An author's own model may say it in words of its own.
                        known = isinstance(reason, FinishReason)
                        end = chunk if known else Finished(*(finish_reason(reason) or _NO_REASON))
                        break
    except Exception as error:
        failed_by = class_name(error)
        if isinstance(error, ModelError) and not begun:
            meter.refused()
        raise
    finally:
        meter.end()
        ctx.model_called(
            ModelCall(
                str(model.id),
                str(getattr(model, "provider", "")),
                monotonic() - began_at,
                first_at - began_at if begun else None,
                meter.counted,
                None if end is None else end.reason,
                "" if ctx.cancel_token.cancelled else failed_by,
            )
        )
    if end is None:
        raise ModelError(f"the model {model.id!r} ended its answer without Finished")
    ctx.emit(UsageUpdated(ctx.usage))
    return AssistantMessage("".join(text), tuple(tool_requests), kept), end


async def _call_tools(
    ctx: RunContext,
    tools: Mapping[str, CallableTool],
    turn: Turn,
    opened: OpenTurn,
    decisions: Mapping[str, Decision],
    repetitions: Repetitions,
) -> list[ToolMessage]:
    """Makes all calls of a turn at the same time that are not done; the results are in the order of
    the requests.

    Somebody has decided about those that need it.

    Not a TaskGroup: that would cancel the others when the first call to end finds the run
    cancelled, and a GRACEFUL cancel lets every call in flight finish. Cancelling *this* cancels
    them all, and waits for them.
    """
    calls = [
        _made(
            ctx,
            tools,
            request,
            OpenCall(id, turn.children.get(id, "")),
            opened,
            decisions,
            repetitions,
        )
        if id not in turn.results
        else _known(ToolMessage(request.id, turn.results[id]))
        for id, request in turn.wanted
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    messages: list[ToolMessage] = []
    for result in results:
        if isinstance(result, BaseException):
            raise result
        messages.append(result)
    repetitions.check()
    return messages


async def _known(result: ToolMessage) -> ToolMessage:
    return result


async def _made(
    ctx: RunContext,
    tools: Mapping[str, CallableTool],
    request: ToolRequest,
    call: OpenCall,
    opened: OpenTurn,
    decisions: Mapping[str, Decision],
    repetitions: Repetitions,
) -> ToolMessage:
    with at_work(opened, call):
        result = await _call_tool(ctx, tools, request, call, decisions.get(call.id), repetitions)
    opened.ended(call, result.text)
    return result


async def _call_tool(
    ctx: RunContext,
    tools: Mapping[str, CallableTool],
    request: ToolRequest,
    call: OpenCall,
    decision: Decision | None,
    repetitions: Repetitions,
) -> ToolMessage:
    """One call. However an author's function ends is news for the model, and no end of the run."""
    if decision is not None and (instead := answer_of(decision)) is not None:
        return ToolMessage(request.id, instead or "(empty)")
    try:
        arguments, again = request.arguments, bool(call.again)
        with ctx.tool_call(call.id, request.name, arguments, again=again) as returned:
            tool = tools.get(request.name)
            if tool is None:
                raise UnknownTool(f"there is no tool {request.name!r}")
            text = await result_of(tool, ctx, arguments, approved=decision is not None)
            returned(text)
        repetitions.succeeded(request)
    except Exception as error:
        text = redacted(f"Error: {type(error).__name__}: {error}")
        repetitions.failed(request, text)
    return ToolMessage(request.id, text or "(empty)")


class _LedgerIds:
    """Ids for the run's ledger: the model's, made different where it repeats itself.

    Some servers number the calls of every answer from 0 again.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken: set[str] = set(taken)

    @property
    def taken(self) -> tuple[str, ...]:
        """Those that were made."""
        return tuple(sorted(self._taken))

    def make(self, request: ToolRequest) -> str:
        ledger_id, number = request.id, 1
        while ledger_id in self._taken:
            number += 1
            ledger_id = f"{request.id}-{number}"
        self._taken.add(ledger_id)
        return ledger_id
