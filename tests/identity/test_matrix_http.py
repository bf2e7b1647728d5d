"""The table of who may do what with whose run, over Connect in JSON and the native routes."""

import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.rpc.error_details_pb2 import ErrorInfo

from tests.identity.callers import Guarded, guarded, token_of
from tests.identity.table import EMPTY, OK, REASONS, ROLES, STRANGER, TABLE, cells
from tests.identity.test_matrix import REQUESTS, RUN, Stays, start_anns
from tests.transports.http.web import SERVICE, Browser

_STREAMS = ("Run", "WatchRun", "WatchRuns")
_MANY = ("runs", "results", "runnables")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Guarded]:
    stays = Stays()
    with guarded(tmp_path, stays.runnable, http="127.0.0.1:0") as served:
        start_anns(served)
        yield served
        stays.release.set()


def browser_of(served: Guarded, who: str) -> Browser:
    named = {"authorization": f"Bearer {token_of(who)}"} if who else {}
    return Browser(served.server.http_url, **named)


def _refused(error: Any) -> str:
    """What an error of Connect is in the table."""
    (info,) = (d for d in error["details"] if d["type"] == ErrorInfo.DESCRIPTOR.full_name)
    data = base64.b64decode(info["value"] + "==")
    return REASONS[ErrorInfo.FromString(data).reason]


def _over_connect(browser: Browser, rpc: str) -> str:
    body = json.dumps(MessageToDict(REQUESTS[rpc])).encode()
    if rpc in _STREAMS:
        return _stream(browser, rpc, body)
    reply = browser.ask("POST", SERVICE + rpc, body, content_type="application/json")
    answer = reply.json()
    if reply.status != 200:
        return _refused(answer)
    is_list = rpc in ("ListRuns", "CancelRuns", "ListRunnables")
    return OK if not is_list or any(name in answer for name in _MANY) else EMPTY


def _stream(browser: Browser, rpc: str, body: bytes) -> str:
    said = struct.pack(">BI", 0, len(body)) + body
    kind = "application/connect+json"
    with browser.open("POST", SERVICE + rpc, said, content_type=kind) as response:
        flags, size = struct.unpack(">BI", response.read(5))
        first = json.loads(response.read(size))
    browser.leave()
    if flags & 2:
        return _refused(first["error"])
    return EMPTY if rpc == "WatchRuns" and "run" not in first else OK


@pytest.mark.parametrize("caller", ROLES)
def test_promise_13_the_table_holds_over_connect(served: Guarded, caller: str) -> None:
    browser = browser_of(served, caller)
    assert {rpc: _over_connect(browser, rpc) for rpc in TABLE} == cells(caller)


@pytest.mark.parametrize("who", ["", "nobody"])
def test_a_stranger_is_told_nothing_over_http(served: Guarded, who: str) -> None:
    browser = browser_of(served, who)
    assert {_over_connect(browser, rpc) for rpc in TABLE} == {STRANGER}
    assert browser.get(f"/v1/runs/{RUN}/events").status == 401
    assert browser.post(f"/v1/runs/{RUN}/cancel").status == 401


@pytest.mark.parametrize("caller", ROLES)
def test_promise_13_the_table_holds_over_the_native_routes(served: Guarded, caller: str) -> None:
    """A foreign run is answered as one that never was, to the byte but for the id."""
    browser, wanted = browser_of(served, caller), cells(caller)
    events = browser.open("GET", f"/v1/runs/{RUN}/events")
    found = OK if events.status == 200 else REASONS[json.loads(events.read())["reason"]]
    browser.leave()
    assert found == wanted["WatchRun"]
    for method, path in (("GET", "/v1/runs/{}/events"), ("POST", "/v1/runs/{}/cancel")):
        if wanted["WatchRun"] == OK:
            continue
        foreign, never = (browser.ask(method, path.format(id)) for id in (RUN, "neverwas"))
        assert (foreign.status, never.status) == (404, 404)
        assert foreign.body.replace(RUN.encode(), b"X") == never.body.replace(b"neverwas", b"X")
    cancel = browser.post(f"/v1/runs/{RUN}/cancel")
    found = OK if cancel.status == 200 else REASONS[cancel.reason]
    assert found == wanted["CancelRun"]
