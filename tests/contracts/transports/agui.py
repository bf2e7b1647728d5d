"""AG-UI: a client starts a run and follows it, and leaves to stop it."""

import json
from collections.abc import Iterator
from typing import Any

from tests.contracts.transports.over_http import Http, sent
from tests.contracts.transports.way import Story

_KINDS = {
    "RUN_STARTED": "run_started",
    "TEXT_MESSAGE_CONTENT": "content_delta",
    "RUN_FINISHED": "run_completed",
    "RUN_ERROR": "run_failed",
}
_FRAMES = {"TEXT_MESSAGE_START", "TEXT_MESSAGE_END"}
"""They stand around a message, and are no events of the run."""


class AgUi(Http):
    name = "ag-ui"
    lacks = frozenset({"usage"})

    def attend(self, runnable: str, run_id: str) -> Iterator[Story]:
        asked = {
            "protocolVersion": "1.0",
            "threadId": f"thread-{run_id}",
            "runId": run_id,
            "messages": [{"id": "m", "role": "user", "content": "x"}],
            "state": {},
            "tools": [],
            "context": [],
            "forwardedProps": {},
        }
        path, body = f"/agui/agents/{runnable}", json.dumps(asked).encode()
        story = Story()
        for event in sent(self.ask("POST", path, body, content_type="application/json")):
            if event["type"] in _FRAMES:
                continue
            kind = _kind(event)
            if story.kinds[-1:] != [kind]:
                story.kinds.append(kind)
            story.text += event["delta"] if kind == "content_delta" else ""
            if kind in ("run_completed", "run_cancelled", "run_failed"):
                _end(story, kind, event)
            yield story


def _kind(event: Any) -> str:
    if event["type"] == "CUSTOM":
        name: str = event["name"]
        return name.removeprefix("pullcord.")
    if event["type"] == "RUN_FINISHED" and event["outcome"]["type"] == "cancelled":
        return "run_cancelled"
    return _KINDS[event["type"]]


def _end(story: Story, kind: str, event: Any) -> None:
    story.end, story.output = kind.removeprefix("run_"), story.text
    stop = event.get("metadata", {}).get("pullcord", {})
    story.cause, story.reason = stop.get("cause", ""), stop.get("reason", "")
    story.actor, story.error = stop.get("actor", ""), event.get("code", "")
