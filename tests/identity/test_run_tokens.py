"""Tokens for one run: what a page can do with one, and nothing else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from pullcord import RunServer
from pullcord.client import RunClient
from pullcord.identity.run_tokens import KeyUnusable, RunTokens
from pullcord.run.errors import PermissionDenied, Unauthenticated
from pullcord.run.principal import Verb
from pullcord.run.scope import Scope
from pullcord.stores.opening import is_shared
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.identity.callers import Guarded, bearer, guarded
from tests.identity.test_matrix import REQUESTS, RUN, Stays, ask, outcome, start_anns
from tests.transports.harness import make_settings, refusal
from tests.transports.http.web import SERVICE, Browser

PAGE = "https://app.example"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Guarded]:
    stays = Stays()
    with guarded(tmp_path, stays.runnable, http="127.0.0.1:0", http_origin=PAGE) as served:
        start_anns(served)
        yield served
        stays.release.set()


def token(stub: RunServiceStub, who: Any, **request: Any) -> tuple[tuple[str, str], ...]:
    made = stub.CreateRunToken(
        v1.CreateRunTokenRequest(**({"run_id": RUN} | request)), metadata=who
    )
    return (("authorization", f"Bearer {made.token}"),)


def test_a_token_is_good_for_its_run_and_nothing_else(served: Guarded) -> None:
    """Get, watch, wait and stop; no list, no start, no other run, no further token."""
    stub = served.stub()
    who = token(stub, bearer("ann"))
    found = {rpc: outcome(lambda rpc=rpc: ask(stub, rpc, who)) for rpc in REQUESTS}
    allowed = {"GetRun", "WatchRun", "WaitRun", "CancelRun"}
    assert {rpc for rpc, how in found.items() if how == "ok"} == allowed
    assert found["ListRunnables"] == "empty"
    for rpc in ("GetRun", "WatchRun", "CancelRun", "ContinueRun"):
        request = getattr(v1, f"{rpc}Request")(run_id="another")
        answer = lambda rpc=rpc, request=request: _read(getattr(stub, rpc)(request, metadata=who))  # noqa: E731
        assert refusal(answer).reason == "RUN_NOT_FOUND"


def _read(answer: Any) -> None:
    if hasattr(answer, "__next__"):
        next(answer)


def test_a_token_to_watch_does_not_stop(served: Guarded) -> None:
    """Its holder is a guest, and cannot be more."""
    stub = served.stub()
    who = token(stub, bearer("ann"), watch_only=True)
    assert stub.GetRun(v1.GetRunRequest(run_id=RUN), metadata=who).run.run_id == RUN
    refused = refusal(lambda: stub.CancelRun(v1.CancelRunRequest(run_id=RUN), metadata=who))
    assert refused.reason == "PERMISSION_DENIED"


def test_an_operator_hands_on_what_it_may_do(served: Guarded) -> None:
    """A token for another's run reaches that run; a viewer can make one to watch only."""
    stub = served.stub()
    who = token(stub, bearer("olga"))
    stub.CancelRun(v1.CancelRunRequest(run_id=RUN), metadata=who)
    assert token(stub, bearer("vic"), watch_only=True)
    make = v1.CreateRunTokenRequest(run_id=RUN, lifetime={"seconds": 90_000})
    assert refusal(lambda: stub.CreateRunToken(make, metadata=bearer("ann"))).fields == ["lifetime"]


def test_a_page_of_another_origin_stops_one_run_with_its_token(served: Guarded) -> None:
    """By the header, or in the URL for an EventSource and a beacon, which have no headers."""
    ((_, header),) = token(served.stub(), bearer("ann"))
    browser = Browser(served.server.http_url, origin=PAGE)
    assert browser.get(f"/v1/runs/{RUN}/events").status == 401
    url = f"/v1/runs/{RUN}/events?token={header.removeprefix('Bearer ')}"
    assert browser.get(url.replace(RUN, "another")).status == 404
    events = iter(browser.events(RUN, authorization=header))
    assert "runStarted" in next(events)
    stopped = browser.ask("POST", url.replace("events", "cancel"))
    assert stopped.status == 200
    assert stopped.headers["access-control-allow-origin"] == PAGE
    assert "runCancelled" in list(events)[-1]
    lasting = browser.get(f"/v1/runs/{RUN}/events?token=ann-s3cret")
    assert lasting.status == 401, "a lasting secret in a URL is refused"
    browser.leave()


def test_a_server_that_knows_nobody_still_asks_pages_of_others() -> None:
    """Without authentication an allowed page of another origin needs a token all the same."""
    stays = Stays()
    settings = make_settings(http="127.0.0.1:0", http_origin=PAGE)
    server = RunServer([stays.runnable], settings=settings)
    with server as address, RunClient(address) as client:
        client.start("agents/stays", run_id=RUN)
        _ask_as_a_page(server.http_url, f"Bearer {client.create_run_token(RUN).token}")


def _ask_as_a_page(url: str, header: str) -> None:
    page = Browser(url, origin=PAGE)
    call = f"{SERVICE}CancelRun"
    assert page.post(call, {"runId": RUN}).status == 401
    assert page.post(call, {"runId": RUN}, authorization="Bearer whatever").status == 401
    assert page.post(call, {"runId": "other"}, authorization=header).status == 404
    assert page.post(f"{SERVICE}ListRuns", {}, authorization=header).status == 403
    assert page.post(call, {"runId": RUN}, authorization=header).status == 200
    assert Browser(url).post(f"{SERVICE}ListRuns", {}).status == 200


def test_a_token_is_what_its_key_has_signed(tmp_path: Path) -> None:
    """Changed, of another key, or expired: it is refused; servers that share a key take it."""
    now = 1000.0
    key = tmp_path / "key"
    key.write_text("k" * 32)
    one, other = (RunTokens(path, clock=lambda: now) for path in (key, key))
    made, expires_at = one.make(Scope("acme", "ann"), RUN, [Verb.WATCH], 60)
    assert (other.principal(made).scope, other.principal(made).only_run) == (("acme", "ann"), RUN)
    assert expires_at == 1061
    body = made[:-44]
    wrong = [made[:-2], made + "x", body.replace("run.", "run.A") + made[-44:], "pullcord-run."]
    for text in (*wrong, made + "é", made * 40):
        with pytest.raises(Unauthenticated):
            other.principal(text)
    with pytest.raises(Unauthenticated):
        RunTokens(clock=lambda: now).principal(made)
    now = 1061.0
    with pytest.raises(Unauthenticated):
        other.principal(made)
    key.write_text("short")
    with pytest.raises(KeyUnusable):
        RunTokens(key)


def test_servers_of_one_store_make_tokens_by_a_key_that_they_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one CreateRunToken is refused, and says to whom it must be given."""
    key = tmp_path / "key"
    key.write_text("k" * 32)
    stays = Stays()
    # What is looked at is the address; the store itself is another one here.
    monkeypatch.setattr("pullcord.doors.is_shared", lambda store: True)
    with guarded(tmp_path, stays.runnable) as served:
        start_anns(served)
        with pytest.raises(PermissionDenied, match="same file in PULLCORD_RUN_TOKEN_KEY"):
            served.client("ann").create_run_token(RUN)
    with guarded(tmp_path, stays.runnable, run_token_key=key) as served:
        start_anns(served)
        made = served.client("ann").create_run_token(RUN)
        with RunClient(served.address, token=made.token) as page:
            assert page.get(RUN).run_id == RUN
        stays.release.set()
    assert is_shared("postgresql://db/x")
    assert not is_shared("runs.db")


def test_a_stream_ends_when_its_token_does(tmp_path: Path) -> None:
    """The stream is asked again once a heartbeat, and ends CREDENTIAL_EXPIRED."""
    stays = Stays()
    with guarded(tmp_path, stays.runnable, http="127.0.0.1:0", heartbeat=0.05) as served:
        start_anns(served)
        who = token(served.stub(), bearer("ann"), lifetime={"nanos": 1})
        stream = served.stub().WatchRun(v1.WatchRunRequest(run_id=RUN), metadata=who)
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
        assert "CREDENTIAL_EXPIRED" in str(caught.value.trailing_metadata())
        ((_, header),) = token(served.stub(), bearer("ann"), lifetime={"nanos": 1})
        browser = Browser(served.server.http_url)
        *_, last = browser.events(RUN, authorization=header)
        assert last["reason"] == "CREDENTIAL_EXPIRED"
        browser.leave()
        stays.release.set()
