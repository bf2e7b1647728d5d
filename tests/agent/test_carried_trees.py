"""Teams and workflows of which a member or a step waits: the whole tree outlives its process."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.agent import Agent
from pullcord.engine.clock import Clock, ThreadClock
from pullcord.engine.directory import Directory
from pullcord.engine.live.live import LiveRun
from pullcord.models.base import Text, ToolMessage
from pullcord.run.cancel import CancelCause, Cancellation, CancelRequest
from pullcord.run.errors import ServerBusy, StoreUnavailable
from pullcord.run.events import RunPaused, StepCompleted, StepStarted, ToolCallState
from pullcord.run.record import Run, RunFilter
from pullcord.run.resumed import HandedOver
from pullcord.run.scope import LOCAL
from pullcord.run.state import RunState
from pullcord.run.usage import Limits
from pullcord.team import Team
from pullcord.testing import ManualClock, nothing_left
from pullcord.workflow import Condition, Loop, Parallel, Router, Step, Workflow

from tests.agent.test_carried import Next, Scripted, calls, done, look, pay, yes
from tests.engine.driving import ended, events
from tests.engine.processes import Process


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Next]:
    """Ends one process, and begins the next one, which serves this."""
    made: list[Process] = []
    done.clear()

    def make(served: Any, clock: Clock | None = None) -> Process:
        if made:
            made[-1].engine.close()
        made.append(Process(tmp_path, clock or ThreadClock(), {"agents/t": served}))
        return made[-1]

    with nothing_left():
        yield make
        made[-1].engine.close()


def payer(*answers: Any, amount: int = 4, id: str = "payer") -> Agent:
    """An agent that wants to pay, or goes on by these answers."""
    first = answers or (calls("pay", pay=f'{{"amount": {amount}}}'),)
    return Agent(name=id, model=Scripted(*first), tools=[pay])


def delegate(member: str) -> str:
    return f'{{"member_id": "{member}", "task": "work"}}'


def waiting(process: Process, *, survive: int = 1) -> list[str]:
    """The runs that wait, once as many do whose tree can be carried, and the store has it."""
    asked: list[RunPaused] = []
    with closing(process.engine.watch("r")) as watcher:
        for event in watcher:
            if isinstance(event.payload, RunPaused):
                asked.append(event.payload)
                if len(asked) == survive:
                    break
    assert process.engine.wait_idle(20)
    return [one.tool_calls[0].run_id for one in asked]


def tree(process: Process) -> dict[str, Run]:
    """All runs by what they are of."""
    page = process.engine.list_page(RunFilter(), 100)
    return {run.runnable: run for run in page.runs}


def numbered(process: Process, run_id: str) -> None:
    """The events of a run are one row of numbers, with one end."""
    seen = list(events(process.engine, run_id))
    last = process.engine.get(run_id).last_sequence
    assert [event.sequence for event in seen] == list(range(1, last + 1))
    assert [event.sequence for event in seen if event.is_terminal and not event.source] == [last]


class TestTeam:
    def test_a_members_pause_outlives_its_process(self, serve: Next) -> None:
        """The leader is told what its member made in the next process, behind all that it had said
        before; what was done is not done again, and each run is one, with its numbers."""
        turn = calls("look", "delegate_to_member", delegate_to_member=delegate("payer"))
        leader = Scripted(calls("look"), [Text("I ask. "), *turn])
        first = serve(Team(id="t", members=[payer()], model=leader, tools=[look]))
        first.start(runnable="agents/t", input="Go")
        asked = first.paused()
        assert first.engine.wait_idle(20)  # its other call of the turn is done as well
        member = asked.tool_calls[0].run_id
        before = first.engine.get("r"), first.engine.get(member)
        again = Scripted([Text("All is paid.")])
        second = serve(Team(id="t", members=[payer([Text("paid it")])], model=again, tools=[look]))
        assert (second.engine.get("r"), second.engine.get(member)) == before
        assert second.paused() == asked
        second.engine.continue_run(member, yes("pay-id"), "ann")
        run, part = ended(second.engine), ended(second.engine, member)
        assert (run.state, run.output) == (RunState.COMPLETED, "I ask. All is paid.")
        assert (part.state, part.output, part.parent_run_id) == (RunState.COMPLETED, "paid it", "r")
        assert done == ["looked", "looked", "paid 4"]
        shown = again.asked[0].messages
        asked_before = leader.asked[1].messages
        assert shown[: len(asked_before)] == asked_before
        assert shown[-2:] == (
            ToolMessage("look-id", "seen"),
            ToolMessage("delegate_to_member-id", "paid it"),
        )
        assert [(c.tool_call_id, c.state) for c in run.tool_calls] == [
            ("look-id", ToolCallState.COMPLETED),
            ("look-id-2", ToolCallState.COMPLETED),
            ("delegate_to_member-id", ToolCallState.COMPLETED),
            ("pay-id", ToolCallState.COMPLETED),
        ]
        assert all(call.start_time for call in run.tool_calls)
        assert run.usage.tool_calls == 4
        assert run.output_data is not None
        (entry,) = dict(run.output_data)["members"]
        assert (entry["run_id"], entry["output"]) == (member, "paid it")
        for run_id in ("r", member):
            numbered(second, run_id)

    def test_a_member_that_is_cancelled_there_leaves_the_team(self, serve: Next) -> None:
        """Its own cancel is its own, also in a process where nothing of the tree was at work: the
        leader learns of it, and goes on."""
        leader = Scripted(calls("delegate_to_member", delegate_to_member=delegate("payer")))
        first = serve(Team(id="t", members=[payer()], model=leader))
        first.start(runnable="agents/t", input="Go")
        assert first.paused().survives
        (member,) = waiting(first)
        again = Scripted([Text("Without him, then.")])
        second = serve(Team(id="t", members=[payer()], model=again))
        second.engine.cancel(member, CancelRequest(Cancellation(reason="not him")))
        assert ended(second.engine, member).state is RunState.CANCELLED
        assert ended(second.engine).output == "Without him, then."
        assert "stopped before its end: not him" in again.asked[0].messages[-1].text
        assert done == []
        numbered(second, "r")

    def test_a_cancel_there_ends_all_of_it(self, serve: Next) -> None:
        """The cancel of a tree that waits without code reaches every run of it at once, in the
        asker's words, and the tree ends from its leaves up."""
        inner = Team(
            id="inner",
            members=[payer()],
            model=Scripted(calls("delegate_to_member", delegate_to_member=delegate("payer"))),
        )
        leader = Scripted(calls("delegate_to_member", delegate_to_member=delegate("inner")))
        first = serve(Team(id="t", members=[inner], model=leader))
        first.start(runnable="agents/t", input="Go")
        waiting(first)
        second = serve(Team(id="t", members=[inner], model=leader))
        assert len(tree(second)) == 3
        second.engine.cancel("r", CancelRequest(Cancellation(reason="enough")))
        ended(second.engine)
        assert second.engine.wait_idle(20)
        stops = {name: run.cancellation for name, run in tree(second).items()}
        assert {name: (stop.cause, stop.reason) for name, stop in stops.items()} == {
            "agents/t": (CancelCause.USER, "enough"),
            "teams/inner": (CancelCause.PARENT, "enough"),
            "agents/payer": (CancelCause.PARENT, "enough"),
        }
        assert _end(second) == [
            ("CancelRequested", ()),
            ("CancelRequested", ("inner",)),
            ("CancelRequested", ("inner", "payer")),
            ("RunCancelled", ("inner", "payer")),
            ("ToolCallCompleted", ("inner",)),
            ("RunCancelled", ("inner",)),
            ("ToolCallCompleted", ()),
            ("RunCancelled", ()),
        ]
        assert [(one.tool_name, one.state) for one in second.engine.get("r").tool_calls] == [
            ("delegate_to_member", ToolCallState.INTERRUPTED),
            ("delegate_to_member", ToolCallState.INTERRUPTED),
            ("pay", ToolCallState.DECLINED),
        ]
        second.observer.wait_for(lambda _: second.engine.occupied == 0)

    def test_a_tree_whose_time_is_over_ends_in_the_next_process(self, serve: Next) -> None:
        """A deadline that passed while no server was there ends all of the tree, at any depth, and
        hinders no other tree."""

        def made() -> Team:
            inner = Team(
                id="inner",
                members=[payer(*[calls("pay", pay='{"amount": 4}')] * 2)],
                model=Scripted(
                    *[calls("delegate_to_member", delegate_to_member=delegate("payer"))] * 2
                ),
            )
            leader = Scripted(
                *[calls("delegate_to_member", delegate_to_member=delegate("inner"))] * 2
            )
            return Team(id="t", members=[inner], model=leader)

        first = serve(made(), ManualClock(time.time() - 61))
        first.start(runnable="agents/t", input="Go", limits=Limits(timeout=60))
        waiting(first)
        first.start("other", runnable="agents/t", input="Go")
        other = first.paused("other").tool_calls[0].run_id
        assert first.engine.wait_idle(20)
        second = serve(made())
        assert second.admitted == 2
        assert ended(second.engine).cancellation.cause is CancelCause.BUDGET
        states = [run.state for run in second.engine.list_page(RunFilter(), 100).runs]
        assert sorted(states) == sorted(
            [RunState.CANCELLED] * 3 + [RunState.RUNNING] * 2 + [RunState.PAUSED]
        )
        second.engine.cancel("other", CancelRequest(Cancellation()))
        assert ended(second.engine, other).state is RunState.CANCELLED

    def test_a_tree_whose_time_is_over_is_stopped_as_a_whole(self, serve: Next) -> None:
        """Also if it was over while no process was there: no child of it goes on, or fails."""
        for over in (0.0, 20.0):
            leader = Scripted(calls("delegate_to_member", delegate_to_member=delegate("payer")))
            team, clock = Team(id="t", members=[payer()], model=leader), ManualClock()
            first = serve(team, clock)
            first.start("r", runnable="agents/t", input="Go", limits=Limits(timeout=10.0))
            waiting(first)
            later = ManualClock(clock.time() + over)
            second = serve(team, later)
            later.advance(10.0)
            reasons = []
            for run in tree(second).values():
                end = ended(second.engine, run.run_id)
                assert end.state is RunState.CANCELLED
                reasons.append((end.runnable, end.cancellation.cause, end.cancellation.reason))
            why = "the limit timeout was reached"
            assert sorted(reasons) == [
                ("agents/payer", CancelCause.PARENT, why),
                ("agents/t", CancelCause.BUDGET, why),
            ]
            assert _end(second)[-3:] == [
                ("RunCancelled", ("payer",)),
                ("ToolCallCompleted", ()),
                ("RunCancelled", ()),
            ]

    @pytest.mark.parametrize("kept", [{"payer"}, {"payer", "inner"}])
    @pytest.mark.parametrize("by", ["cancel", "timeout"])
    def test_a_crash_between_the_ends_leaves_no_run_live(
        self, tmp_path: Path, serve: Next, by: str, kept: set[str]
    ) -> None:
        """A process that dies when its store has the ends of some runs of a tree, and not those of
        their parents, leaves a tree that the next one ends: each run once, and CANCELLED if that
        was asked for. What only the dead process knew is LOST."""

        def made() -> Team:
            leader = Scripted(calls("delegate_to_member", delegate_to_member=delegate("payer")))
            inner = Team(id="inner", members=[payer()], model=leader)
            above = Scripted(calls("delegate_to_member", delegate_to_member=delegate("inner")))
            return Team(id="t", members=[inner], model=above)

        first = serve(made(), ManualClock(1000.0))
        first.start(runnable="agents/t", input="Go", limits=Limits(timeout=10.0))
        waiting(first)
        clock = ManualClock(1000.0)
        second = serve(made(), clock)
        runs = {name.partition("/")[2]: run.run_id for name, run in tree(second).items()}
        finish, stored = second.store.finish, threading.Event()

        def keep(ends: Any) -> Any:
            ids = {runs[name] for name in kept}
            answer = finish([end for end in ends if end.ended.spec.run_id in ids])
            if all(second.store.find(LOCAL, run_id) for run_id in ids):
                stored.set()
            if len(answer) < len(ends):
                raise StoreUnavailable("it is about to die")
            return answer

        second.store.finish = keep  # type: ignore[method-assign]
        if by == "cancel":
            second.engine.cancel("r", CancelRequest(Cancellation(reason="enough")))
        else:
            clock.advance(10.0)
        assert stored.wait(20)
        died = tmp_path / "died"
        died.mkdir()
        with (
            closing(sqlite3.connect(tmp_path / "runs.db")) as left,
            closing(sqlite3.connect(died / "runs.db")) as copy,
        ):
            left.backup(copy)
        del second.store.finish  # type: ignore[method-assign]
        third = Process(died, ManualClock(1010.0), {"agents/t": made()})
        ends = {name: _over(third, run_id) for name, run_id in runs.items()}
        for name, run in ends.items():
            is_lost = run.state is RunState.FAILED and run.cancellation.cause is CancelCause.LOST
            is_known = by == "cancel" or name in kept
            assert run.state is RunState.CANCELLED or (is_lost and not is_known)
        for run_id in runs.values():
            told = [e for e in events(third.engine, run_id) if e.is_terminal and not e.source]
            assert len(told) == 1
        assert third.engine.remains().claims == 0
        third.engine.close()

    def test_what_cannot_be_taken_up_at_once_is_tried_again(
        self, serve: Next, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A tree whose process cannot take it up when it starts is there a little later."""
        leader = Scripted(calls("delegate_to_member", delegate_to_member=delegate("payer")))
        first = serve(Team(id="t", members=[payer()], model=leader))
        first.start(runnable="agents/t", input="Go")
        (member,) = waiting(first)
        _refuse(monkeypatch, first.engine.get("r").run_id)
        again = Scripted([Text("All is paid.")])
        second = serve(Team(id="t", members=[payer([Text("paid it")])], model=again))
        while second.engine.find_here(member) is None:
            pass
        second.engine.continue_run(member, yes("pay-id"))
        assert ended(second.engine).output == "All is paid."
        second.observer.wait_for(lambda _: second.engine.occupied == 0)

    def test_a_child_that_cannot_be_taken_up_fails_its_tree(
        self, serve: Next, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The root, which would wait for it, ends FAILED, and says why."""
        leader = Scripted(calls("delegate_to_member", delegate_to_member=delegate("payer")))
        first = serve(Team(id="t", members=[payer()], model=leader))
        first.start(runnable="agents/t", input="Go")
        (member,) = waiting(first)
        _refuse(monkeypatch, member, times=100)
        second = serve(Team(id="t", members=[payer()], model=leader))
        run = ended(second.engine)
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("ServerBusy", "no room just now")
        second.observer.wait_for(lambda _: second.engine.occupied == 0)


def _over(process: Process, run_id: str) -> Run:
    """A run once it has ended, also behind a gap."""
    over = threading.Event()
    process.engine.on_end(run_id, over.set)
    assert over.wait(20)
    return process.engine.get(run_id)


def _refuse(monkeypatch: pytest.MonkeyPatch, run_id: str, times: int = 1) -> None:
    """The next processes refuse to have this run, so many times."""
    add, left = Directory.add, [None] * times

    def add_in_vain(self: Directory, live: LiveRun) -> None:
        if live.run_id == run_id and left:
            left.pop()
            raise ServerBusy("no room just now")
        add(self, live)

    monkeypatch.setattr(Directory, "add", add_in_vain)


def _end(process: Process) -> list[tuple[str, tuple[str, ...]]]:
    """What came in the root's stream from its stop on, and of which run."""
    seen = [
        (type(e.payload).__name__, e.source.path[1:] if e.source else ())
        for e in events(process.engine)
    ]
    return seen[seen.index(("CancelRequested", ())) :]


@runnable(id="shout")
def shout(input: str) -> str:
    """Says it louder."""
    done.append(f"shout {input}")
    return input.upper()


class TestWorkflow:
    def test_the_steps_before_are_not_done_again(self, serve: Next) -> None:
        """A step that waits, in whatever it is, goes on in the next process: what was made and
        decided before it stands, and the rest comes after it."""

        def made(*answers: Any) -> Workflow:
            inner = Loop([shout, payer(*answers)], max_iterations=2, name="turns")
            route = Router(_count("routed", "turns"), [inner, shout], name="route")
            check = Condition(_count("checked", True), [route], name="check")
            return Workflow(id="t", steps=[shout, check, Step("last", executor=shout)])

        first = serve(made(calls("pay", pay='{"amount": 1}'), [Text("one")], *PAYS_TWICE))
        first.start(runnable="agents/t", input="go")
        (one,) = waiting(first)
        first.engine.continue_run(one, yes("pay-id"))
        (_, two) = waiting(first, survive=2)
        assert done == ["shout go", "checked", "routed", "shout GO", "paid 1", "shout one"]
        second = serve(made([Text("two")]))
        second.engine.continue_run(two, yes("pay-id"))
        run = ended(second.engine)
        assert (run.state, run.output) == (RunState.COMPLETED, "TWO")
        assert done[6:] == ["paid 2", "shout two"]
        steps = dict(run.output_data)["steps"]
        assert [(step["path"], step["output"]) for step in steps if step["output"]] == [
            ("shout", "GO"),
            ("check/route/turns/1/shout", "GO"),
            ("check/route/turns/1/payer", "one"),
            ("last", "TWO"),
            ("check/route/turns/2/shout", "ONE"),
            ("check/route/turns/2/payer", "two"),
        ]
        told = [event.payload for event in events(second.engine)]
        begun = [one.step_id for one in told if isinstance(one, StepStarted)]
        over = [one.step_id for one in told if isinstance(one, StepCompleted)]
        assert sorted(begun) == sorted(over)
        assert run.usage.steps == 6
        numbered(second, "r")

    def test_branches_that_all_wait_are_carried_together(self, serve: Next) -> None:
        """Each is decided where it then is, in whatever process; one that goes on lets the others
        wait, and when only those are left, they are carried again."""

        def made(a: Any = (), b: Any = (), c: Any = ()) -> Workflow:
            team = Team(
                id="team",
                members=[payer(*b, amount=2, id="b")],
                model=Scripted(*c)
                if c
                else Scripted(calls("delegate_to_member", delegate_to_member=delegate("b"))),
            )
            both = Parallel(payer(*a, amount=1, id="a"), team)
            return Workflow(id="t", steps=[both, shout])

        first = serve(made())
        first.start(runnable="agents/t", input="go")
        waiting(first, survive=2)
        runs = tree(first)
        second = serve(made(a=([Text("a is paid")],)))
        second.engine.continue_run(runs["agents/a"].run_id, yes("pay-id"))
        assert ended(second.engine, runs["agents/a"].run_id).output == "a is paid"
        assert second.engine.wait_idle(20)
        assert tree(second)["agents/b"].state is RunState.PAUSED
        third = serve(made(b=([Text("b is paid")],), c=([Text("so is c")],)))
        third.engine.continue_run(runs["agents/b"].run_id, yes("pay-id"))
        assert ended(third.engine).output == "A IS PAID\n\nSO IS C"
        assert done == ["paid 1", "paid 2", "shout a is paid\n\nso is c"]
        for run in tree(third).values():
            numbered(third, run.run_id)

    @pytest.mark.parametrize("later", [False, True])
    def test_a_stop_there_ends_its_steps(self, serve: Next, later: bool) -> None:
        """The steps of a workflow that is stopped while it waits without code have ended, in its
        events and in its list, also in a later process; while one waits, the list says so."""

        def made() -> Workflow:
            leader = Scripted(
                [Text("We ask. "), *calls("delegate_to_member", delegate_to_member=delegate("b"))]
            )
            team = Team(id="team", members=[payer(amount=2, id="b")], model=leader)
            both = Parallel(payer(amount=1, id="a"), team, name="both")
            return Workflow(id="t", steps=[shout, both, Step("last", executor=shout)])

        first = serve(made())
        first.start(runnable="agents/t", input="go")
        waiting(first, survive=2)
        assert _states(first.engine.get("r")) == {
            "shout": "completed",
            "both/a": "paused",
            "both/team": "running",
            "last": "not_started",
        }
        process = serve(made()) if later else first
        process.engine.cancel("r", CancelRequest(Cancellation(reason="enough")))
        run = ended(process.engine)
        assert _states(run) == {
            "shout": "completed",
            "both/a": "cancelled",
            "both/team": "cancelled",
            "last": "not_started",
        }
        steps = {step["path"]: step for step in dict(run.output_data)["steps"]}
        assert steps["both/team"]["output"] == "We ask. "
        assert run.output == "We ask. "
        (entry,) = dict(process.engine.get(steps["both/team"]["run_id"]).output_data)["members"]
        assert entry["state"] == "cancelled"
        told = [event for event in events(process.engine) if not event.is_terminal]
        begun = [one.payload.step_id for one in told if isinstance(one.payload, StepStarted)]
        over = [one for one in told if isinstance(one.payload, StepCompleted)]
        assert sorted(begun) == sorted(one.payload.step_id for one in over)
        assert over[-1].source.path == ("t", "both")
        assert {one.source.path: (one.payload.state, one.payload.output) for one in over[1:]} == {
            ("t", "both", "a"): (RunState.CANCELLED, ""),
            ("t", "both", "team"): (RunState.CANCELLED, "We ask. "),
            ("t", "both"): (RunState.CANCELLED, ""),
        }
        numbered(process, "r")

    def test_what_works_beside_it_is_lost_with_it(self, serve: Next) -> None:
        """While another branch is at work the pause does not survive, and it says so; once that is
        done, it does."""
        gate: list[Any] = []

        @runnable(id="slow")
        async def slow(ctx: RunContext) -> str:
            import asyncio

            opened = asyncio.Event()
            gate.append((asyncio.get_running_loop(), opened))
            await opened.wait()
            return "slow"

        def made(*answers: Any) -> Workflow:
            return Workflow(id="t", steps=[Parallel(slow, payer(*answers)), shout])

        first = serve(made())
        first.start(runnable="agents/t", input="go")
        asked = first.paused()
        assert not asked.survives
        second = serve(made())
        run = ended(second.engine)
        assert run.cancellation.cause is CancelCause.SHUTDOWN
        assert done == []
        gate.clear()
        second.start("again", runnable="agents/t", input="go")
        asked = second.paused("again")
        while not gate:
            pass
        loop, opened = gate[0]
        loop.call_soon_threadsafe(opened.set)
        assert second.engine.wait_idle(20)
        third = serve(made([Text("paid")]))
        third.engine.continue_run(asked.tool_calls[0].run_id, yes("pay-id"))
        assert ended(third.engine, "again").output == "SLOW\n\nPAID"

    def test_a_workflow_that_has_changed_is_refused(self, serve: Next) -> None:
        """With other steps the place of the one that waits is not known: the run fails in words."""
        first = serve(Workflow(id="t", steps=[payer(), shout]))
        first.start(runnable="agents/t", input="go")
        (step,) = waiting(first)
        second = serve(Workflow(id="t", steps=[payer([Text("?")])]))
        second.engine.continue_run(step, yes("pay-id"))
        run = ended(second.engine)
        assert run.error is not None
        assert run.error.type == "ContinuationRefused"
        assert "steps of the workflow have changed" in run.error.message
        assert ended(second.engine, step).state is RunState.CANCELLED
        assert done == []


def _states(run: Run) -> dict[str, str]:
    """The steps by path, as the run's list shows them."""
    return {step["path"]: step["state"] for step in dict(run.output_data or {})["steps"]}


PAYS_TWICE = (calls("pay", pay='{"amount": 2}'),)


class TestCodeOfOnesOwn:
    """A function that starts children by `ctx.start`, as docs/pausing.md shows it."""

    def test_it_goes_on_with_its_child(self, serve: Next) -> None:
        """It is called again from its beginning, and goes on with the child that it had."""
        first = serve(_starts(payer()))
        first.start(runnable="agents/t", input="Go")
        (child,) = waiting(first)
        second = serve(_starts(payer([Text("paid it")])))
        second.engine.continue_run(child, yes("pay-id"), "ann")
        run = ended(second.engine)
        assert (run.state, run.output) == (RunState.COMPLETED, "begun, went on, paid it")
        assert set(tree(second)) == {"agents/t", "agents/payer"}
        assert done == ["paid 4"]
        numbered(second, "r")

    def test_an_error_of_it_is_logged(self, serve: Next, caplog: pytest.LogCaptureFixture) -> None:
        """If it cannot hand over, its child waits all the same, and goes on in this process."""
        process = serve(_starts(payer(calls("pay", pay='{"amount": 4}'), [Text("paid it")]), "x"))
        process.start(runnable="agents/t", input="Go")
        asked = process.paused()
        assert not asked.survives
        assert "could not hand over its continuation: ValueError" in caplog.text
        assert "an author's words" not in caplog.text
        process.engine.continue_run(asked.tool_calls[0].run_id, yes("pay-id"), "ann")
        assert ended(process.engine).output == "begun, paid it"


def _starts(payer: Agent, fails: str = "") -> Any:
    @runnable(id="t")
    async def starts(ctx: RunContext) -> None:
        if ctx.resumed is None:
            ctx.write("begun, ")
            child = ctx.start(payer, "work")
        else:
            ctx.write("went on, ")
            child = ctx.start(payer, "work", again=ctx.resumed.continuation.decode())

        def hand_over() -> HandedOver:
            if fails:
                raise ValueError("an author's words")
            return HandedOver(child.run_id.encode(), (child.run_id,))

        ctx.can_go_on(hand_over)
        ctx.write((await child.wait()).output)

    return starts


def _count(word: str, answer: Any) -> Any:
    def decides(_: Any) -> Any:
        done.append(word)
        return answer

    return decides
