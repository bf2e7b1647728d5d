"""A plain HTTP client beside a real server, for the tests of this folder."""

import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.steady import PATIENCE

SERVICE = "/pullcord.v1.RunService/"


@dataclass
class Reply:
    """An answer that was read whole."""

    status: int
    headers: dict[str, str]
    body: bytes
    all: list[str]
    """The values of all headers, those of one name, too."""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        """The reason of a refusal: a problem's, or that of Connect's ErrorInfo."""
        return str(self.json()["reason"])


class Browser:
    """Sends requests to one server, each over a connection of its own."""

    def __init__(self, url: str, **headers: str) -> None:
        self.url = url
        self.host = urlsplit(url).netloc
        self.headers = headers
        self._open: list[http.client.HTTPConnection] = []

    def connect(self) -> http.client.HTTPConnection:
        self._open.append(http.client.HTTPConnection(self.host, timeout=PATIENCE))
        return self._open[-1]

    def leave(self) -> None:
        """Closes all connections."""
        while self._open:
            self._open.pop().close()

    def open(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> http.client.HTTPResponse:
        connection = self.connect()
        named = {k.replace("_", "-"): v for k, v in (self.headers | headers).items()}
        connection.request(method, path, body, named)
        return connection.getresponse()

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        response = self.open(method, path, body, **headers)
        got = {k.lower(): v for k, v in response.getheaders()}
        all_values = [value for _, value in response.getheaders()]
        reply = Reply(response.status, got, response.read(), all_values)
        self._open.pop().close()
        return reply

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        data = b"" if body is None else json.dumps(body).encode()
        return self.ask("POST", path, data, **({"content_type": "application/json"} | headers))

    def call(self, rpc: str, body: Any, **headers: str) -> Any:
        """A unary rpc over Connect, in JSON."""
        reply = self.post(SERVICE + rpc, body, **headers)
        assert reply.status == 200, reply.body
        return reply.json()

    def start(self, runnable: str, run_id: str, **spec: Any) -> Any:
        asked = {"spec": {"runnable": f"agents/{runnable}", "runId": run_id, **spec}}
        return self.call("StartRun", asked)["run"]

    def events(self, run_id: str, after: int = 0, **headers: str) -> "Events":
        path = f"/v1/runs/{run_id}/events" + (f"?after_sequence={after}" if after else "")
        return Events(self.open("GET", path, **headers))

    def raw(self, data: bytes) -> socket.socket:
        """A connection on which these bytes were sent."""
        host, _, port = self.host.rpartition(":")
        opened = socket.create_connection((host, int(port)), timeout=PATIENCE)
        opened.sendall(data)
        return opened


class Events:
    """Server-sent events, read as they come."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.response = response
        self.status = response.status
        self.ids: list[int] = []
        self.comments = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for line in self.response:
            name, _, value = line.decode("ascii").rstrip("\n").partition(": ")
            if name == "id":
                self.ids.append(int(value))
            elif name == "data":
                yield json.loads(value)
            elif name == "" and value:
                self.comments += 1

    def until(self, kind: str) -> dict[str, Any]:
        """Reads on to the first event that has this field."""
        return next(event for event in self if kind in event)
