"""A paused run outlives its process: it is executed anew once somebody has decided."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord.engine.clock import Clock, ThreadClock
from pullcord.run.cancel import CancelCause, CancelOutcome
from pullcord.run.context import RunContext
from pullcord.run.errors import InvalidArgument, RunNotPaused
from pullcord.run.events import RunContinued, RunPaused, ToolCall, ToolCallState
from pullcord.run.record import Decision, RunSpec, SessionPolicy
from pullcord.run.state import RunState
from pullcord.run.usage import Limits, Usage
from pullcord.testing import ManualClock, Script, nothing_left, say

from tests.engine.driving import cancel, ended, events
from tests.engine.processes import Process

YES, NO = Decision("a", approved=True), Decision("a", note="too dear")


async def pays(ctx: RunContext) -> None:
    """Asks whether to pay, and goes on from wherever it is."""
    if ctx.resumed is None:
        ctx.write("May I? ")
        ctx.use(Usage(output_tokens=3, tool_calls=1))
        with ctx.tool_call("look", "look") as returned:
            returned("12")
        ctx.set_output(None, {"so": "far"})
        call = ToolCall("a", "pay", '{"sum": 12}')
        (made,) = await ctx.ask("Pay?", [call], continuation=b"sum=12")
        told = "here"
    else:
        (made,) = ctx.resumed.decisions
        told = f"anew with {ctx.resumed.continuation.decode()} and {ctx.usage.output_tokens}"
    if made.approved:
        with ctx.tool_call("a", "pay", '{"sum": 12}') as returned:
            returned("paid")
    ctx.write(f"{told}: {made.approved}")


async def asks(ctx: RunContext) -> None:
    """Asks, and hands nothing over."""
    await ctx.ask("Pay?", [ToolCall("a", "pay")])


async def twice(ctx: RunContext) -> None:
    """Asks two times."""
    for words in ("Once?", "Twice?"):
        if ctx.resumed is not None and ctx.resumed.continuation == words.encode():
            ctx.write("once " if words == "Once?" else "twice")
        elif ctx.resumed is None or ctx.resumed.continuation == b"Once?":
            call = ToolCall("a" if words == "Once?" else "b", "pay")
            await ctx.ask(words, [call], continuation=words.encode())


def _until(watcher: Any, words: str) -> Iterator[Any]:
    """The pauses up to the one that asks so."""
    for event in watcher:
        if isinstance(event.payload, RunPaused):
            yield event
            if event.payload.question == words:
                return


Next = Callable[..., Process]


@pytest.fixture
def next_process(tmp_path: Path) -> Iterator[Next]:
    """Ends one process, and begins the next one on its file."""
    made: list[Process] = []
    scripts = {
        "agents/pays": Script(pays, id="pays", is_async=True),
        "agents/asks": Script(asks, id="asks", is_async=True),
        "agents/twice": Script(twice, id="twice", is_async=True),
        "agents/says": Script(say("hello"), id="says", is_async=True),
    }

    def make(clock: Clock | None = None, **bounds: Any) -> Process:
        if made:
            made[-1].engine.close()
        made.append(Process(tmp_path, clock or ThreadClock(), scripts, **bounds))
        return made[-1]

    with nothing_left():
        yield make
        made[-1].engine.close()


class TestRestart:
    def test_a_paused_run_is_continued_in_the_next_process(self, next_process: Next) -> None:
        """With its text, usage, data, ledger and numbers; what it had handed over and what was
        decided is what its code goes on from."""
        first = next_process()
        first.start(labels={"k": "v"})
        asked = first.paused()
        assert asked.survives
        before = first.engine.get("r")
        first.rests()
        second = next_process()
        assert second.admitted == 1
        run = second.engine.get("r")
        assert run == before
        assert (run.state, run.output, run.output_data) == (
            RunState.PAUSED,
            "May I? ",
            {"so": "far"},
        )
        assert second.paused() == asked
        second.engine.continue_run("r", [YES], "ann")
        end = ended(second.engine)
        assert end.state is RunState.COMPLETED
        assert end.output == "May I? anew with sum=12 and 3: True"
        assert end.usage == Usage(output_tokens=3, tool_calls=3)
        assert [(c.tool_call_id, c.state, c.result) for c in end.tool_calls] == [
            ("look", ToolCallState.COMPLETED, "12"),
            ("a", ToolCallState.COMPLETED, "paid"),
        ]
        assert end.create_time == before.create_time
        assert end.start_time == before.start_time
        continued = [e for e in events(second.engine) if isinstance(e.payload, RunContinued)]
        assert [e.payload.actor for e in continued] == ["ann"]

    def test_a_decision_is_checked_as_ever(self, next_process: Next) -> None:
        """A wrong decision leaves the run waiting; whoever repeats the right one learns that."""
        first = next_process()
        first.start()
        first.rests()
        second = next_process()
        with pytest.raises(InvalidArgument):
            second.engine.continue_run("r", [Decision("b", approved=True)])
        second.engine.continue_run("r", [NO])
        with pytest.raises(RunNotPaused) as again:
            second.engine.continue_run("r", [NO])
        assert again.value.repeated
        with pytest.raises(RunNotPaused) as other:
            second.engine.continue_run("r", [YES])
        assert not other.value.repeated
        end = ended(second.engine)
        assert end.output.endswith("False")
        assert end.tool_calls[-1].state is ToolCallState.DECLINED

    def test_it_ends_as_it_would_have(self, next_process: Next) -> None:
        """A cancel ends it at once, and nothing of it is executed; so do its limits and its
        caller's deadline, also those that were over while no process was there."""
        clock = ManualClock()
        first = next_process(clock, max_pause=100.0)
        first.start("cancelled", limits=Limits(timeout=3600))
        first.start("late", limits=Limits(timeout=10.0))
        first.start("asked-too-long")
        due = RunSpec("agents/pays", run_id="due")
        first.engine.start(first.scripts["agents/pays"], due, deadline=50.0)
        for run_id in ("cancelled", "late", "asked-too-long", "due"):
            first.rests(run_id)
        later = ManualClock(clock.time() + 20.0)
        second = next_process(later, max_pause=100.0)
        later.advance()
        assert second.engine.get("late").cancellation is not None
        assert cancel(second.engine, "cancelled").outcome is CancelOutcome.STOPPED
        later.advance(29.0)
        assert second.engine.get("due").cancellation is not None
        assert second.engine.get("asked-too-long").state is RunState.PAUSED
        later.advance(51.0)
        causes = {}
        for run_id in ("cancelled", "late", "asked-too-long", "due"):
            run = ended(second.engine, run_id)
            assert (run.state, run.output) == (RunState.CANCELLED, "May I? ")
            assert run.tool_calls[-1].state is ToolCallState.DECLINED
            causes[run_id] = (run.cancellation.cause, run.cancellation.limit)
        assert causes == {
            "cancelled": (CancelCause.USER, ""),
            "late": (CancelCause.BUDGET, "timeout"),
            "asked-too-long": (CancelCause.BUDGET, "max_pause"),
            "due": (CancelCause.DEADLINE, ""),
        }
        assert second.engine.wait_idle(20)
        second.observer.wait_for(lambda _: second.engine.occupied == 0)

    def test_what_hands_nothing_over_is_lost(self, next_process: Next) -> None:
        """Its pause says so, and the server that stops cancels it, as any run at work; so it is for
        a continuation that is too large."""
        first = next_process(max_continuation_bytes=5)
        first.start("asks", "agents/asks")
        first.start("large")
        for run_id in ("asks", "large"):
            assert not first.paused(run_id).survives
        second = next_process()
        assert second.admitted == 0
        for run_id in ("asks", "large"):
            assert ended(second.engine, run_id).cancellation.cause is CancelCause.SHUTDOWN

    def test_its_session_waits_for_it(self, next_process: Next) -> None:
        """What comes behind it in its session begins when it has ended, in whichever process."""
        first = next_process()
        first.start(session_id="s")
        first.rests()
        first.start("next", "agents/says", session_id="s", session_policy=SessionPolicy.QUEUE)
        second = next_process()
        assert second.admitted == 2
        assert second.engine.get("next").state is RunState.PENDING
        second.engine.continue_run("r", [YES])
        assert ended(second.engine, "next").output == "hello"
        assert second.engine.get("r").end_time <= second.engine.get("next").start_time

    def test_it_may_pause_again(self, next_process: Next) -> None:
        """What goes on anew may ask again, and is carried again."""
        first = next_process()
        first.start("again", "agents/twice")
        first.rests("again")
        second = next_process()
        second.engine.continue_run("again", [YES])
        with contextlib.closing(second.engine.watch("again")) as watcher:
            asked = [event.payload for event in _until(watcher, "Twice?")]
        assert asked[-1].survives
        assert second.engine.wait_idle(20)
        third = next_process()
        third.engine.continue_run("again", [Decision("b")])
        assert ended(third.engine, "again").output == "once twice"
