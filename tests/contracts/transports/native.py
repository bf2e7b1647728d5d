"""The native routes: server-sent events, and the cancel route."""

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from pullcord.v1 import event_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.contracts.transports.connect import ConnectJson
from tests.contracts.transports.messages import stop_of, told
from tests.contracts.transports.over_http import Http, check, closing
from tests.contracts.transports.way import Stop, Story


class Native(Http):
    """Server-sent events and the cancel route. Runs are started and shown over Connect."""

    name = "native"

    def __init__(self, address: str, url: str, token: str, runnables: dict[str, str]) -> None:
        super().__init__(address, url, token, runnables)
        self._calls = ConnectJson(address, url, token, runnables)

    def start(self, runnable: str, run_id: str, **spec: Any) -> None:
        self._calls.start(runnable, run_id, **spec)

    def state(self, run_id: str) -> str:
        return self._calls.state(run_id)

    def attend(self, runnable: str, run_id: str) -> Iterator[Story]:
        self.start(runnable, run_id, on_disconnect="DISCONNECT_POLICY_CANCEL")
        yield from self.follow(run_id)

    def follow(self, run_id: str, after: int = 0) -> Iterator[Story]:
        headers = {"last_event_id": str(after)} if after else {}
        response = self.ask("GET", f"/v1/runs/{run_id}/events", **headers)
        check(response)
        story = Story()
        for line in closing(response, response):
            if line.startswith(b"data: "):
                yield told(story, json_format.Parse(line[6:], event_pb2.RunEvent()))

    def cancel(self, run_id: str, reason: str = "", *, wait: int = 0, early: bool = False) -> Stop:
        asked: dict[str, Any] = {"reason": reason, "beforeStart": early}
        if wait:
            asked["wait"] = f"{wait}s"
        response = self.ask("POST", f"/v1/runs/{run_id}/cancel", json.dumps(asked).encode())
        check(response)
        return stop_of(json_format.Parse(response.read(), v1.CancelRunResponse()))
