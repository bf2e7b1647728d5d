"""Runs that wait for a decision while their server is killed, or stopped, and started again."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from pullcord.client import RunClient
from pullcord.run.cancel import CancelCause
from pullcord.run.errors import RunNotPaused
from pullcord.run.events import Event, RunPaused, ToolCallState
from pullcord.run.record import Decision
from pullcord.run.state import RunState

from tests.restarts.serving import Served

YES = [Decision("call-1", approved=True)]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.close()


def paused(client: RunClient, run_id: str, runnable: str = "agents/buyer") -> list[Event]:
    """Starts a run, and returns its events up to its pause, which the store then has."""
    client.start(runnable, "a bus", run_id=run_id)
    return paused_events(client, run_id)


def stored(folder: Path, run_id: str) -> None:
    """Returns once the file has the pause of a run."""
    with sqlite3.connect(folder / "runs.db") as file:
        while not file.execute(
            "select 1 from run where run_id = ? and continuation is not null", (run_id,)
        ).fetchone():
            pass


def continued(client: RunClient, run_id: str, seen: list[Event], folder: Path) -> None:
    """The run is continued, and is one run: its numbers, text, usage and calls."""
    assert client.get(run_id).state is RunState.PAUSED
    client.continue_run(run_id, YES)
    with pytest.raises(RunNotPaused) as again:
        client.continue_run(run_id, YES)
    assert again.value.repeated
    run = client.wait(run_id)
    assert (run.state, run.error) == (RunState.COMPLETED, None)
    assert run.output == "I would like to. bought a bus, said 3"
    assert (run.usage.steps, run.usage.tool_calls) == (2, 1)
    assert run.usage.input_tokens == 1 + 3
    assert [(c.tool_call_id, c.state) for c in run.tool_calls] == [
        ("call-1", ToolCallState.COMPLETED)
    ]
    with client.watch(run_id, after_sequence=seen[-1].sequence) as rest:
        numbers = [event.sequence for event in rest]
    assert numbers == list(range(seen[-1].sequence + 1, run.last_sequence + 1))
    with client.watch(run_id) as whole:
        assert list(whole)[: len(seen)] == seen
    assert (folder / "bought").read_text() == "a bus\n"


def whole(client: RunClient, run_id: str, seen: list[Event]) -> None:
    """The stream of a run is one, with its numbers, and has what was seen before."""
    with client.watch(run_id) as stream:
        events = list(stream)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[: len(seen)] == seen
    assert [event for event in events if event.is_terminal and not event.source] == events[-1:]


def tree_continued(client: RunClient, member: str, seen: list[Event], folder: Path) -> None:
    """The member of a team that is a step of a workflow is continued: the steps before are not done
    again, and the leader says what it had to say."""
    assert client.get("tree").state is RunState.RUNNING
    assert client.get(member).state is RunState.PAUSED
    before = paused_events(client, member)
    client.continue_run(member, YES)
    run = client.wait("tree")
    made = "Buyer, go. [I would like to. bought a bus, said 3], led by 4"
    assert (run.state, run.output) == (RunState.COMPLETED, f"noted {made}")
    assert (folder / "noted").read_text().splitlines() == ["a bus", made]
    assert [(c.tool_call_id, c.state) for c in run.tool_calls] == [
        ("call-0", ToolCallState.COMPLETED),
        ("call-1", ToolCallState.COMPLETED),
    ]
    assert (run.usage.steps, run.usage.tool_calls) == (3, 2)
    whole(client, "tree", seen)
    whole(client, member, before)


def paused_events(client: RunClient, run_id: str) -> list[Event]:
    """The events of a run up to its pause."""
    with client.watch(run_id) as stream:
        seen = []
        for event in stream:
            seen.append(event)
            if isinstance(event.payload, RunPaused):
                break
    return seen


def test_what_waits_outlives_a_kill(served: Served, tmp_path: Path) -> None:
    """kill -9 in the middle of a pause: after the restart the run still waits, and goes on; so does
    a whole tree of which one waits. One that handed nothing over, and a tree in which something
    was at work, said so, and are LOST. One that is cancelled there ends so."""
    with served.client() as client:
        seen = paused(client, "survives")
        doomed = paused(client, "doomed", "agents/unsure")
        paused(client, "cancelled")
        tree = paused(client, "tree", "workflows/trip")
        doubtful = paused(client, "doubtful", "workflows/doubtful")
        member, beside = (one[-1].payload.tool_calls[0].run_id for one in (tree, doubtful))
        assert [one[-1].payload.survives for one in (seen, doomed, tree, doubtful)] == [
            True,
            False,
            True,
            False,
        ]
        for run_id in ("survives", "cancelled", "tree", member, beside):
            stored(tmp_path, run_id)
    served.kill()
    with served.client() as client:
        for run_id in ("doomed", "doubtful", beside):
            lost = client.wait(run_id)
            assert lost.state is RunState.FAILED
            assert lost.cancellation.cause is CancelCause.LOST
        client.cancel("cancelled", wait=30)
        assert client.get("cancelled").state is RunState.CANCELLED
        continued(client, "survives", seen, tmp_path)
        tree_continued(client, member, tree, tmp_path)


def test_a_paused_run_outlives_a_stop(served: Served, tmp_path: Path) -> None:
    """A server that is stopped does not wait for it, nor cancel it; the next one has it."""
    with served.client() as client:
        seen = paused(client, "r")
        stored(tmp_path, "r")
    served.stop()
    with served.client() as client:
        continued(client, "r", seen, tmp_path)
