"""The driver alone, with frameworks that lose an interrupt or leave things open."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest
from pullcord.adapters.foreign.driver import ForeignRunnable
from pullcord.adapters.foreign.report import Report
from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind, ToolCallState
from pullcord.run.usage import Usage
from pullcord.v1 import run_pb2

from tests.adapters.foreign.test_contract import ended, stop
from tests.steady import PATIENCE
from tests.transports.harness import TERMINAL, Mode, Outcome, Serve, Signal, kind_of, seconds

Tools = run_pb2.ToolCallState


class Framework(ForeignRunnable):
    """A framework whose run is this function of its report."""

    def __init__(self, play: Callable[[Report], Awaitable[None]]) -> None:
        super().__init__(id="play", name="", fallback="", description="")
        self._play = play

    async def follow(self, ctx: RunContext, report: Report) -> None:
        await self._play(report)


def test_a_framework_that_waits_for_its_own_task_is_ended(serve: Serve) -> None:
    """Its cleanup waits for a task that it forgot to cancel."""

    async def play(report: Report) -> None:
        helper = asyncio.create_task(asyncio.Event().wait())
        report.text("a")
        try:
            await asyncio.Event().wait()
        finally:
            await helper

    served = serve(Framework(play))
    stream = served.run("play")
    stream.until("content_delta")
    stop(served, stream)


def test_a_framework_that_loses_the_interrupt_is_interrupted_again(serve: Serve) -> None:
    """It goes on as if nothing were; the next thing that it reports ends it."""
    lost = Signal()

    async def play(report: Report) -> None:
        report.text("a")
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        lost.set()
        while True:
            report.text("b")
            await asyncio.sleep(0)

    served = serve(Framework(play))
    stream = served.run("play")
    stream.until("content_delta")
    assert stop(served, stream).output == "a"
    assert lost.is_set()


def test_an_interrupt_does_not_tear_the_framework_s_cleanup(serve: Serve) -> None:
    """A GRACEFUL stop cancels once, however long the cleanup takes."""
    cleaned: list[str] = []

    async def play(report: Report) -> None:
        report.text("a")
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(20):
                await asyncio.sleep(0.01)
            cleaned.append("all")

    served = serve(Framework(play))
    stream = served.run("play")
    stream.until("content_delta")
    stop(served, stream)
    assert cleaned == ["all"]


def test_what_a_framework_leaves_open_is_closed(serve: Serve) -> None:
    """A call that unwound, one that may not have, and a child: each has one end in the stream."""

    async def play(report: Report) -> None:
        member = report.child_started("m1", "member", "member", SourceKind.AGENT)
        report.text("half", member)
        report.tool_started("1", "a", is_async=True, source=member)
        report.tool_started("2", "b", is_async=False)
        report.tool_started("3", "c")
        report.text("go")
        await asyncio.Event().wait()

    served = serve(Framework(play))
    stream = served.run("play")
    while stream.text() != "halfgo":
        stream.until("content_delta")
    end = stop(served, stream, mode=Mode.CANCEL_MODE_IMMEDIATE)
    assert {call.tool_name: call.state for call in end.tool_calls} == {
        "a": Tools.TOOL_CALL_STATE_INTERRUPTED,
        "b": Tools.TOOL_CALL_STATE_UNKNOWN,
        "c": Tools.TOOL_CALL_STATE_UNKNOWN,
    }
    of_member = [e for e in stream.events if e.source.run_id == "m1"]
    assert kind_of(of_member[-1]) == "run_cancelled"
    assert of_member[-1].run_cancelled.output == "half"


def test_tools_at_work_beside_each_other_may_all_finish(serve: Serve) -> None:
    """A GRACEFUL stop waits for the last of them, and nothing begins meanwhile."""
    go_on, refused = Signal(), []

    async def play(report: Report) -> None:
        report.tool_started("1", "a", is_async=True)
        report.tool_started("2", "b", is_async=True)
        await go_on.come()
        report.tool_ended("1", "one")
        await asyncio.sleep(0)
        refused.append(report.tool_started("3", "c", is_async=True))
        report.tool_ended("2", "two")
        await asyncio.Event().wait()

    served = serve(Framework(play))
    stream = served.run("play")
    stream.until("tool_call_started")
    stream.until("tool_call_started")
    served.cancel(stream.events[0].run_id, reason="enough")
    go_on.set()
    end = stop(served, stream)
    assert [(c.tool_name, c.result) for c in end.tool_calls] == [("a", "one"), ("b", "two")]
    assert refused == [False]


def test_a_tool_that_waits_for_a_child_s_model_holds_up_no_stop(serve: Serve) -> None:
    """Of several calls, a GRACEFUL stop lets those finish that do not wait: also one of the child's
    own child. What waits has INTERRUPTED in the ledger."""
    go_on = Signal()

    async def play(report: Report) -> None:
        report.tool_started("1", "ask", is_async=True)
        report.tool_started("2", "save", is_async=True)
        member = report.child_started("m1", "member", "member", within="1")
        report.tool_started("3", "ask-further", is_async=True, source=member)
        expert = report.child_started("m2", "expert", "expert", parent=member)
        report.model_began("m2", source=expert)
        report.tool_started("4", "look", is_async=True, source=expert)
        await go_on.come()
        report.tool_ended("2", "saved")
        await asyncio.sleep(0)
        report.tool_ended("4", "seen", source=expert)
        await asyncio.Event().wait()

    served = serve(Framework(play))
    stream = served.run("play")
    for _ in range(4):
        stream.until("tool_call_started")
    receipt = served.cancel(stream.events[0].run_id, reason="enough")
    assert receipt.outcome == Outcome.CANCEL_OUTCOME_REQUESTED
    go_on.set()
    end = stop(served, stream, grace_period=seconds(PATIENCE))
    assert {call.tool_name: call.state for call in end.tool_calls} == {
        "ask": Tools.TOOL_CALL_STATE_INTERRUPTED,
        "save": Tools.TOOL_CALL_STATE_COMPLETED,
        "ask-further": Tools.TOOL_CALL_STATE_INTERRUPTED,
        "look": Tools.TOOL_CALL_STATE_COMPLETED,
    }
    ends = [e for e in stream.events if kind_of(e) in TERMINAL]
    assert [e.source.name for e in ends] == ["expert", "member", ""]


def test_a_tool_whose_child_has_its_answer_may_finish(serve: Serve) -> None:
    """Once no model is at work, the tool's own code is, and a GRACEFUL stop lets it finish."""
    go_on = Signal()

    async def play(report: Report) -> None:
        report.tool_started("1", "ask", is_async=True)
        member = report.child_started("m1", "member", "member")
        report.model_began("m1", source=member)
        report.model_ended(Usage(1, 1), "m1")
        report.child_ended("m1", "because")
        report.text("go")
        await go_on.come()
        report.tool_ended("1", "noted down")
        await asyncio.Event().wait()

    served = serve(Framework(play))
    stream = served.run("play")
    stream.until("content_delta")
    served.cancel(stream.events[0].run_id, reason="enough")
    go_on.set()
    (call,) = stop(served, stream).tool_calls
    assert (call.state, call.result) == (Tools.TOOL_CALL_STATE_COMPLETED, "noted down")


def test_a_framework_that_cancels_itself_has_failed(serve: Serve) -> None:
    """Nobody asked for a stop, so the run is not CANCELLED."""

    async def play(report: Report) -> None:
        raise asyncio.CancelledError

    end = ended(serve(Framework(play)).run("play"), "run_failed")
    assert end.error.type == "ForeignRunFailed"


def test_a_limit_on_the_cost_of_an_unknown_model_fails_the_run(serve: Serve) -> None:
    """Nobody could keep it."""

    async def play(report: Report) -> None:
        report.model_began(model="nobody-knows-this")
        await asyncio.Event().wait()

    limits = run_pb2.Limits(max_cost=1.0)
    end = ended(serve(Framework(play)).run("play", limits=limits), "run_failed")
    assert end.error.type == "PriceUnknown"


@pytest.mark.parametrize("told", [Usage(7, 3), None])
def test_usage_is_the_provider_s_or_an_estimate(serve: Serve, told: Usage | None) -> None:
    """Several calls at a time are told apart by their names."""

    async def play(report: Report) -> None:
        report.model_began("x", model="gpt-5-mini", provider="openai")
        report.model_began("y", said="y" * 400)
        report.text("one", call="x")
        report.text("two", call="y")
        report.model_ended(told, "x")
        report.model_ended(Usage(100, 1), "y")

    usage = ended(serve(Framework(play)).run("play"), "run_completed").usage
    assert usage.steps == 2
    assert usage.estimated is (told is None)
    assert usage.cost_unknown  # of the call whose model has no name
    if told is not None:
        assert (usage.input_tokens, usage.output_tokens) == (107, 4)


def test_speakers_of_one_run_are_parted_by_a_blank_line(serve: Serve) -> None:
    """Once for each answer, so that those which come at the same time are not torn to pieces. One
    that speaks again goes on, and so does a child, which is no speaker of the run."""

    async def play(report: Report) -> None:
        member = report.child_started("m1", "member", "member")
        report.text("a1", call="1", speaker="a")
        report.text("m1", member, call="m", speaker="m")
        report.text("b1", call="2", speaker="b")
        report.text("a2", call="1", speaker="a")
        report.text("b2", call="2", speaker="b")
        report.text("b3", call="3", speaker="b")
        report.model_began("1")
        report.text("m2", member, call="m", speaker="m")
        report.text("a3", call="1", speaker="a")

    stream = serve(Framework(play)).run("play")
    assert ended(stream, "run_completed").output == "a1\n\nb1a2b2b3\n\na3"
    of_member = [event.content_delta.text for event in stream.events if event.source.run_id]
    assert "".join(of_member) == "m1m2"


def test_data_of_any_kind_becomes_output_data(serve: Serve) -> None:
    """What is no object stands under `result`; text that was streamed stays the output."""

    async def play(report: Report) -> None:
        report.output([1, 2])

    end = ended(serve(Framework(play)).run("play"), "run_completed")
    assert (list(end.output_data["result"]), end.output) == ([1, 2], "[1,2]")


def test_a_failed_call_is_in_the_ledger(serve: Serve) -> None:
    """With the words of its error."""

    async def play(report: Report) -> None:
        report.tool_started("1", "a", {"x": 1})
        report.tool_ended("1", "ValueError: no", ToolCallState.FAILED)

    call = ended(serve(Framework(play)).run("play"), "run_completed").tool_calls[0]
    assert (call.state, call.result) == (Tools.TOOL_CALL_STATE_FAILED, "ValueError: no")
    assert call.arguments == '{"x":1}'
