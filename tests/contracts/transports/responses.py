"""OpenAI's Responses: a run is a response, and a stop that was asked for is a field of ours."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from tests.contracts.transports.over_http import Http, answer, sent
from tests.contracts.transports.way import Stop, Story

_KINDS = {
    "response.created": "run_started",
    "response.output_text.delta": "content_delta",
    "response.completed": "run_completed",
    "response.failed": "run_failed",
}
_MORE = {"CANCELLING": "cancel_requested", "CANCELLED": "run_cancelled"}
"""What is told by a response's state: OpenAI has no frame for it."""


class Responses(Http):
    name = "responses"
    names: ClassVar[Mapping[str, str]] = {
        "spec.runnable": "model",
        "spec.run_id": "run_id",
        "spec.user_id": "user",
        "reason": "reason",
    }

    def start(self, runnable: str, run_id: str, **spec: Any) -> None:
        answer(self._create(runnable, run_id, background=True, **spec))

    def attend(self, runnable: str, run_id: str) -> Iterator[Story]:
        return self._told(self._create(runnable, run_id, stream=True))

    def follow(self, run_id: str, after: int = 0) -> Iterator[Story]:
        # Its numbers begin at 0.
        more = f"&starting_after={after - 1}" if after else ""
        return self._told(self.ask("GET", f"/v1/responses/{run_id}?stream=true{more}"))

    def cancel(self, run_id: str, reason: str = "", *, wait: int = 0, early: bool = False) -> Stop:
        asked = {"reason": reason, "wait": wait, "before_start": early}
        response = self._post(f"/v1/responses/{run_id}/cancel", asked)
        told = answer(response)
        ours = told["pullcord"]
        stop = ours.get("cancellation", {})
        return Stop(
            ours["receipt"]["outcome"].removeprefix("CANCEL_OUTCOME_"),
            stop.get("reason", ""),
            stop.get("actor", ""),
            _output(told),
        )

    def state(self, run_id: str) -> str:
        return _state(answer(self.ask("GET", f"/v1/responses/{run_id}"))).lower()

    # --- what is sent and told

    def _create(self, runnable: str, run_id: str, user_id: str = "", **more: Any) -> Any:
        self.runnables[run_id] = runnable
        who = {"user": user_id} if user_id else {}
        asked = {"model": f"agents/{runnable}", "input": "x", "run_id": run_id, **who, **more}
        return self._post("/v1/responses", asked)

    def _post(self, path: str, asked: Any) -> Any:
        return self.ask("POST", path, json.dumps(asked).encode(), content_type="application/json")

    def _told(self, response: Any) -> Iterator[Story]:
        story = Story()
        for frame in sent(response):
            kind = _KINDS.get(frame["type"]) or (
                _MORE.get(_state(frame["response"])) if "response" in frame else None
            )
            if kind and story.kinds[-1:] != [kind]:
                story.kinds.append(kind)
            story.numbers.append(frame["sequence_number"] + 1)
            story.text += frame["delta"] if kind == "content_delta" else ""
            if kind in ("run_completed", "run_cancelled", "run_failed"):
                _end(story, frame["response"])
            yield story


def _end(story: Story, response: Any) -> None:
    ours = response["pullcord"]
    story.end, story.output = response["status"], _output(response)
    assert story.end == _state(response).lower()
    stop = ours.get("cancellation", {})
    story.cause = stop.get("cause", "").removeprefix("CANCEL_CAUSE_")
    story.reason, story.actor = stop.get("reason", ""), stop.get("actor", "")
    story.error = ours.get("error", {}).get("type", "")


def _state(response: Any) -> str:
    state: str = response["pullcord"]["state"]
    return state.removeprefix("RUN_STATE_")


def _output(response: Any) -> str:
    items = [item for item in response["output"] if item["type"] == "message"]
    return "".join(part["text"] for item in items for part in item["content"])
