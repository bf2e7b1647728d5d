"""What is LlamaIndex's own: steps, events of an author's, questions, and what answers them."""

import asyncio
from typing import Any

import pytest
from pullcord import LlamaIndexWorkflow
from pullcord.v1 import run_pb2
from workflows import Context, Workflow, step
from workflows.events import (
    Event,
    HumanResponseEvent,
    InputRequiredEvent,
    StartEvent,
    StopEvent,
)

from tests.adapters.foreign.test_contract import decide, ended, pytestmark, stop
from tests.transports.harness import Serve, Signal, kind_of

__all__ = ["pytestmark"]

Tools = run_pb2.ToolCallState


class Seen(Event):
    page: int


class Flow(Workflow):
    """Asks, in the middle of a step, and answers with what it was told."""

    @step
    async def read(self, ctx: Context, ev: StartEvent) -> StopEvent:
        ctx.write_event_to_stream(Seen(page=1, title=ev.title))
        asked = InputRequiredEvent(prefix="Which one?", user="ann")
        told = await ctx.wait_for_event(
            HumanResponseEvent, waiter_event=asked, requirements={"user": "ann"}
        )
        return StopEvent(result={"title": ev.title, "said": told.response, "to": ev.input})


def test_its_steps_and_its_own_events_are_told(serve: Serve) -> None:
    """Steps by their names; an event that only the author knows is a custom one, with its data."""
    stream = serve(Flow()).run("workflows/flow", "hello", input_data={"title": "Plums"})
    asked = stream.until("run_paused").run_paused
    assert asked.question == "Which one?"
    kinds = [kind_of(event) for event in stream.events]
    assert "step_started" in kinds
    assert [e.step_started.name for e in stream.events if kind_of(e) == "step_started"] == ["read"]
    told = next(e.custom for e in stream.events if kind_of(e) == "custom")
    assert (told.name, dict(told.data)) == ("Seen", {"page": 1, "title": "Plums"})


@pytest.mark.parametrize(
    ("decision", "heard", "state"),
    [
        ({"answer": "the blue one"}, "the blue one", Tools.TOOL_CALL_STATE_COMPLETED),
        ({"approved": True}, "yes", Tools.TOOL_CALL_STATE_COMPLETED),
        ({}, "no", Tools.TOOL_CALL_STATE_DECLINED),
    ],
)
def test_a_question_is_answered(
    serve: Serve, decision: dict[str, Any], heard: str, state: int
) -> None:
    """The answer has the fields of the question, so that the step which waits takes it."""
    served = serve(Flow())
    stream = served.run("workflows/flow", "hello", input_data={"title": "Plums"})
    call = stream.until("run_paused").run_paused.tool_calls[0]
    decide(served, stream.events[0].run_id, tool_call_id=call.tool_call_id, **decision)
    end = ended(stream, "run_completed")
    assert dict(end.output_data) == {"title": "Plums", "said": heard, "to": "hello"}
    assert [call.state for call in end.tool_calls] == [state]


def test_the_author_makes_the_start_the_text_and_the_answer(serve: Serve) -> None:
    """By `start`, `says` and `respond`."""
    adapter = LlamaIndexWorkflow(
        Flow(),
        start=lambda ctx: StartEvent(title=ctx.user_id, input="x"),
        says=lambda event: f"page {event.page}",
        respond=lambda request, decision: HumanResponseEvent(response="mine", user=request.user),
    )
    served = serve(adapter)
    stream = served.run("workflows/flow", user_id="bob")
    call = stream.until("run_paused").run_paused.tool_calls[0]
    assert stream.text() == "page 1"
    decide(served, stream.events[0].run_id, tool_call_id=call.tool_call_id, approved=True)
    end = ended(stream, "run_completed")
    assert dict(end.output_data) == {"title": "bob", "said": "mine", "to": "x"}


class ToolCall(Event):
    tool_id: str
    tool_name: str
    tool_kwargs: dict[str, Any]


class WaitingTool(Workflow):
    """A tool that asks, as those of llama-index-core's agents do."""

    @step
    async def begin(self, ev: StartEvent) -> ToolCall:
        return ToolCall(tool_id="t1", tool_name="pay", tool_kwargs={})

    @step
    async def call(self, ctx: Context, ev: ToolCall) -> StopEvent:
        await ctx.wait_for_event(HumanResponseEvent, waiter_event=InputRequiredEvent(prefix="Pay?"))
        return StopEvent(result="paid")


def test_a_tool_that_asks_does_not_hold_a_stop_up(serve: Serve) -> None:
    """It waits, and is not at work: a GRACEFUL stop does not wait for it."""
    served = serve(WaitingTool())
    stream = served.run("workflows/waiting-tool", "?")
    stream.until("run_paused")
    end = stop(served, stream)
    states = {call.tool_name: call.state for call in end.tool_calls}
    assert states["input"] == Tools.TOOL_CALL_STATE_DECLINED


class Parts(Workflow):
    """Two steps at a time, one of which fails while the other waits."""

    @step
    async def both(self, ctx: Context, ev: StartEvent) -> Seen | None:
        ctx.send_event(Seen(page=1))
        ctx.send_event(Seen(page=2))
        return None

    @step
    async def read(self, ctx: Context, ev: Seen) -> StopEvent:
        if ev.page == 2:
            await waiting.come()
            raise ValueError("no such page")
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            unwound.set()
        return StopEvent(result="never")


waiting, unwound = Signal(), Signal()


def test_a_step_that_fails_ends_the_others(serve: Serve) -> None:
    """The run fails by the author's error."""
    end = ended(serve(Parts()).run("workflows/parts", "?"), "run_failed")
    assert (end.error.type, end.error.message) == ("ValueError", "no such page")
    assert unwound.is_set()
