"""Two callers of one server, with the same names for everything: each is as if it were alone."""

import asyncio
import operator
import random
from pathlib import Path
from typing import Annotated, Any, TypedDict

import grpc
import pytest
from opentelemetry import baggage
from pullcord import LangGraphAgent, RunContext, RunServer, runnable
from pullcord.client import RunClient
from pullcord.run.events import ToolCall
from pullcord.run.state import RunState
from pullcord.v1 import run_service_pb2 as v1

from tests.identity.callers import Guarded, bearer, guarded
from tests.transports.harness import Refusal, make_settings, make_spec, refusal, until


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


class Asks:
    """One caller's random doings over few ids, and all that it is answered."""

    def __init__(self, served: Guarded, who: str, seed: int) -> None:
        self._stub = served.stub()
        self._who = bearer(who)
        self._random = random.Random(seed)
        self.seen: list[str] = []

    def go_on(self) -> None:
        """Does one thing more, and waits until what it stops has stopped."""
        chance = self._random
        run_id, session = chance.choice(["r0", "r1", "r2", "r3"]), chance.choice(["", "s0", "s1"])
        rpc = chance.choice(["Start", "Start", "Early", "Cancel", "Get", "List", "CancelMany"])
        text = chance.choice(["one", "two"])
        try:
            self.seen.append(f"{rpc} {run_id} {self._ask(rpc, run_id, session, text)}")
        except grpc.RpcError as error:
            self.seen.append(f"{rpc} {run_id} {Refusal(error).reason} {error.details()}")

    def _ask(self, rpc: str, run_id: str, session: str, text: str) -> object:
        stub, who = self._stub, self._who
        if rpc == "Start":
            spec = make_spec("waits", text, run_id=run_id, session_id=session, session_policy=3)
            stub.StartRun(v1.StartRunRequest(spec=spec), metadata=who)
            for run in stub.ListRuns(v1.ListRunsRequest(), metadata=who).runs:
                if run.cancellation.cause:  # what was superseded ends in its own time
                    stub.WaitRun(v1.WaitRunRequest(run_id=run.run_id), metadata=who)
            run = stub.GetRun(v1.GetRunRequest(run_id=run_id), metadata=who).run
            return run.input, run.session_id, run.cancellation.cause
        if rpc in ("Early", "Cancel"):
            early = v1.CancelRunRequest(
                run_id=run_id, before_start=rpc == "Early", wait={"seconds": 30}
            )
            return stub.CancelRun(early, metadata=who).outcome
        if rpc == "Get":
            run = stub.GetRun(v1.GetRunRequest(run_id=run_id), metadata=who).run
            return run.owner, run.input, run.session_id, run.cancellation.cause
        if rpc == "List":
            found = stub.ListRuns(v1.ListRunsRequest(), metadata=who).runs
            return [(run.run_id, run.session_id, run.cancellation.cause) for run in found]
        request = v1.CancelRunsRequest(session_id="s0", mode=2, validate_only=True)
        return [one.run_id for one in stub.CancelRuns(request, metadata=who).results]


@pytest.mark.parametrize("seed", [1, 2])
def test_what_a_caller_sees_is_what_it_would_see_alone(tmp_path: Path, seed: int) -> None:
    """Three callers, two of one tenant, do random things with the same ids of runs and sessions:
    each is answered as on a server of its own, word for word."""

    @runnable(id="waits")
    async def waits() -> None:
        await asyncio.Event().wait()

    callers = {"ann": seed, "bob": seed + 10, "eve": seed + 20}
    with guarded(tmp_path, waits) as shared:
        asking = [Asks(shared, who, its) for who, its in callers.items()]
        for _ in range(60):
            for one in asking:
                one.go_on()
    for one, (who, its) in zip(asking, callers.items(), strict=True):
        with guarded(tmp_path, waits) as own:
            alone = Asks(own, who, its)
            for _ in range(60):
                alone.go_on()
        assert one.seen == alone.seen
        assert {line.split()[0] for line in one.seen} == {
            *("Start", "Early", "Cancel", "Get", "List", "CancelMany")
        }


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
