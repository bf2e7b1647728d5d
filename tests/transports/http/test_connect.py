"""Connect and gRPC-Web: what the library's envelopes hold, and what a mistake of ours tells."""

import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from pullcord.v1 import run_service_pb2 as v1

from tests.transports.harness import Served
from tests.transports.http.agents import TEXT, make_waiter, speaker
from tests.transports.http.web import SERVICE, Browser

Both = Callable[..., tuple[Served, Browser]]


def envelope(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def opened(body: bytes) -> list[tuple[int, bytes]]:
    """The flags and message of each envelope."""
    found = []
    while body:
        flags, size = struct.unpack(">BI", body[:5])
        found.append((flags, body[5 : 5 + size]))
        body = body[5 + size :]
    return found


def watch(browser: Browser, kind: str, run_id: str) -> tuple[list[Any], bytes]:
    """The events of a run, and the last envelope."""
    if kind.endswith("json"):
        request = json.dumps({"runId": run_id}).encode()
    else:
        request = v1.WatchRunRequest(run_id=run_id).SerializeToString()
    reply = browser.ask("POST", f"{SERVICE}WatchRun", envelope(request), content_type=kind)
    assert reply.status == 200, reply.body
    *messages, (flags, end) = opened(reply.body)
    assert flags in (2, 128)
    if kind.endswith("json"):
        return [json.loads(message)["event"] for _, message in messages], end
    return [v1.WatchRunResponse.FromString(message).event for _, message in messages], end


def test_a_stream_says_the_same_in_every_encoding(serve_http: Both) -> None:
    """Connect in JSON and in binary, and gRPC-Web, have the events of the native route."""
    _, browser = serve_http(speaker)
    browser.start("speaker", "r1")
    native = list(browser.events("r1"))
    in_json, end = watch(browser, "application/connect+json", "r1")
    assert in_json == native
    assert json.loads(end) == {}
    binary, _ = watch(browser, "application/connect+proto", "r1")
    web, trailers = watch(browser, "application/grpc-web+proto", "r1")
    assert [e.sequence for e in binary] == [int(e["sequence"]) for e in native]
    assert binary == web
    assert binary[-1].run_completed.output == 3 * TEXT
    assert b"grpc-status: 0" in trailers or b"grpc-status:0" in trailers


@pytest.mark.parametrize("kind", ["application/connect+json", "application/grpc-web+proto"])
def test_a_stream_of_no_run_ends_with_the_refusal(serve_http: Both, kind: str) -> None:
    """A refusal carries the reason of ErrorInfo in Connect's end and in gRPC-Web's trailers."""
    _, browser = serve_http(speaker)
    request = (
        b'{"runId":"none"}'
        if kind.endswith("json")
        else v1.WatchRunRequest(run_id="none").SerializeToString()
    )
    reply = browser.ask("POST", f"{SERVICE}WatchRun", envelope(request), content_type=kind)
    if kind.endswith("json"):
        error = json.loads(opened(reply.body)[-1][1])["error"]
        assert error["code"] == "not_found"
        assert error["details"][0]["type"] == "google.rpc.ErrorInfo"
    else:
        ((flags, trailers),) = opened(reply.body)
        assert flags == 128
        assert b"grpc-status: 5\r\n" in trailers
        assert b"grpc-status-details-bin: " in trailers


def test_a_deadline_ends_the_run_that_its_caller_follows(serve_http: Both) -> None:
    """connect-timeout-ms is the run's deadline, and the caller sees its end before that."""
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter)
    spec = {"spec": {"runnable": "agents/waiter", "runId": "r1"}}
    reply = browser.ask(
        "POST",
        f"{SERVICE}Run",
        envelope(json.dumps(spec).encode()),
        content_type="application/connect+json",
        connect_timeout_ms="2000",
    )
    *messages, (_, end) = opened(reply.body)
    assert json.loads(end) == {}
    last = json.loads(messages[-1][1])["event"]["runCancelled"]
    assert last["cancellation"]["cause"] == "CANCEL_CAUSE_DEADLINE"
    assert last["output"] == "first"
    served.wait_free()


def test_a_caller_that_leaves_takes_its_run_along(serve_http: Both) -> None:
    """Run over Connect has the disconnect policy CANCEL, as over gRPC."""
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter)
    spec = {"spec": {"runnable": "agents/waiter", "runId": "r1"}}
    response = browser.open(
        "POST",
        f"{SERVICE}Run",
        envelope(json.dumps(spec).encode()),
        content_type="application/connect+json",
    )
    response.read(5)
    browser.leave()
    assert served.wait("r1").cancellation.cause == 4  # DISCONNECT


def test_a_mistake_of_ours_tells_nobody_its_words(
    serve_http: Both, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception becomes INTERNAL, and the log has it."""
    served, browser = serve_http(speaker)
    front = served.server._front
    assert front is not None

    async def broken(*_: Any) -> Any:
        raise ValueError("the password is swordfish")

    monkeypatch.setattr(front.verbs, "get", broken)
    monkeypatch.setattr(front.verbs, "watch", broken)
    replies = [
        browser.post(f"{SERVICE}GetRun", {"runId": "r1"}),
        browser.get("/v1/runs/r1/events"),
        browser.ask(
            "POST",
            f"{SERVICE}WatchRun",
            envelope(b'{"runId":"r1"}'),
            content_type="application/connect+json",
        ),
    ]
    assert [reply.status for reply in replies] == [500, 500, 200]
    assert not any(b"swordfish" in reply.body for reply in replies)
    assert "swordfish" in caplog.text
    caplog.clear()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content_type": "application/grpc"}, 415),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/json", "connect_timeout_ms": "soon"}, 400),
    ],
)
def test_what_is_no_request_of_these_protocols_is_refused(
    serve_http: Both, headers: dict[str, str], status: int
) -> None:
    """A form, which a page of anybody could post, is none."""
    _, browser = serve_http(speaker)
    assert browser.ask("POST", f"{SERVICE}ListRuns", b"{}", **headers).status == status


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"spec":1}', b"nul", b"\xff" * 9, b"[" * 10**5]
)
def test_what_is_no_json_is_the_callers_mistake(serve_http: Both, body: bytes) -> None:
    """It is INVALID_ARGUMENT, whatever it is."""
    _, browser = serve_http(speaker)
    reply = browser.ask("POST", f"{SERVICE}StartRun", body, content_type="application/json")
    assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")
