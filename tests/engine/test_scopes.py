"""Runs of two scopes share an engine and never meet, whatever ids they have."""

import asyncio
from dataclasses import replace

import pytest
from pullcord.engine.engine import Engine
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import Cancellation, CancelOutcome
from pullcord.run.context import RunContext
from pullcord.run.errors import InvalidArgument, RunNotFound, SessionBusy
from pullcord.run.events import RunCompleted
from pullcord.run.place import at_work
from pullcord.run.record import RunFilter, RunSpec, SessionPolicy
from pullcord.run.scope import EVERYBODY, LOCAL, Reach, Scope
from pullcord.run.state import RunState
from pullcord.testing import Gate, Script, say

ANN, BOB = Scope("acme", "ann"), Scope("acme", "bob")
EVE = Scope("umbrella", "ann")
STOP = CancelRequest(Cancellation(actor="ann"))


def _spec(runnable: Script, run_id: str = "r", **fields: object) -> RunSpec:
    return RunSpec(f"agents/{runnable.id}", run_id=run_id, **fields)  # type: ignore[arg-type]


def test_one_run_id_names_a_run_in_each_scope(engine: Engine) -> None:
    """Neither attaches to the other's, is refused by it, finds it or stops it."""
    gate = Gate()
    waits = Script(gate)
    for scope in (ANN, BOB, EVE):
        engine.start(waits, _spec(waits, input=scope.owner + scope.tenant), scope=scope)
    for scope in (ANN, BOB, EVE):
        run = engine.get("r", scope=scope)
        assert (run.scope, run.input) == (scope, scope.owner + scope.tenant)
    with pytest.raises(RunNotFound):
        engine.get("r")
    with pytest.raises(RunNotFound):
        engine.cancel("r", STOP)
    engine.cancel("r", STOP, scope=ANN)
    assert engine.get("r", scope=BOB).cancellation is None
    gate.open()
    assert engine.wait_idle(10)
    states = {scope: engine.get("r", scope=scope).state for scope in (ANN, BOB, EVE)}
    done = RunState.COMPLETED
    assert states == {ANN: RunState.CANCELLED, BOB: done, EVE: done}
    assert engine.owners(EVERYBODY, "r") == [ANN, BOB, EVE]
    assert engine.owners(Reach("acme"), "r") == [ANN, BOB]


def test_lists_and_stops_of_many_keep_within_reach(engine: Engine) -> None:
    gate = Gate()
    waits = Script(gate)
    for scope in (ANN, BOB, EVE):
        for run_id in ("a", "b"):
            engine.start(waits, _spec(waits, run_id), scope=scope)
    own = engine.list_page(RunFilter(), 10, reach=Reach(*ANN)).runs
    assert {run.scope for run in own} == {ANN}
    tenants = engine.list_page(RunFilter(), 10, reach=Reach("acme")).runs
    assert len(tenants) == 4
    first = engine.list_page(RunFilter(), 4, reach=EVERYBODY)
    second = engine.list_page(RunFilter(), 4, first.next_page_token, reach=EVERYBODY)
    assert len({(run.scope, run.run_id) for run in (*first.runs, *second.runs)}) == 6
    with pytest.raises(InvalidArgument):
        engine.list_page(RunFilter(), 4, first.next_page_token, reach=Reach("acme"))
    agents = RunFilter(runnable=f"agents/{waits.id}")
    assert len(engine.cancel_many(agents, STOP, reach=Reach(*ANN))) == 2
    assert engine.get("a", scope=BOB).cancellation is None
    assert 4 <= len(engine.cancel_many(agents, STOP, validate_only=True)) <= 6
    gate.open()


def test_an_early_cancel_meets_only_a_run_of_its_scope(engine: Engine) -> None:
    receipt = engine.cancel("r", STOP, before_start=True, scope=ANN)
    assert receipt.outcome is CancelOutcome.RECORDED
    engine.start(Script(say("x")), _spec(Script(), "r"), scope=BOB)
    assert engine.wait_idle(10)
    assert engine.get("r", scope=BOB).state is RunState.COMPLETED
    assert engine.start(Script(), _spec(Script(), "r"), scope=ANN).state is RunState.CANCELLED


def test_sessions_of_one_name_are_two(engine: Engine) -> None:
    """No policy of one owner sees, waits for or stops the runs of another; nor does history."""
    gate = Gate()
    waits = Script(gate, say("secret"))
    policy = SessionPolicy.REJECT
    first = _spec(waits, "first", session_id="s", session_policy=policy)
    engine.start(waits, first, scope=ANN)
    for n, policy in enumerate(SessionPolicy):
        spec = _spec(Script(), f"b{n}", session_id="s", session_policy=policy)
        engine.start(Script(), spec, scope=BOB)
    with pytest.raises(SessionBusy):
        engine.start(waits, replace(first, run_id="x"), scope=ANN)
    assert engine.get("first", scope=ANN).cancellation is None
    gate.open()
    assert engine.wait_idle(10)
    read: list[str] = []

    def look(ctx: RunContext) -> None:
        read.extend(run.run_id for run in ctx.history())

    for scope, expected in ((BOB, ["b0", "b1", "b2"]), (ANN, ["first"])):
        read.clear()
        engine.start(Script(look), _spec(Script(), "look", session_id="s"), scope=scope)
        assert engine.wait_idle(10)
        assert sorted(read) == expected


def test_sessions_of_two_users_are_two(engine: Engine) -> None:
    """Likewise for the users of one caller, which may be a backend that serves many of them."""
    gate = Gate()
    waits = Script(gate, say("secret"))
    first = _spec(waits, "first", session_id="s", user_id="ann")
    engine.start(waits, first)
    for policy in (SessionPolicy.REJECT, SessionPolicy.QUEUE, SessionPolicy.SUPERSEDE):
        theirs = _spec(Script(), policy, session_id="s", user_id="bob", session_policy=policy)
        engine.start(Script(), theirs)
        while not engine.get(policy).state.is_terminal:
            pass
    rejected = replace(first, run_id="x", session_policy=SessionPolicy.REJECT)
    with pytest.raises(SessionBusy):
        engine.start(waits, rejected)
    assert engine.get("first").cancellation is None
    gate.open()
    assert engine.wait_idle(10)
    read: list[str] = []
    for user in ("bob", "", "ann"):
        look = Script(lambda ctx: read.extend(run.run_id for run in ctx.history()))
        engine.start(look, _spec(look, f"look{user}", session_id="s", user_id=user))
        assert engine.wait_idle(10)
    assert read == ["reject", "queue", "supersede", "first"]
    with pytest.raises(InvalidArgument):
        engine.start(look, _spec(look, "again", session_id="s", user_id="bob", retry_of="first"))


def test_children_belong_to_their_parents_owner(engine: Engine) -> None:
    """Those of ctx.start, and those that code starts by agent.run(); and it reaches no others."""
    gate = Gate()
    inner = Script(gate, id="inner")
    engine.start(inner, _spec(inner, "mine"), scope=LOCAL)
    refused: list[type[Exception]] = []

    def nested(ctx: RunContext) -> None:
        place = at_work.get()
        assert place is not None
        try:
            place.runs.cancel("mine", STOP)
        except RunNotFound as error:
            refused.append(type(error))
        spec = _spec(Script(id="leaf"), "mine")
        watcher = place.runs.follow(Script(id="leaf"), spec, parent_run_id=ctx.run_id)
        list(watcher)

    async def parent(ctx: RunContext) -> None:
        child = ctx.start(Script(id="child"), "x")
        await child.wait()
        await asyncio.to_thread(nested, ctx)

    outer = Script(parent, id="outer", is_async=True)
    watcher = engine.follow(outer, _spec(outer, "outer"), scope=ANN)
    assert isinstance([event.payload for event in watcher][-1], RunCompleted)
    assert refused == [RunNotFound]
    found = engine.list_page(RunFilter(parent_run_id="outer"), 10, reach=EVERYBODY).runs
    assert [run.scope for run in found] == [ANN, ANN]
    assert engine.get("mine", scope=ANN).parent_run_id == "outer"
    assert engine.get("mine").cancellation is None
    gate.open()
