"""AgentOS's REST: a run is one of an agent's, whose name is in every path."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import quote, urlencode

from tests.contracts.transports.over_http import Http, answer, sent
from tests.contracts.transports.way import Stop, Story

_KINDS = {
    "RunStarted": "run_started",
    "RunContent": "content_delta",
    "RunCompleted": "run_completed",
    "RunCancelled": "run_cancelled",
    "RunError": "run_failed",
}
_ENDS = {"RunCompleted": "completed", "RunCancelled": "cancelled", "RunError": "failed"}
_OF_STREAM = {"catch_up", "subscribed", "replay"}
"""They are about the stream, and are no events of the run."""


class AgentOS(Http):
    name = "agentos"
    lacks = frozenset({"stopping", "usage"})
    names: ClassVar[Mapping[str, str]] = {
        "spec.run_id": "run_id",
        "spec.user_id": "user_id",
        "reason": "reason",
    }

    def start(self, runnable: str, run_id: str, **spec: Any) -> None:
        answer(self._run(runnable, run_id, background=True, stream=False, **spec))

    def attend(self, runnable: str, run_id: str) -> Iterator[Story]:
        return self._told(self._run(runnable, run_id, stream=True))

    def follow(self, run_id: str, after: int = 0) -> Iterator[Story]:
        # It counts from 0, so the index of an event is one less than its number.
        path = f"{self._path(run_id)}/resume"
        return self._told(self._post(path, {"last_event_index": after - 1}))

    def cancel(self, run_id: str, reason: str = "", *, wait: int = 0, early: bool = False) -> Stop:
        asked = {"reason": reason, "wait": wait, "before_start": early}
        body = json.dumps(asked).encode()
        path = f"{self._path(run_id)}/cancel"
        told = answer(self.ask("POST", path, body, content_type="application/json"))
        run = told.get("run", {})
        stop = run.get("cancellation", {})
        outcome = told["outcome"].removeprefix("CANCEL_OUTCOME_")
        return Stop(outcome, stop.get("reason", ""), stop.get("actor", ""), run.get("output", ""))

    def state(self, run_id: str) -> str:
        state: str = answer(self.ask("GET", self._path(run_id)))["state"]
        return state

    # --- what is sent and told

    def _path(self, run_id: str) -> str:
        runnable = self.runnables.get(run_id, "waiter")
        return f"/agents/{runnable}/runs/{quote(run_id, safe='')}"

    def _run(self, runnable: str, run_id: str, **fields: Any) -> Any:
        self.runnables[run_id] = runnable
        asked = {"message": "x", "run_id": run_id, **fields}
        return self._post(f"/agents/{runnable}/runs", asked)

    def _post(self, path: str, fields: Mapping[str, Any]) -> Any:
        kind = "application/x-www-form-urlencoded"
        return self.ask("POST", path, urlencode(fields).encode(), content_type=kind)

    def _told(self, response: Any) -> Iterator[Story]:
        story = Story()
        for event in sent(response):
            if (name := event["event"]) in _OF_STREAM:
                continue
            kind = _KINDS[name]
            if story.kinds[-1:] != [kind]:
                story.kinds.append(kind)
            story.numbers.append(event["event_index"] + 1)
            story.text += event["content"] if name == "RunContent" else ""
            if name in _ENDS:
                _end(story, event)
            yield story


def _end(story: Story, event: Any) -> None:
    failed = event["event"] == "RunError"
    story.end = _ENDS[event["event"]]
    story.output = event["output" if failed else "content"]
    stop = event.get("cancellation") or {}
    story.cause = stop.get("cause", "").upper()
    story.reason, story.actor = stop.get("reason", ""), stop.get("actor", "")
    story.error = event.get("error_type", "")
