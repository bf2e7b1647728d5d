"""A driver that lies: it has the Python client's driver answer, and distorts what it says.

Its one argument is the name of a lie in LIES. It is there to show that the suite notices.
"""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pullcord.v1 import event_pb2, run_pb2
from pullcord.v1 import run_service_pb2 as v1

DRIVER = Path(__file__).parents[2] / "clients" / "python" / "conformance.py"

Answer = dict[str, Any]
Ask = Callable[[Answer], Answer]
Lie = Callable[[Ask], Ask]


def doubles_an_event(ask: Ask) -> Ask:
    """Shows each second event twice."""
    held: list[Answer] = []

    def lie(request: Answer) -> Answer:
        if request["op"] != "next":
            return ask(request)
        if len(held) == 2:
            held.clear()
        if not held:
            held.append(ask(request))
            return held[0]
        held.append(held[0])
        return held[0]

    return lie


def loses_an_event(ask: Ask) -> Ask:
    """Never shows deltas."""

    def lie(request: Answer) -> Answer:
        answer = ask(request)
        while answer.get("payload") == "content_delta":
            answer = ask(request)
        return answer

    return lie


def changes(kind: Any, *, within: str, how: Callable[[Any], None]) -> Lie:
    """Changes every message of a kind."""

    def make(ask: Ask) -> Ask:
        def lie(request: Answer) -> Answer:
            answer = ask(request)
            if within in answer and request["op"] in _SAYS[kind]:
                message = kind.FromString(base64.b64decode(answer[within]))
                how(message)
                answer[within] = base64.b64encode(message.SerializeToString()).decode()
            return answer

        return lie

    return make


_SAYS = {
    event_pb2.RunEvent: ("next",),
    run_pb2.Run: ("start", "wait", "get", "continue_run"),
    v1.CancelRunResponse: ("cancel",),
}


def answers(op: str, made: Callable[[Answer], Any]) -> Lie:
    """Distorts the answers to one op."""

    def make(ask: Ask) -> Ask:
        return lambda request: made(ask(request)) if request["op"] == op else ask(request)

    return make


def _shorten(event: event_pb2.RunEvent) -> None:
    if event.HasField("content_delta"):
        event.content_delta.text = event.content_delta.text[:-1]


def _cut_output(event: event_pb2.RunEvent) -> None:
    if event.HasField("run_completed"):
        event.run_completed.output = event.run_completed.output[:-1]


def _another_actor(event: event_pb2.RunEvent) -> None:
    if event.HasField("run_cancelled"):
        event.run_cancelled.cancellation.actor = "nobody"


def _ends_early(ask: Ask) -> Ask:
    """Says that the stream has ended instead of showing the terminal event."""

    def lie(request: Answer) -> Answer:
        answer = ask(request)
        return {"end": True} if answer.get("payload", "") in _TERMINAL else answer

    return lie


_TERMINAL = ("run_completed", "run_cancelled", "run_failed")


def _dies(answer: Answer) -> Answer:
    print("no more of this", file=sys.stderr)
    raise SystemExit(3)


def _asks_as_itself(ask: Ask) -> Ask:
    return lambda request: ask({**request, "actor": "somebody"})


LIES: dict[str, Lie] = {
    "doubles an event": doubles_an_event,
    "loses an event": loses_an_event,
    "names a payload wrongly": answers("next", lambda a: {**a, "payload": "custom"}),
    "names another run": answers("run", lambda a: {**a, "run_id": "another"}),
    "cuts the text": changes(event_pb2.RunEvent, within="event", how=_shorten),
    "cuts the output": changes(event_pb2.RunEvent, within="event", how=_cut_output),
    "shows a heartbeat": changes(
        event_pb2.RunEvent, within="event", how=lambda e: e.heartbeat.SetInParent()
    ),
    "ends early": _ends_early,
    "never ends": answers("next", lambda a: {"error": {"kind": "E"}} if a.get("end") else a),
    "changes who asked": changes(event_pb2.RunEvent, within="event", how=_another_actor),
    "changes a state": changes(
        run_pb2.Run, within="message", how=lambda run: setattr(run, "state", 7)
    ),
    "changes a receipt": changes(
        v1.CancelRunResponse, within="message", how=lambda said: said.ClearField("accept_time")
    ),
    "names an error wrongly": answers("get", lambda a: {"error": {"kind": "CallFailed"}}),
    "forgets an error": answers("get", lambda a: {"message": ""}),
    "does not leave": answers("drop", lambda a: a),
    "asks as somebody else": _asks_as_itself,
    "answers no object": answers("get", lambda a: [a]),
    "answers no message": answers("get", lambda a: {"message": "%"}),
    "dies": answers("get", _dies),
    "tells the truth": lambda ask: ask,
}


def main() -> None:
    """Asks the real driver, and lies."""
    with subprocess.Popen(
        [sys.executable, str(DRIVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        requests, replies = driver.stdin, driver.stdout

        def ask(request: Answer) -> Answer:
            if request["op"] == "drop" and sys.argv[1] == "does not leave":
                return {}
            requests.write(json.dumps(request) + "\n")
            requests.flush()
            return dict(json.loads(replies.readline()))

        for answer in _answered(LIES[sys.argv[1]](ask)):
            print(json.dumps(answer), flush=True)
        requests.close()


def _answered(ask: Ask) -> Iterator[Any]:
    for line in sys.stdin:
        yield ask(json.loads(line))


if __name__ == "__main__":
    main()
