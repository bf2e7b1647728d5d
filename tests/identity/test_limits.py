"""Limits of callers and connections: what is above each is refused, and others notice nothing."""

import asyncio
import json
import threading
from pathlib import Path
from time import time
from typing import Any

import grpc
import pytest
from pullcord import RunContext, runnable
from pullcord.run.errors import CallFailed, InvalidArgument
from pullcord.service.quotas import QuotaOptions
from pullcord.transports.grpc import outgoing, service
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.identity.callers import Guarded, bearer, guarded
from tests.identity.raw import (
    DATA,
    END_HEADERS,
    HEADERS,
    NO_WINDOW,
    PREFACE,
    answer_pings,
    call,
    connected,
    frame,
    head,
)
from tests.transports.harness import Signal, make_spec, refusal, until

BIG = 1_000_000


@runnable
def big(input: str, ctx: RunContext) -> None:
    for _ in range(10):
        ctx.write("x" * (BIG // 10))


class Stays:
    def __init__(self) -> None:
        self.release = Signal()

        @runnable(id="stays")
        async def stays(ctx: RunContext) -> None:
            await self.release.come()

        self.runnable: Any = stays


def start(served: Guarded, who: str, name: str, run_id: str) -> None:
    request = v1.StartRunRequest(spec=make_spec(name, run_id=run_id))
    served.stub().StartRun(request, metadata=bearer(who))


def end(served: Guarded, who: str, name: str, run_id: str) -> None:
    start(served, who, name, run_id)
    served.stub().WaitRun(v1.WaitRunRequest(run_id=run_id), metadata=bearer(who))


def early(served: Guarded, who: str) -> None:
    """A cancel, which is always answered."""
    request = v1.CancelRunRequest(run_id="any", before_start=True)
    served.stub().CancelRun(request, metadata=bearer(who))


def tasks(served: Guarded) -> int:
    """What is under way on the server's loop."""
    background = served.server._background
    assert background is not None
    assert background._loop is not None
    return len(asyncio.all_tasks(background._loop))


def test_calls_under_way_are_bounded_and_stops_have_places_of_their_own(tmp_path: Path) -> None:
    """QUOTA_EXCEEDED with RetryInfo, an event for operators, and room again once one is answered.
    Another caller is not refused."""
    stays, log = Stays(), tmp_path / "audit"
    quotas = QuotaOptions(calls_per_caller=2)
    with guarded(tmp_path, stays.runnable, quotas=quotas, audit_log=log) as served:
        stub = served.stub()
        start(served, "ann", "stays", "r")
        wait = v1.WaitRunRequest(run_id="r")
        waits = [stub.WaitRun.future(wait, metadata=bearer("ann")) for _ in range(2)]
        get = v1.GetRunRequest(run_id="r")

        def gets() -> str:
            try:
                stub.GetRun(get, metadata=bearer("ann"))
            except grpc.RpcError as error:
                return error.details()
            return ""

        until(lambda: "calls under way" in gets())
        refused = refusal(lambda: stub.GetRun(get, metadata=bearer("ann")))
        assert (refused.reason, refused.retry.retry_delay.seconds) == ("QUOTA_EXCEEDED", 1)
        assert refused.info.metadata["quota"] == "calls_per_caller"
        assert refusal(lambda: stub.GetRun(get, metadata=bearer("bob"))).reason == "RUN_NOT_FOUND"
        stub.CancelRun(
            v1.CancelRunRequest(run_id="r", wait={"seconds": 30}), metadata=bearer("ann")
        )
        for one in waits:
            assert one.result().run.cancellation.actor == "ann"
        until(lambda: not gets())
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {e["outcome"] for e in events if e["action"] == "quota.refused"} == {"calls_per_caller"}


def test_answers_that_nobody_takes_are_held_within_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """300 answers of a megabyte to a client that reads none: 32 MiB of them are made, the others
    are refused, and nothing is left once it has gone. Another caller is served all along."""
    monkeypatch.setattr(service, "PATIENCE", 0.5)
    held: list[int] = []
    seen: set[Any] = set()
    room = outgoing.Outgoing.room

    async def watched(self: Any, peer: str, size: int, *more: Any) -> None:
        await room(self, peer, size, *more)
        seen.add(self)
        held.append(self._connections[peer].unread)

    monkeypatch.setattr(outgoing.Outgoing, "room", watched)
    with guarded(tmp_path, big) as served:
        end(served, "ann", "big", "r")
        request = v1.GetRunRequest(run_id="r").SerializeToString()
        calls = b"".join(call(2 * n + 1, "GetRun", "ann", request) for n in range(300))
        held.clear()
        before = tasks(served)
        with connected(served.address, 1, NO_WINDOW + calls) as (client,):
            answer_pings(client)
            until(lambda: len(held) >= 30)
            early(served, "bob")
            until(lambda: before + 30 < tasks(served) <= before + 80)  # two for each call
            assert BIG < max(held) <= outgoing.MAX_BYTES
            assert len(held) <= outgoing.MAX_BYTES // BIG
        until(lambda: tasks(served) <= before + 2)
        assert all(not one._connections for one in seen)


def test_a_stream_that_nobody_reads_ends_after_its_time(tmp_path: Path) -> None:
    """SERVER_BUSY, once it is read. Another watcher of the same run misses nothing, and operators
    are told."""
    log = tmp_path / "audit"
    with guarded(tmp_path, big, max_unread=0.5, audit_log=log) as served:
        end(served, "ann", "big", "r")
        watch = v1.WatchRunRequest(run_id="r")
        options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
        with grpc.insecure_channel(served.address, options=options) as channel:
            unread = RunServiceStub(channel).WatchRun(watch, metadata=bearer("ann"))
            next(unread)
            read = served.stub().WatchRun(watch, metadata=bearer("ann"))
            *_, last = read
            assert last.event.run_completed.output == "x" * BIG
            until(lambda: "max_unread" in log.read_text())
            assert refusal(lambda: list(unread)).reason == "SERVER_BUSY"


def test_connections_above_the_bound_are_closed_at_once(tmp_path: Path) -> None:
    """Those that are there are served, and one that leaves makes room."""
    with guarded(tmp_path, big, max_connections=8) as served:
        client = served.client("ann")
        assert client.runnables()
        with connected(served.address, 7, PREFACE) as made:
            with connected(served.address, 3, PREFACE) as more:
                closed = [one for one in more if _is_closed(one)]
                assert len(closed) == 3
            assert client.runnables()
            made[0].close()
            until(lambda: _is_served(served.address))


def _is_closed(one: Any) -> bool:
    try:
        return not one.recv(1)
    except ConnectionError:
        return True


def _is_served(address: str) -> bool:
    with connected(address, 1, PREFACE) as (one,):
        return not _is_closed(one)


def test_metadata_above_the_bound_is_refused(tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED by gRPC itself; what is within passes, such as a large token's bytes."""
    with guarded(tmp_path, big, max_header_bytes=32 * 1024) as served:
        stub = served.stub()

        def ask(size: int) -> Any:
            metadata = (*bearer("ann"), ("x-claims", "x" * size))
            return stub.ListRunnables(v1.ListRunnablesRequest(), metadata=metadata)

        assert ask(30_000).runnables
        with pytest.raises(grpc.RpcError) as caught:
            ask(33_000)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_one_callers_flood_of_every_kind_keeps_no_other_from_stopping_its_runs(
    tmp_path: Path,
) -> None:
    """Lists, starts, looks and early cancels as fast as they go, at every share that there is."""
    stays = Stays()
    quotas = QuotaOptions(
        live_runs_per_caller=50,
        calls_per_caller=20,
        early_cancels_per_tenant=100,
        lists_per_minute=1000,
    )
    with guarded(tmp_path, stays.runnable, quotas=quotas) as served:
        for n in range(20):
            start(served, "bob", "stays", f"b{n}")
        over, codes = threading.Event(), {grpc.StatusCode.RESOURCE_EXHAUSTED}

        def flood(rpc: str, request: Any) -> None:
            stub = served.stub()
            while not over.is_set():
                try:
                    getattr(stub, rpc)(request(), metadata=bearer("ann"))
                except grpc.RpcError as error:
                    codes.add(error.code())

        asked = {
            "ListRuns": lambda: v1.ListRunsRequest(page_size=100),
            "StartRun": lambda: v1.StartRunRequest(spec=make_spec("stays")),
            "CancelRun": lambda: v1.CancelRunRequest(run_id=str(time()), before_start=True),
        }
        threads = [threading.Thread(target=flood, args=one) for one in asked.items()]
        for thread in threads:
            thread.start()
        try:
            for n in range(20):
                request = v1.CancelRunRequest(run_id=f"b{n}", wait={"seconds": 30})
                receipt = served.stub().CancelRun(request, metadata=bearer("bob"))
                assert receipt.run.cancellation.actor == "bob"
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert codes == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        left = served.server.engine.remains()
        assert left.live <= 50
        assert left.tombstones <= 100


def test_requests_that_stop_in_the_middle_keep_nobody_out(tmp_path: Path) -> None:
    """A hundred calls that announce a megabyte and send a little: no run begins, others are served,
    and nothing is left once the client has gone."""
    with guarded(tmp_path, big) as served:
        early(served, "bob")
        before = tasks(served)
        half = b"".join(
            frame(HEADERS, END_HEADERS, 2 * n + 1, head("Run", "ann"))
            + frame(DATA, 0, 2 * n + 1, b"\0\0\x10\0\0" + b"x" * 600)
            for n in range(100)
        )
        with connected(served.address, 1, PREFACE + half) as (client,):
            answer_pings(client)
            for _ in range(20):
                early(served, "bob")
            assert tasks(served) <= before + 220  # two for each
            assert served.server.engine.remains().live == 0
        until(lambda: tasks(served) <= before + 2)


def test_a_request_is_refused_in_our_words_up_to_what_grpc_takes(tmp_path: Path) -> None:
    """By its field up to 16 MiB; above all that is read it is gRPC's bare status, which clients
    do not take for a server that is busy."""
    with guarded(tmp_path, big, max_parts_bytes=1 << 20) as served:
        client = served.client("ann")
        with pytest.raises(InvalidArgument) as typed:
            client.start("agents/big", "x" * (15 << 20))
        assert [v.field for v in typed.value.violations] == ["spec.input"]
        with pytest.raises(CallFailed) as bare:
            client.start("agents/big", "x" * (18 << 20))
        assert (bare.value.code, type(bare.value)) == ("RESOURCE_EXHAUSTED", CallFailed)


def test_a_request_that_inflates_is_refused_while_it_does(tmp_path: Path) -> None:
    """A quarter of a GiB of zeros is a few hundred KiB on the wire."""
    bomb = v1.StartRunRequest(spec=make_spec("big", "\0" * (256 << 20)))
    with guarded(tmp_path, big) as served:
        with grpc.insecure_channel(served.address, compression=grpc.Compression.Gzip) as channel:
            stub = RunServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.StartRun(bomb, metadata=bearer("ann"))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        early(served, "bob")
