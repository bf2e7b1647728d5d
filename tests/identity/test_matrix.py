"""Who may do what with whose run, every cell of the table, over gRPC."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pullcord import RunContext, runnable
from pullcord.stores.memory import MemoryStore
from pullcord.testing import HookedStore
from pullcord.v1 import run_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.identity.callers import CALLERS, Guarded, bearer, guarded, write_tokens
from tests.identity.table import EMPTY, OK, REASONS, ROLES, TABLE, cells
from tests.steady import PATIENCE
from tests.transports.harness import Refusal, Signal, refusal

RUN = "anns-run"
SESSION = "anns-session"
NEVER = "neverwas"


class Stays:
    """A runnable that ends when the test says so."""

    def __init__(self) -> None:
        self.release = Signal()

        @runnable(id="stays")
        async def stays(input: str, ctx: RunContext) -> None:
            ctx.write(f"about {input}")
            await self.release.come()

        self.runnable: Any = stays


def spec(**fields: Any) -> run_pb2.RunSpec:
    fields.setdefault("runnable", "agents/stays")
    return run_pb2.RunSpec(**fields)


ANNS = spec(run_id=RUN, input="pin 4711", session_id=SESSION)

REQUESTS: dict[str, Any] = {
    "GetRun": v1.GetRunRequest(run_id=RUN),
    "WatchRun": v1.WatchRunRequest(run_id=RUN),
    "WaitRun": v1.WaitRunRequest(run_id=RUN, timeout={"nanos": 1}),
    "ListRuns": v1.ListRunsRequest(session_id=SESSION),
    "WatchRuns": v1.WatchRunsRequest(session_id=SESSION),
    "CreateRunToken": v1.CreateRunTokenRequest(run_id=RUN),
    "CancelRuns": v1.CancelRunsRequest(session_id=SESSION, validate_only=True),
    "EraseRuns": v1.EraseRunsRequest(session_id=SESSION, validate_only=True),
    "ContinueRun": v1.ContinueRunRequest(run_id=RUN),
    "ListRunnables": v1.ListRunnablesRequest(),
    "StartRun": v1.StartRunRequest(spec=ANNS),
    "Run": v1.RunRequest(spec=ANNS),
    "CancelRun": v1.CancelRunRequest(run_id=RUN),
}


def ask(stub: Any, rpc: str, who: Any) -> Any:
    """The answer over gRPC; of a stream, what it says at first."""
    answer = getattr(stub, rpc)(REQUESTS[rpc], metadata=who)
    if rpc == "WatchRuns":
        return _list(answer)
    return _first(answer) if hasattr(answer, "__next__") else answer


def _first(stream: Any) -> Any:
    first = next(stream)
    stream.cancel()
    return first


def _list(stream: Any) -> Any:
    """What a follower of the list is shown before it has caught up."""
    runs = []
    for answer in stream:
        if answer.caught_up:
            break
        runs.append(answer.run)
    stream.cancel()
    return v1.ListRunsResponse(runs=runs)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Guarded]:
    stays = Stays()
    with guarded(tmp_path, stays.runnable) as served:
        yield served
        stays.release.set()


def start_anns(served: Guarded) -> None:
    served.stub().StartRun(
        v1.StartRunRequest(spec=spec(run_id=RUN, input="pin 4711", session_id=SESSION)),
        metadata=bearer("ann"),
    )


def outcome(call: Callable[[], Any]) -> str:
    try:
        answer = call()
    except grpc.RpcError as error:
        return REASONS[Refusal(error).reason]
    many = ("runs", "results", "runnables")
    listed = next((getattr(answer, name) for name in many if hasattr(answer, name)), None)
    is_counted = isinstance(listed, int)  # how many would be erased
    return OK if listed is None or is_counted or len(listed) else EMPTY


def test_every_rpc_has_a_row() -> None:
    """A new rpc without a row in this table fails."""
    rpcs = {method.name for method in v1.DESCRIPTOR.services_by_name["RunService"].methods}
    assert rpcs == set(TABLE) == set(REQUESTS)


@pytest.mark.parametrize("caller", ROLES)
def test_promise_13_what_a_role_may_do_with_anns_run(served: Guarded, caller: str) -> None:
    """Each verb of each role, on a run of somebody in its tenant or in another one."""
    start_anns(served)
    stub = served.stub()
    found = {rpc: outcome(lambda rpc=rpc: ask(stub, rpc, bearer(caller))) for rpc in TABLE}
    assert found == cells(caller)


@pytest.mark.parametrize("who", [(), bearer("nobody"), (*bearer("ann"), *bearer("ann"))])
def test_strangers_get_one_answer_to_everything(served: Guarded, who: Any) -> None:
    """Without a credential, with a wrong one, or with two: UNAUTHENTICATED, in the same words."""
    start_anns(served)
    stub, words = served.stub(), set()
    for rpc in TABLE:
        refused = refusal(lambda rpc=rpc: ask(stub, rpc, who))
        assert refused.code is grpc.StatusCode.UNAUTHENTICATED
        words.add((refused.reason, refused.words))
    assert len(words) == 1


def test_a_foreign_run_is_answered_as_one_that_never_was(served: Guarded) -> None:
    """The status of every verb is the same but for the id, to the byte."""
    start_anns(served)
    stub = served.stub()
    for rpc in ("GetRun", "WatchRun", "WaitRun", "ContinueRun", "CancelRun"):
        answers = []
        for run_id in (RUN, NEVER):
            request = getattr(v1, f"{rpc}Request")(run_id=run_id)
            with pytest.raises(grpc.RpcError) as caught:
                _read(getattr(stub, rpc)(request, metadata=bearer("bob")))
            details = dict(caught.value.trailing_metadata())["grpc-status-details-bin"]
            answers.append(
                (
                    caught.value.code(),
                    caught.value.details().replace(run_id, "X"),
                    details.replace(run_id.encode(), b"X"),
                )
            )
        assert answers[0] == answers[1]


def _read(answer: Any) -> None:
    if hasattr(answer, "__next__"):
        next(answer)


@pytest.mark.parametrize("ended", [False, True])
def test_a_foreign_run_costs_what_one_that_never_was_costs(tmp_path: Path, ended: bool) -> None:
    """The store is asked the same, so that no clock tells them apart."""
    asked: list[str] = []
    stores: list[HookedStore] = []

    def store(*args: Any) -> HookedStore:
        stores.append(HookedStore(MemoryStore(*args)))
        stores[0].before = asked.append
        return stores[0]

    stays = Stays()
    with guarded(tmp_path, stays.runnable, store=store) as served:
        start_anns(served)
        stub = served.stub()
        if ended:
            stub.CancelRun(
                v1.CancelRunRequest(run_id=RUN, wait={"seconds": 30}), metadata=bearer("ann")
            )
        for rpc in ("GetRun", "WatchRun", "WaitRun", "ContinueRun", "CancelRun"):
            found = []
            for run_id in (RUN, NEVER):
                asked.clear()
                request = getattr(v1, f"{rpc}Request")(run_id=run_id)
                with pytest.raises(grpc.RpcError):
                    _read(getattr(stub, rpc)(request, metadata=bearer("bob")))
                found.append(list(asked))
            assert found[0] == found[1] != []
        stays.release.set()


def test_an_early_cancel_of_a_foreign_id_does_nothing_to_it(served: Guarded) -> None:
    """RECORDED, as if nobody had the id; and it meets only a run of the one who asked."""
    start_anns(served)
    stub = served.stub()
    request = v1.CancelRunRequest(run_id=RUN, before_start=True)
    receipt = stub.CancelRun(request, metadata=bearer("bob"))
    assert not receipt.HasField("run")
    anns = stub.GetRun(v1.GetRunRequest(run_id=RUN), metadata=bearer("ann")).run
    assert not anns.HasField("cancellation")
    bobs = stub.StartRun(v1.StartRunRequest(spec=spec(run_id=RUN)), metadata=bearer("bob")).run
    assert bobs.cancellation.actor == "bob"
    assert (bobs.tenant, bobs.owner) == ("acme", "bob")


def test_an_operator_names_one_of_two_runs_of_one_id(served: Guarded) -> None:
    """Without a name the refusal lists the owners, for a run that is not the operator's own."""
    stub = served.stub()
    for owner in ("ann", "bob"):
        request = v1.StartRunRequest(spec=spec(run_id=RUN, input=owner))
        stub.StartRun(request, metadata=bearer(owner))
    get = v1.GetRunRequest(run_id=RUN)
    refused = refusal(lambda: stub.GetRun(get, metadata=bearer("olga")))
    assert refused.reason == "INVALID_ARGUMENT"
    assert "acme/ann" in refused.words
    assert "acme/bob" in refused.words
    get.owner = "bob"
    assert stub.GetRun(get, metadata=bearer("olga")).run.input == "bob"
    assert refusal(lambda: stub.GetRun(get, metadata=bearer("ann"))).reason == "RUN_NOT_FOUND"
    listed = stub.ListRuns(v1.ListRunsRequest(owner="ann"), metadata=bearer("olga")).runs
    assert [run.owner for run in listed] == ["ann"]
    assert not stub.ListRuns(v1.ListRunsRequest(owner="bob"), metadata=bearer("ann")).runs
    stopped = stub.CancelRuns(
        v1.CancelRunsRequest(runnable="agents/stays"), metadata=bearer("olga")
    ).results
    assert {(result.tenant, result.owner) for result in stopped} == {
        ("acme", "ann"),
        ("acme", "bob"),
    }


def test_page_tokens_are_of_one_caller(served: Guarded) -> None:
    stub = served.stub()
    for n in range(3):
        stub.StartRun(v1.StartRunRequest(spec=spec(run_id=f"r{n}")), metadata=bearer("ann"))
    page = stub.ListRuns(v1.ListRunsRequest(page_size=1), metadata=bearer("ann"))
    stolen = v1.ListRunsRequest(page_size=1, page_token=page.next_page_token)
    refused = refusal(lambda: stub.ListRuns(stolen, metadata=bearer("bob")))
    assert refused.fields == ["page_token"]
    assert len(stub.ListRuns(stolen, metadata=bearer("ann")).runs) == 1


def test_the_actor_is_who_was_verified_whatever_the_caller_claims(served: Guarded) -> None:
    """The claim stands beside it; a claim to act for others is dropped, a user_id refused."""
    start_anns(served)
    stub = served.stub()
    lies = (("pullcord-actor", "root"), ("pullcord-principal", "acme/bob"))
    run = stub.CancelRun(
        v1.CancelRunRequest(run_id=RUN, reason="enough"), metadata=(*bearer("ann"), *lies)
    ).run
    assert (run.cancellation.actor, run.cancellation.claimed_actor) == ("ann", "root")
    assert run.owner == "ann"
    refused = refusal(
        lambda: stub.StartRun(v1.StartRunRequest(spec=spec(user_id="bob")), metadata=bearer("ann"))
    )
    assert (refused.reason, refused.info.metadata["verb"]) == ("PERMISSION_DENIED", "start")
    cause = v1.CancelRunRequest(run_id=RUN, cause="CANCEL_CAUSE_PARENT")
    refused = refusal(lambda: stub.CancelRun(cause, metadata=bearer("olga")))
    assert refused.reason == "PERMISSION_DENIED"


def test_a_service_that_may_acts_for_others_of_its_tenant(served: Guarded) -> None:
    stub = served.stub()
    for_ann = (("pullcord-principal", "acme/ann"),)
    run = stub.StartRun(
        v1.StartRunRequest(spec=spec(run_id=RUN)), metadata=(*bearer("robot"), *for_ann)
    ).run
    assert (run.tenant, run.owner) == ("acme", "ann")
    assert stub.GetRun(v1.GetRunRequest(run_id=RUN), metadata=bearer("ann")).run.owner == "ann"
    elsewhere = (*bearer("robot"), ("pullcord-principal", "umbrella/eve"))
    run = stub.StartRun(v1.StartRunRequest(spec=spec(run_id="x")), metadata=elsewhere).run
    assert (run.tenant, run.owner) == ("acme", "robot"), "another tenant is nothing to act for"


def test_who_may_erase_erases_in_its_reach_and_it_is_written_down(tmp_path: Path) -> None:
    """A grant for a tenant reaches that tenant alone; a live run is named, and stays; nobody finds
    what was erased; and the audit log says who erased what of whom."""
    stays, log = Stays(), tmp_path / "audit"
    callers = CALLERS | {"dora": "acme user,runs:erase:tenant"}
    with guarded(tmp_path, stays.runnable, audit_log=log) as served:
        write_tokens(served.tokens, callers)
        start_anns(served)
        stub = served.stub()
        ask = v1.EraseRunsRequest(session_id=SESSION)
        answer = _once_known(lambda: stub.EraseRuns(ask, metadata=bearer("dora")))
        assert (answer.runs, list(answer.live_run_ids)) == (0, [RUN])
        stop = v1.CancelRunRequest(run_id=RUN, wait={"seconds": 30})
        stub.CancelRun(stop, metadata=bearer("ann"))
        foreign = v1.EraseRunsRequest(tenant="umbrella")
        assert stub.EraseRuns(foreign, metadata=bearer("dora")).runs == 0
        assert stub.GetRun(v1.GetRunRequest(run_id=RUN), metadata=bearer("ann")).run.run_id == RUN
        assert stub.EraseRuns(ask, metadata=bearer("dora")).runs == 1
        get = v1.GetRunRequest(run_id=RUN)
        refused = refusal(lambda: stub.GetRun(get, metadata=bearer("ann")))
        assert refused.reason == "RUN_NOT_FOUND"
        refused = refusal(lambda: stub.EraseRuns(v1.EraseRunsRequest(), metadata=bearer("root")))
        assert set(refused.fields) == {"user_id", "session_id", "tenant", "owner"}
        stays.release.set()
    erased = [
        line
        for line in map(json.loads, log.read_text().splitlines())
        if line["action"] == "run.erase"
    ]
    told = [(line["subject"], line["outcome"], line["detail"]) for line in erased]
    assert told[-1] == ("dora", "ok", f"session_id={SESSION}")
    assert ("dora", "ok", "tenant=umbrella") in told


def _once_known(call: Callable[[], Any]) -> Any:
    """The answer once the server has read its file of tokens again."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.UNAUTHENTICATED or time.monotonic() > ends:
                raise
