"""A2A by JSON-RPC: a client sends a message, whose task is a run, and follows it. The server makes
the task's id of the message, and a client that leaves does not stop it."""

import json
from collections.abc import Iterator
from typing import Any

from tests.contracts.transports.over_http import Http, check, closing
from tests.contracts.transports.way import Refused, Story

_STATES = {
    "RUNNING": "run_started",
    "CANCELLING": "cancel_requested",
    "COMPLETED": "run_completed",
    "CANCELLED": "run_cancelled",
    "FAILED": "run_failed",
}


class A2A(Http):
    name = "a2a"
    lacks = frozenset({"usage"})

    def attend(self, runnable: str, run_id: str) -> Iterator[Story]:
        message = {"messageId": run_id, "role": "ROLE_USER", "parts": [{"text": "x"}]}
        story = Story()
        for told in self._told(runnable, {"message": message}):
            ((what, update),) = told.items()
            if what == "task":
                self.ids[run_id] = update["id"]
                continue
            kind = "content_delta" if what == "artifactUpdate" else _kind(update)
            if story.kinds[-1:] != [kind]:
                story.kinds.append(kind)
            if what == "artifactUpdate":
                (part,) = update["artifact"]["parts"]
                story.text = story.text + part["text"] if update.get("append") else part["text"]
            elif kind in ("run_completed", "run_cancelled", "run_failed"):
                _end(story, kind, update["metadata"]["pullcord"])
            yield story

    def _told(self, runnable: str, params: Any) -> Iterator[Any]:
        asked = {"jsonrpc": "2.0", "id": 1, "method": "SendStreamingMessage", "params": params}
        path, body = f"/a2a/agents/{runnable}", json.dumps(asked).encode()
        headers = {"content_type": "application/json", "a2a_version": "1.0"}
        response = self.ask("POST", path, body, **headers)
        if response.getheader("content-type", "").startswith("text/event-stream"):
            for line in closing(response, response):
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])["result"]
            return
        if response.getheader("content-type", "").startswith("application/problem"):
            check(response)
        error = json.loads(response.read())["error"]
        response.line.close()
        reasons = [one["reason"] for one in error["data"] if "reason" in one]
        raise Refused(reasons[0], status=str(response.status), words=error["message"])


def _kind(update: Any) -> str:
    return _STATES[update["metadata"]["pullcord"]["state"].removeprefix("RUN_STATE_")]


def _end(story: Story, kind: str, ours: Any) -> None:
    story.end, story.output = kind.removeprefix("run_"), story.text
    stop = ours.get("cancellation", {})
    story.cause = stop.get("cause", "").removeprefix("CANCEL_CAUSE_")
    story.reason, story.actor = stop.get("reason", ""), stop.get("actor", "")
    story.error = ours.get("error", {}).get("type", "")
