"""Clients that mean no good, or break: the server answers or hangs up, and serves all others."""

import contextlib
import json
import random
import resource
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.transports.http import options as given
from pullcord.transports.http.options import HttpOptions

from tests.transports.harness import Served
from tests.transports.http.agents import make_waiter, speaker
from tests.transports.http.web import SERVICE, Browser

Both = Callable[..., tuple[Served, Browser]]


@runnable
def flooder(context: RunContext) -> Iterator[str]:
    """Says more than any buffer between here and a reader holds, in pieces that never merge."""
    for _ in range(30):
        yield "x" * 60_000
        context.emit("mark", {})


@pytest.fixture
def bounds(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has servers that are made from now on bound these as the test says."""

    def bound(**options: object) -> None:
        monkeypatch.setattr(given, "HttpOptions", partial(HttpOptions, **options))

    return bound


def _closed(line: socket.socket) -> bytes:
    """What came before the server hung up."""
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while data := line.recv(65536):
            got += data
    return got


def test_headers_that_do_not_come_close_their_connection(
    serve_http: Both, bounds: Callable[..., None]
) -> None:
    """Nothing at all, half a request line, and half the headers of a second request."""
    bounds(header_time=0.2)
    _, browser = serve_http(speaker)
    whole = f"GET /healthz HTTP/1.1\r\nhost: {browser.host}\r\n\r\n".encode()
    for sent in (b"", b"GET /hea", whole + whole[:-2]):
        with browser.raw(sent) as line:
            assert _closed(line).count(b"200 OK") == sent.count(b"\r\n\r\n")
    assert browser.get("/healthz").status == 200


def test_a_body_that_does_not_come_is_refused(
    serve_http: Both, bounds: Callable[..., None]
) -> None:
    """408, whatever is asked, and the next request of others is served."""
    bounds(body_time=0.2)
    _, browser = serve_http(speaker)
    for path in (f"{SERVICE}GetRun", "/v1/runs/x/cancel"):
        head = f"POST {path} HTTP/1.1\r\nhost: {browser.host}\r\ncontent-length: 9\r\n"
        with browser.raw(f"{head}content-type: application/json\r\n\r\n{{".encode()) as line:
            assert line.recv(100).startswith(b"HTTP/1.1 408 ")


def test_many_half_sent_requests_keep_little_memory(
    serve_http: Both, bounds: Callable[..., None]
) -> None:
    """200 clients with headers of 60 KiB that never end: others are served, and all are closed."""
    bounds(header_time=5.0)
    _, browser = serve_http(speaker)
    browser.get("/healthz")
    half = f"GET /healthz HTTP/1.1\r\nhost: {browser.host}\r\nx: ".encode() + b"x" * 60_000
    before = _resident()
    held = [browser.raw(half) for _ in range(200)]
    assert browser.get("/healthz").status == 200
    assert _resident() - before < 100 * 1024 * 1024
    for line in held:
        with line:
            assert _closed(line) == b""


def _resident() -> int:
    """Bytes of this process, in which the server answers HTTP."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_connections_are_bounded(serve_http: Both, bounds: Callable[..., None]) -> None:
    """More than the server takes are closed at once, and room comes back."""
    served, browser = serve_http(speaker, max_connections=3)
    held = [browser.raw(b"") for _ in range(3)]
    with browser.raw(b"") as line:
        assert _closed(line) == b""
    for line in held:
        line.close()
    served.until(lambda: _healthy(browser))


def _healthy(browser: Browser) -> bool:
    try:
        return browser.get("/healthz").status == 200
    except OSError:
        return False


def test_a_reader_that_takes_nothing_is_gone_in_the_end(serve_http: Both) -> None:
    """Its stream holds up nobody, and it is hung up on when its keepalive has passed."""
    waiter, going = make_waiter()
    served, browser = serve_http(flooder, waiter, keepalive=1, keepalive_timeout=1)
    browser.start("waiter", "r0")
    browser.start("flooder", "r1")
    served.wait("r1")
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, _, port = browser.host.rpartition(":")
    line.connect((host, int(port)))
    line.sendall(f"GET /v1/runs/r1/events HTTP/1.1\r\nhost: {browser.host}\r\n\r\n".encode())
    assert line.recv(5) == b"HTTP/"
    assert browser.post("/v1/runs/r0/cancel", {"wait": "10s"}).json()["stopTime"]
    front = served.server._front
    assert front is not None
    served.until(lambda: not front._readers._sending)
    line.close()
    going.set()


def test_pipelined_requests_are_answered_in_their_order(serve_http: Both) -> None:
    """Also behind a stream, and however many come in one piece."""
    _, browser = serve_http(speaker)
    browser.start("speaker", "r1")
    list(browser.events("r1"))
    one = f"GET /v1/runs/r1/events HTTP/1.1\r\nhost: {browser.host}\r\n\r\n"
    last = f"GET /healthz HTTP/1.1\r\nhost: {browser.host}\r\nconnection: close\r\n\r\n"
    with browser.raw((one * 50 + last).encode()) as line:
        got = _closed(line)
    assert got.count(b"runCompleted") == 50
    assert got.endswith(b'{"status":"SERVING"}')


def test_noise_ends_in_a_refusal_or_a_hang_up(serve_http: Both) -> None:
    """Any bytes, cut anywhere: the server goes on, and nothing of it is left at work."""
    _, browser = serve_http(speaker)
    chance = random.Random(7)
    whole = (
        f"POST {SERVICE}StartRun HTTP/1.1\r\nhost: {browser.host}\r\n"
        "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        '1a\r\n{"spec":{"runnable":"a/b"}}\r\n0\r\n\r\n'
    ).encode()
    for _ in range(200):
        noise = bytearray(whole)
        for _ in range(chance.randrange(4)):
            noise[chance.randrange(len(noise))] = chance.randrange(256)
        with browser.raw(bytes(noise[: chance.randrange(len(noise))])) as line:
            line.shutdown(socket.SHUT_WR)
            line.settimeout(0.01)
            with contextlib.suppress(OSError):
                line.recv(100)
    assert browser.get("/healthz").status == 200


def test_odd_requests_are_answered_in_words(serve_http: Both) -> None:
    """Too many fields in a query, cookies of other programs, HEAD of a stream that would last."""
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter)
    browser.start("waiter", "r1")
    many = "&".join(f"a{n}=1" for n in range(200))
    assert browser.get(f"/v1/runs/r1/events?{many}").reason == "INVALID_ARGUMENT"
    odd = 'a={"x": [1, 2]}; ;=; b; pullcord-session="ann"; c=é'
    assert browser.get("/v1/session", cookie=odd).status == 200
    assert browser.ask("HEAD", "/v1/runs/r1/events").status == 200
    served.until(lambda: not served.watchers("r1"))
    assert browser.post("/v1/runs/r1/cancel").status == 200


HALF = "a\ud83d"
"""No text: half of a surrogate pair, which JSON can escape and nothing can store."""
_RESPONSE = {"model": "agents/speaker", "input": "x"}
_AGUI = {"threadId": "t", "runId": "r", "state": {}, "tools": [], "context": []}
_SPEAK, _CHAT, _CANCEL = "/v1/responses", "/v1/chat/completions", "/v1/responses/live/cancel"
_A2A = {"messageId": "m", "role": "ROLE_USER", "parts": [{"text": "x"}]}


def _rpc(**message: Any) -> dict[str, Any]:
    params = {"message": _A2A | message}
    return {"jsonrpc": "2.0", "id": 1, "method": "SendMessage", "params": params}


def _said(text: str) -> dict[str, str]:
    return {"id": "1", "role": "user", "content": text}


TORN: list[tuple[str, Any, str]] = [
    (_SPEAK, _RESPONSE | {"input": HALF}, "input"),
    (_SPEAK, _RESPONSE | {"input": [_said("x"), _said(HALF)]}, "input[1].content"),
    (_SPEAK, _RESPONSE | {"instructions": HALF}, "instructions"),
    (_SPEAK, _RESPONSE | {"metadata": {"a": HALF}}, "metadata.a"),
    (_SPEAK, _RESPONSE | {"metadata": {HALF: "a"}}, "metadata"),
    (_SPEAK, _RESPONSE | {"model": f"agents/{HALF}"}, "model"),
    (_SPEAK, _RESPONSE | {"conversation": HALF}, "conversation"),
    (_SPEAK, _RESPONSE | {"previous_response_id": HALF}, "previous_response_id"),
    (_SPEAK, _RESPONSE | {"max_tool_calls": 2**31}, "max_tool_calls"),
    (_SPEAK, _RESPONSE | {"max_tool_calls": 2**70}, "max_tool_calls"),
    (_SPEAK, _RESPONSE | {"limits": {"max_steps": 2**31}}, "limits.max_steps"),
    (_SPEAK, _RESPONSE | {"limits": {"max_tokens": 2**63}}, "limits.max_tokens"),
    (_CANCEL, {"reason": HALF}, "reason"),
    ("/v1/runs/live/cancel", {"reason": HALF}, "reason"),
    ("/agents/waiter/runs/live/cancel", {"reason": HALF}, "reason"),
    (_CHAT, {"model": "agents/speaker", "messages": [_said(HALF)]}, "messages[0].content"),
    ("/agents/speaker/runs", {"message": HALF, "stream": False}, "message"),
    (
        "/agents/waiter/runs/live/continue",
        {"tools": [{"tool_call_id": "k", "confirmed": False, "confirmation_note": HALF}]},
        "tools[0].confirmation_note",
    ),
    (
        "/agents/waiter/runs/live/continue",
        {"tools": json.dumps([{"tool_call_id": HALF}])},
        "tools.[0].tool_call_id",
    ),
    ("/agui/agents/speaker", _AGUI | {"messages": [_said(HALF)]}, "messages[0].content"),
    ("/a2a/agents/speaker", _rpc(role=HALF), "params.message.role"),
    ("/a2a/agents/speaker", _rpc(parts=[{"text": HALF}]), "params.message.parts[0].text"),
    ("/pullcord.v1.RunService/StartRun", {"spec": {"input": HALF}}, "spec.input"),
]


def test_no_door_takes_what_no_run_can_hold(serve_http: Both) -> None:
    """Torn text and numbers that no field holds are refused by name, and change nothing."""
    waiter, _ = make_waiter()
    _, browser = serve_http(speaker, waiter)
    browser.start("waiter", "live")
    browser.events("live").until("contentDelta")
    for path, body, field in TORN:
        reply = browser.post(path, body, a2a_version="1.0", accept="application/json, */*")
        assert reply.status == (200 if path.startswith("/a2a") else 400), (path, body, reply.body)
        assert field in reply.body.decode(), (path, body, reply.body)
    raw = b'{"model": "agents/speaker", "input": "\xed\xa0\xbd"}'
    assert browser.ask("POST", _SPEAK, raw, content_type="application/json").status == 400
    whole = _RESPONSE | {"input": "\ud83d\ude00 \\ud83d", "background": True, "run_id": "whole"}
    assert browser.post(_SPEAK, whole).status == 200
    runs = browser.call("ListRuns", {})["runs"]
    assert {run["runId"] for run in runs} == {"live", "whole"}
    receipt = browser.call("CancelRun", {"runId": "live", "wait": "10s"})
    assert receipt["outcome"] == "CANCEL_OUTCOME_STOPPED"
