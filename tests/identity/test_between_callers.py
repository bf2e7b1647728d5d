"""Two callers of one server, with the same names for everything: each is as if it were alone."""

import operator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from opentelemetry import baggage
from pullcord import LangGraphAgent, RunContext, RunServer, runnable
from pullcord.client import RunClient
from pullcord.run.events import ToolCall
from pullcord.run.state import RunState
from pullcord.v1 import run_service_pb2 as v1

from tests.identity.callers import bearer, guarded
from tests.transports.harness import make_settings, make_spec, refusal, until


class Said(TypedDict):
    words: Annotated[list[str], operator.add]


def graph() -> Any:
    """A graph that keeps, by its thread, whatever anybody said."""
    memory = pytest.importorskip("langgraph.checkpoint.memory")
    graphs = pytest.importorskip("langgraph.graph")
    made = graphs.StateGraph(Said)
    made.add_node("listen", lambda state: {"words": []})
    made.add_edge(graphs.START, "listen")
    return made.compile(checkpointer=memory.InMemorySaver())


@pytest.mark.parametrize("session_id", ["s", ""])
def test_a_frameworks_store_keeps_the_sessions_of_two_callers_apart(
    tmp_path: Path, session_id: str
) -> None:
    """Though they name the same session, or, without one, the same run."""
    agent = LangGraphAgent(
        graph(), id="graph", input=lambda ctx: {"words": [ctx.input]}, history=False
    )
    with guarded(tmp_path, agent) as served:

        def said(who: str, words: str, run_id: str) -> Any:
            client = served.client(who)
            *_, end = client.run("agents/graph", words, run_id=run_id, session_id=session_id)
            data = end.payload.output_data  # type: ignore[union-attr]  # it completed
            return list(data["words"])

        assert said("ann", "my pin is 4711", "r") == ["my pin is 4711"]
        assert said("bob", "tell me", "r") == ["tell me"]
        assert said("eve", "tell me", "r") == ["tell me"]
        if session_id:
            assert said("ann", "again", "r2") == ["my pin is 4711", "again"]


def test_a_session_has_a_name_that_is_of_one_caller(tmp_path: Path) -> None:
    """Also where ids are made to look like another's; without verified callers it is the id."""
    names: list[tuple[str, str]] = []

    @runnable
    async def notes(ctx: RunContext) -> None:
        names.append((ctx.session_key, ctx.user_key))

    with guarded(tmp_path, notes) as served:
        for who, session_id in (("ann", "s"), ("bob", "s"), ("bob", "ann.s"), ("eve", "s")):
            list(served.client(who).run("agents/notes", session_id=session_id))
    assert len(set(names)) == 4
    assert names[0] == ("acme/ann/s", "acme/ann/ann")
    names.clear()
    server = RunServer(agents=[notes], settings=make_settings())
    with server as address, RunClient(address) as client:
        list(client.run("agents/notes", session_id="s", user_id="u", run_id="r"))
        list(client.run("agents/notes", session_id="s"))
        list(client.run("agents/notes", run_id="r2"))
    assert names == [("u/s", "u"), ("s", ""), ("r2", "")]


def test_the_place_in_a_list_tells_nothing_of_what_others_do(tmp_path: Path) -> None:
    """It is another word each time, whether or not anything has changed, and of one length."""

    @runnable
    async def quick() -> None:
        pass

    with guarded(tmp_path, quick, heartbeat=0.05) as served:
        stub = served.stub()
        stream = stub.WatchRuns(v1.WatchRunsRequest(), metadata=bearer("bob"))
        quiet = [next(stream).position for _ in range(3)]
        for n in range(3):
            list(served.client("ann").run("agents/quick", run_id=f"r{n}"))
        busy = [next(stream) for _ in range(3)]
        assert not any(notice.HasField("run") for notice in busy)
        seen = [*quiet, *(notice.position for notice in busy)]
        assert len(set(seen)) == 6
        assert len({len(position) for position in seen}) == 1
        again = v1.WatchRunsRequest(after=seen[-1])
        assert next(stub.WatchRuns(again, metadata=bearer("bob"))).caught_up


def test_a_callers_baggage_does_not_reach_the_code_of_a_run(tmp_path: Path) -> None:
    """Its trace goes on, and nothing else that it says of itself beside it."""
    seen: list[object] = []

    @runnable
    async def looks() -> None:
        seen.append(dict(baggage.get_all()))

    said = (("baggage", "tenant=evil"), ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01"))
    with guarded(tmp_path, looks) as served:
        request = v1.StartRunRequest(spec=make_spec("looks", run_id="r"))
        served.stub().StartRun(request, metadata=(*bearer("ann"), *said))
        served.client("ann").wait("r")
    assert seen == [{}]


def test_somebody_else_decides_where_that_is_asked_for(tmp_path: Path) -> None:
    """Who started a run may not approve its calls; an operator of its tenant may."""
    pauses = ToolCall("c", "pay")

    @runnable
    async def asks(ctx: RunContext) -> None:
        await ctx.ask("may I?", [pauses])

    with guarded(tmp_path, asks, own_approval=False) as served:
        stub = served.stub()
        request = v1.StartRunRequest(spec=make_spec("asks", run_id="r"))
        stub.StartRun(request, metadata=bearer("ann"))
        until(lambda: served.client("ann").get("r").state is RunState.PAUSED)
        decide = v1.ContinueRunRequest(
            run_id="r", decisions=[{"tool_call_id": "c", "approved": True}]
        )
        refused = refusal(lambda: stub.ContinueRun(decide, metadata=bearer("ann")))
        assert refused.reason == "PERMISSION_DENIED"
        decide.owner = "ann"
        stub.ContinueRun(decide, metadata=bearer("olga"))
        assert served.client("ann").wait("r").state is RunState.COMPLETED
