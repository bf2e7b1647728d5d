"""Shares, their refusals, and what operators are told of who did what."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc.error_details_pb2 import QuotaFailure
from grpc_status import rpc_status
from pullcord import RunContext, runnable
from pullcord.audit import AuditLog
from pullcord.engine.shares import Spent
from pullcord.run.caller import Caller
from pullcord.run.errors import QuotaExceeded, ServerBusy
from pullcord.run.principal import principal
from pullcord.run.record import Run
from pullcord.run.scope import Scope
from pullcord.run.state import RunState
from pullcord.service.quotas import QuotaOptions, Quotas
from pullcord.service.turnstile import Turnstile
from pullcord.v1 import run_service_pb2 as v1

from tests.identity.callers import bearer, guarded, token_of
from tests.transports.harness import Refusal, Signal, make_spec, refusal, until

ANN = Caller(principal=principal("acme", "ann"), peer="ipv4:10.0.0.1:77")
BOB = Caller(principal=principal("acme", "bob"), peer="ipv4:10.0.0.2:77")
EVE = Caller(principal=principal("umbrella", "eve"), peer="ipv4:10.0.0.3:77")


class Shares:
    """Quotas, and a store that says what a test says."""

    def __init__(self, **options: Any) -> None:
        self.time = 0.0
        self.used: dict[str, Spent] = {}
        self.bytes: dict[str, int] = {}
        self.looks = 0
        self.quotas = Quotas(
            QuotaOptions(**options), clock=lambda: self.time, now=lambda: self.time
        )

    def spent(self, tenant: str) -> Spent:
        self.looks += 1
        return self.used.get(tenant, Spent())

    def stored_bytes(self, tenant: str) -> int:
        return self.bytes.get(tenant, 0)

    def start(self, caller: Caller) -> str:
        try:
            self.quotas.start(caller)
            self.quotas.share(caller, self)
        except QuotaExceeded as error:
            self.retry = error.retry_after
            return error.quota if error.retry_after > 0 else "no time to come back"
        return ""


def test_a_rate_is_of_one_caller_and_fills_again() -> None:
    shares = Shares(starts_per_minute=3)
    assert [shares.start(ANN) for _ in range(4)] == ["", "", "", "starts_per_minute"]
    assert shares.start(BOB) == ""
    shares.time += shares.retry
    assert [shares.start(ANN), shares.start(ANN)] == ["", "starts_per_minute"]


def test_a_tenant_has_a_rate_of_its_own() -> None:
    shares = Shares(tenant_starts_per_minute=2)
    assert [shares.start(c) for c in (ANN, BOB, ANN, EVE)] == [
        "",
        "",
        "tenant_starts_per_minute",
        "",
    ]


def test_what_a_tenant_uses_and_keeps_is_bounded() -> None:
    """The refusal says when the oldest hour counts no more. The store is asked once in a while, and
    again after an end."""
    shares = Shares(tokens_per_day=100, cost_per_day=1.0, stored_bytes_per_tenant=1000)
    shares.time = 10 * 3600.0
    shares.used["acme"] = Spent(100, 0.0, first_hour=8)
    assert (shares.start(BOB), shares.start(EVE)) == ("tokens_per_day", "")
    assert shares.start(ANN) == "tokens_per_day"
    assert shares.retry == 22 * 3600.0
    assert shares.looks == 2
    shares.used["acme"] = Spent(99, 1.0, first_hour=10)
    shares.quotas.ended(Run("r", "agents/a", RunState.COMPLETED, tenant="acme"))
    assert shares.start(ANN) == "cost_per_day"
    shares.used["acme"], shares.bytes["acme"] = Spent(), 1000
    shares.time += 5.0
    assert shares.start(ANN) == "stored_bytes_per_tenant"
    shares.bytes["acme"] = 999
    shares.time += 5.0
    assert shares.start(ANN) == ""


async def test_one_owners_burst_delays_anothers_start_by_one() -> None:
    """A thousand starts of one owner wait, and the first of another is among the next two."""
    turnstile = Turnstile(asyncio.get_running_loop(), 10_000)
    order: list[str] = []

    async def start(owner: str) -> None:
        turn = await turnstile.enter(Scope("acme", owner))
        order.append(owner)
        turn.leave()

    held = await turnstile.enter(Scope("acme", "eve"))
    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(start("ann"))
        await asyncio.sleep(0)
        group.create_task(start("bob"))
    held.leave()
    assert order.index("bob") <= 3


async def test_no_owner_takes_every_place_of_the_line() -> None:
    turnstile = Turnstile(asyncio.get_running_loop(), 4)
    ann, bob = Scope("acme", "ann"), Scope("acme", "bob")
    turns = [await turnstile.enter(ann)]
    waiting = asyncio.create_task(turnstile.enter(ann))
    await asyncio.sleep(0)
    with pytest.raises(ServerBusy, match="yours"):
        await turnstile.enter(ann)
    other = asyncio.create_task(turnstile.enter(bob))
    for turn in (*turns, await waiting, await other):
        turn.leave()


@pytest.fixture
def stays() -> Iterator[Any]:
    release = Signal()

    @runnable(id="stays")
    async def stays(ctx: RunContext) -> None:
        await release.come()

    yield stays
    release.set()


def test_a_full_share_is_a_typed_refusal_and_the_caller_can_still_stop(
    tmp_path: Path, stays: Any
) -> None:
    """RESOURCE_EXHAUSTED, QUOTA_EXCEEDED, with the quota's name and the time to come back."""
    quotas = QuotaOptions(live_runs_per_caller=2, watchers_per_caller=1, lists_per_minute=2)
    log = tmp_path / "audit"
    with guarded(tmp_path, stays, quotas=quotas, audit_log=log) as served:
        stub = served.stub()

        def start(who: str, run_id: str) -> Any:
            request = v1.StartRunRequest(spec=make_spec("stays", run_id=run_id))
            return stub.StartRun(request, metadata=bearer(who))

        start("ann", "a")
        start("ann", "b")
        with pytest.raises(grpc.RpcError) as caught:
            start("ann", "c")
        refused = Refusal(caught.value)
        assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refused.reason == "QUOTA_EXCEEDED"
        assert refused.info.metadata["quota"] == "live_runs_per_caller"
        assert refused.retry.retry_delay.seconds >= 1
        failure = QuotaFailure()
        status = rpc_status.from_call(caught.value)
        assert any(detail.Unpack(failure) for detail in status.details)
        assert failure.violations[0].description == "live_runs_per_caller"
        assert start("bob", "c").run.owner == "bob"
        assert start("ann", "b").run.run_id == "b", "a retry starts nothing, and costs nothing"
        first = stub.WatchRun(v1.WatchRunRequest(run_id="a"), metadata=bearer("ann"))
        next(first)
        watch = v1.WatchRunRequest(run_id="b")
        again = refusal(lambda: next(stub.WatchRun(watch, metadata=bearer("ann"))))
        assert again.info.metadata["quota"] == "watchers_per_caller"
        first.cancel()
        for _ in range(2):
            stub.ListRuns(v1.ListRunsRequest(), metadata=bearer("ann"))
        listed = refusal(lambda: stub.ListRuns(v1.ListRunsRequest(), metadata=bearer("ann")))
        assert listed.info.metadata["quota"] == "lists_per_minute"
        for run_id in ("a", "b"):
            stub.CancelRun(
                v1.CancelRunRequest(run_id=run_id, wait={"seconds": 30}), metadata=bearer("ann")
            )

        def starts_again() -> bool:
            try:
                start("ann", "d")
            except grpc.RpcError:
                return False
            return True

        until(starts_again)
    events = [json.loads(line) for line in log.read_text().splitlines()]
    full = {(e["outcome"], e["detail"]) for e in events if e["action"] == "quota.refused"}
    assert full == {
        ("live_runs_per_caller", "caller"),
        ("watchers_per_caller", "caller"),
        ("lists_per_minute", "caller"),
    }


def test_the_audit_log_says_who_did_what_and_no_secrets(tmp_path: Path, stays: Any) -> None:
    """Starts, stops, looks at others' runs and refusals, with ids; no input, reason or token."""
    log = tmp_path / "audit.log"
    with guarded(tmp_path, stays, audit_log=log) as served:
        stub = served.stub()
        request = v1.StartRunRequest(spec=make_spec("stays", "my pin is 4711", run_id="r"))
        trace = ("traceparent", f"00-{'ab' * 16}-{'cd' * 8}-01")
        stub.StartRun(request, metadata=(*bearer("ann"), trace))
        next(stub.WatchRun(v1.WatchRunRequest(run_id="r"), metadata=bearer("olga")))
        cancel = v1.CancelRunRequest(run_id="r", reason="pin 4711 is out")
        for who in ("bob", "vic", "olga", "nobody"):
            try:
                stub.CancelRun(cancel, metadata=(*bearer(who), ("pullcord-actor", "god")))
            except grpc.RpcError:
                continue
    text = log.read_text()
    events = [json.loads(line) for line in text.splitlines()]
    told = [(e["action"], e["outcome"], e.get("subject")) for e in events]
    assert told == [
        ("run.start", "ok", "ann"),
        ("run.watch.foreign", "ok", "olga"),
        ("run.cancel", "RunNotFound", "bob"),
        ("run.cancel", "PermissionDenied", "vic"),
        ("run.cancel", "ok", "olga"),
        ("auth.refused", "Unauthenticated", None),
    ]
    assert events[0]["trace_id"] == "ab" * 16
    assert events[4]["claim"] == "god"
    assert "4711" not in text
    assert not any(token_of(who) in text for who in ("ann", "olga", "nobody"))
    assert log.stat().st_mode & 0o077 == 0


def test_a_flood_of_refusals_is_counted_and_not_all_written() -> None:
    written: list[bytes] = []
    log = AuditLog(written.append, clock=lambda: 5.0)
    for n in range(1000):
        caller = Caller(peer=f"ipv4:10.0.0.1:{n}")
        log.record("auth.refused", "Unauthenticated", caller, detail="x\ny\x1b[2J\x7f")
    assert len(written) == 10
    log.record("run.start", "ok", ANN, run_id="r")
    assert json.loads(written[-1])["not_written"] == 990
    assert all(line.count(b"\n") == 1 and b"\x1b" not in line for line in written)
    assert b"\x7f" not in written[0]
