"""The native routes: events, cancel, health."""

from collections.abc import Callable

import pytest

from tests.transports.harness import Served
from tests.transports.http.agents import TEXT, make_waiter, speaker
from tests.transports.http.web import Browser

Both = Callable[..., tuple[Served, Browser]]


def test_events_come_numbered_and_in_ascii_and_end_after_the_terminal_one(serve_http: Both) -> None:
    """The events of a run are one line of JSON each, whose id is the sequence."""
    _, browser = serve_http(speaker)
    browser.start("speaker", "r1")
    events = browser.events("r1")
    assert events.response.getheader("content-type") == "text/event-stream; charset=utf-8"
    got = list(events)
    assert "runStarted" in got[0]
    assert got[-1]["runCompleted"]["output"] == 3 * TEXT
    assert "".join(event.get("contentDelta", {}).get("text", "") for event in got) == 3 * TEXT
    assert events.ids == [int(event["sequence"]) for event in got]


def test_a_client_that_comes_back_gets_what_it_has_not_seen(serve_http: Both) -> None:
    """Last-Event-ID goes on behind that event, and 204 says that a run is over."""
    _, browser = serve_http(speaker)
    browser.start("speaker", "r1")
    last = list(browser.events("r1"))[-1]
    (again,) = browser.events("r1", last_event_id=str(int(last["sequence"]) - 1))
    assert again == last
    assert browser.events("r1", last_event_id=last["sequence"]).status == 204
    assert browser.events("r1", last_event_id="10" + last["sequence"]).status == 204
    assert browser.get("/v1/runs/r1/events", last_event_id="x").reason == "INVALID_ARGUMENT"


def test_a_stop_from_a_beacon_is_answered_with_the_receipt(serve_http: Both) -> None:
    """A POST without a body, or with JSON of any media type, stops a run and keeps its text."""
    waiter, _ = make_waiter()
    _, browser = serve_http(waiter)
    browser.start("waiter", "r1")
    events = browser.events("r1")
    events.until("contentDelta")
    receipt = browser.post(
        "/v1/runs/r1/cancel", {"reason": "enough", "wait": "10s"}, content_type="text/plain"
    ).json()
    assert receipt["outcome"] == "CANCEL_OUTCOME_STOPPED"
    ended = events.until("runCancelled")["runCancelled"]
    assert (ended["output"], ended["cancellation"]["reason"]) == ("first", "enough")
    assert browser.ask("POST", "/v1/runs/r1/cancel").status == 200


def test_a_client_that_leaves_is_noticed_at_once(serve_http: Both) -> None:
    """The disconnect policy of a run holds for watchers over HTTP."""
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter)
    browser.start("waiter", "r1", onDisconnect="DISCONNECT_POLICY_CANCEL")
    events = browser.events("r1")
    events.until("contentDelta")
    browser.leave()
    assert served.wait("r1").cancellation.cause == 4  # DISCONNECT
    served.until(lambda: not served.engine.occupied)


def test_a_silent_run_shows_a_sign_of_life_that_no_reader_takes_for_an_event(
    serve_http: Both,
) -> None:
    """Heartbeats are comments."""
    waiter, going = make_waiter()
    _, browser = serve_http(waiter, heartbeat=0.05)
    browser.start("waiter", "r1")
    events = browser.events("r1")
    events.until("contentDelta")
    while events.response.readline() != b": heartbeat\n":
        pass
    going.set()
    assert "runCompleted" in list(events)[-1]


@pytest.mark.parametrize("path", ["/v1/runs/none/events", "/v1/runs/none/cancel"])
def test_a_refusal_is_a_problem_with_the_reason_of_grpc(serve_http: Both, path: str) -> None:
    """The detail is text, and the reason is the one of ErrorInfo."""
    _, browser = serve_http(speaker)
    reply = browser.get(path) if path.endswith("events") else browser.post(path)
    assert reply.status == 404
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.reason == "RUN_NOT_FOUND"
    assert isinstance(reply.json()["detail"], str)


def test_health_says_whether_new_runs_are_taken(serve_http: Both) -> None:
    """While the server drains, /healthz is 503 and cancels are served."""
    waiter, _ = make_waiter()
    served, browser = serve_http(waiter)
    assert browser.get("/healthz").status == 200
    browser.start("waiter", "r1")
    events = browser.events("r1")
    events.until("contentDelta")
    served.server.drain()
    served.until(lambda: browser.get("/healthz").status == 503)
    assert browser.post("/v1/runs/r1/cancel").status == 200
    assert "runCancelled" in list(events)[-1]
