"""Teams: how work is handed out, and what becomes of it in a cancel."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest
from pullcord.engine.engine import Engine
from pullcord.models.base import ModelChunk, ModelRequest, Text, ToolMessage
from pullcord.run.agent import RunEvent
from pullcord.run.cancel import CancelMode
from pullcord.run.context import RunContext
from pullcord.run.events import ToolCallState
from pullcord.run.record import Run, RunFilter, RunSpec
from pullcord.run.runnable import full_name
from pullcord.run.state import RunState
from pullcord.run.team import TeamRunEvent
from pullcord.team import Team
from pullcord.testing import Gate, Script, fail, say

from tests.engine.driving import cancel, ended, events
from tests.tree.programs import ScriptedModel, an_agent, call, delegate


class Leader(ScriptedModel):
    """A scripted model that remembers what it was asked."""

    def __init__(self, *answers: Sequence[ModelChunk]) -> None:
        super().__init__(*answers)
        self.requests: list[ModelRequest] = []

    def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        self.requests.append(request)
        return super().stream(request)

    def told(self) -> list[str]:
        """What the members' work was said to be, when the leader was asked again."""
        return [m.text for m in self.requests[1].messages if isinstance(m, ToolMessage)]


def a_team(*members: Any, leader: Leader | None = None, **more: Any) -> Team:
    model = leader or asks_all(members)
    return Team(id="team", name="The Team", model=model, members=members, **more)


def asks_all(members: Sequence[Any]) -> Leader:
    return Leader([Text("go "), *(delegate(m.id) for m in members)], [Text("done")])


def start(engine: Engine, team: Team) -> None:
    engine.start(team, RunSpec(full_name(team), "in", run_id="r"))


def made_by(run: Run) -> list[tuple[str, str, str]]:
    assert run.output_data is not None
    return [(m["member"], m["state"], m["output"]) for m in run.output_data["members"]]


def test_the_leader_hands_out_work_and_gets_it_back(engine: Engine) -> None:
    """Members work at the same time, in runs of their own; the leader is told what they made."""
    gates = Gate(), Gate()
    members = [Script(g, say(f"made {n}"), id=f"m{n}") for n, g in enumerate(gates)]
    leader = asks_all(members)
    start(engine, a_team(*members, leader=leader))
    for gate in gates:
        gate.wait_reached()
    for gate in gates:
        gate.open()
    run = ended(engine)
    assert (run.state, run.output) == (RunState.COMPLETED, "go done")
    assert leader.told() == ["made 0", "made 1"]
    assert sorted(made_by(run)) == [("m0", "completed", "made 0"), ("m1", "completed", "made 1")]
    assert [r.input for r in beneath(engine)] == ["go", "go"]


def beneath(engine: Engine) -> list[Run]:
    page = engine.list_page(RunFilter(parent_run_id="r"), 10).runs
    return sorted((engine.get(run.run_id) for run in page), key=lambda run: run.runnable)


def test_the_leader_knows_its_members(engine: Engine) -> None:
    """The leader is told who its members are, and how to hand them work; it has its own tools."""

    async def look() -> str:
        return "seen"

    member = Script(id="m")
    member.description = "Counts."
    leader = Leader([call("look")], [Text("ok")])
    start(engine, a_team(member, leader=leader, tools=[look], instructions="Be brief."))
    ended(engine)
    request = leader.requests[0]
    assert "m: Counts." in request.messages[0].text
    assert "Be brief." in request.messages[0].text
    assert [tool.name for tool in request.tools] == ["delegate_to_member", "look"]
    assert leader.told() == ["seen"]


def test_one_member_is_cancelled_alone(engine: Engine) -> None:
    """A cancelled member's leader is told so, with what the member had made, and goes on."""
    gate = Gate()
    members = Script(say("half"), gate, id="slow"), Script(say("all"), id="quick")
    leader = asks_all(members)
    start(engine, a_team(*members, leader=leader))
    gate.wait_reached()
    slow = next(run for run in beneath(engine) if run.runnable == "agents/slow")
    cancel(engine, slow.run_id, reason="too slow")
    run = ended(engine)
    assert (run.state, run.output) == (RunState.COMPLETED, "go done")
    assert leader.told() == ["half\n\n[the member was stopped before its end: too slow]", "all"]
    assert sorted(made_by(run)) == [("quick", "completed", "all"), ("slow", "cancelled", "half")]


def test_a_member_that_fails_is_news_for_the_leader(engine: Engine) -> None:
    """A member's failure, and a member that does not exist, end no team."""
    broken = Script(say("half"), fail(ValueError("no milk")), id="broken")
    leader = Leader([delegate("broken"), delegate("nobody")], [Text("well")])
    start(engine, a_team(broken, leader=leader))
    run = ended(engine)
    assert (run.state, run.output) == (RunState.COMPLETED, "well")
    failed, unknown = leader.told()
    assert failed == "half\n\n[the member failed: ValueError: no milk]"
    assert unknown == "Error: LookupError: there is no member 'nobody'; the members are: broken"


@pytest.mark.parametrize("mode", CancelMode)
def test_the_cord_reaches_every_member_at_once(engine: Engine, mode: CancelMode) -> None:
    """A team's cancel stops all members, keeps what each made, and asks the leader no more."""
    gates = Gate(), Gate(), Gate()
    members = [Script(say(f"part {n}"), g, id=f"m{n}") for n, g in enumerate(gates)]
    leader = asks_all(members)
    start(engine, a_team(*members, leader=leader))
    for gate in gates:
        gate.wait_reached()
    cancel(engine, mode=mode)
    run = ended(engine)
    assert (run.state, run.output) == (RunState.CANCELLED, "go ")
    assert sorted(made_by(run)) == [(f"m{n}", "cancelled", f"part {n}") for n in range(3)]
    assert {c.state for c in run.tool_calls} == {ToolCallState.INTERRUPTED}
    assert len(leader.requests) == 1


def test_work_that_was_finished_counts_as_finished(engine: Engine) -> None:
    """A cancelled team lists the delegation that had completed as completed, with its result."""
    gate = Gate()
    members = Script(say("all"), id="quick"), Script(gate, id="slow")
    start(engine, a_team(*members))
    gate.wait_reached()
    for event in engine.watch("r"):
        ended_call = getattr(event.payload, "tool_call", None)
        if ended_call is not None and ended_call.state is ToolCallState.COMPLETED:
            cancel(engine)
    calls = {call.tool_call_id: call for call in ended(engine).tool_calls}
    assert (calls["to-quick"].state, calls["to-quick"].result) == (ToolCallState.COMPLETED, "all")
    assert calls["to-slow"].state is ToolCallState.INTERRUPTED


def test_a_graceful_cancel_lets_a_members_tool_finish(engine: Engine) -> None:
    """A tool in flight deep in a team may finish; nothing else begins."""
    gate = Gate(deaf=True)
    done: list[str] = []

    async def write(ctx: RunContext) -> str:
        waiting: Any = gate(ctx)
        await waiting
        done.append("written")
        return "ok"

    start(engine, a_team(an_agent("writer", write)))
    gate.wait_reached()
    cancel(engine)
    gate.open()
    run = ended(engine)
    states = {call.tool_name: call.state for call in run.tool_calls}
    assert states["write"] is ToolCallState.COMPLETED
    assert done == ["written"]
    assert [r.output for r in beneath(engine)] == ["let me see "]


def test_a_team_can_be_a_member(engine: Engine) -> None:
    """A team in a team: its members' events come with the whole path."""
    leaf = Script(say("x"), id="leaf")
    inner = Team(id="inner", model=asks_all([leaf]), members=[leaf])
    start(engine, a_team(inner))
    run = ended(engine)
    assert run.state is RunState.COMPLETED
    paths = {event.source.path for event in events(engine) if event.source is not None}
    assert paths == {("team", "inner"), ("team", "inner", "leaf")}
    assert run.output_data is not None
    deep = run.output_data["members"][0]["output_data"]["members"]
    assert [(m["member"], m["output"]) for m in deep] == [("leaf", "x")]


def test_members_and_team_are_told_apart_in_process() -> None:
    """In a team's stream the team's own events bear a team's names, and its members' an agent's."""
    chunks = list(a_team(Script(say("x"), id="m")).run("go", stream=True))
    names = [(chunk.event, chunk.content) for chunk in chunks]
    assert names[0] == (TeamRunEvent.run_started, None)
    assert (TeamRunEvent.run_content, "go ") in names
    assert (RunEvent.run_content, "x") in names
    assert (RunEvent.run_completed, "x") in names
    assert names[-1] == (TeamRunEvent.run_completed, "go done")
    member = next(chunk for chunk in chunks if chunk.event == RunEvent.run_content)
    assert member.run_id != chunks[0].run_id
    assert member.source is not None
    assert member.source.path == ("team", "m")


def test_two_members_of_one_id_are_refused() -> None:
    """Members that a leader could not tell apart make no team."""
    with pytest.raises(ValueError, match="have one id"):
        a_team(Script(id="m"), Script(id="m"))
