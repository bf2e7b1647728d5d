"""What the ways over HTTP share."""

import http.client
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlsplit

from tests.contracts.transports.way import Refused, Way
from tests.steady import PATIENCE


class Http(Way):
    """A way over HTTP/1.1, with a connection for each request."""

    def ask(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """The answer, not read yet; its connection is closed with it."""
        line = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            named["authorization"] = f"Bearer {self.token}"
        line.request(method, path, body, {**named, "connection": "close"})
        response: Any = line.getresponse()
        response.line = line
        return response


def closing(response: Any, pieces: Iterable[Any]) -> Iterator[Any]:
    """The pieces; the connection is closed once they are, or nobody reads on."""
    try:
        yield from pieces
    finally:
        response.close()
        response.line.close()


def check(response: Any) -> None:
    """Raises Refused where the answer is a problem."""
    if response.status < 400:
        return
    told = json.loads(response.read())
    response.line.close()
    assert isinstance(told["detail"], str)
    fields = [each["field"] for each in told.get("fields", ())]
    raise Refused(told["reason"], fields, status=str(response.status), words=told["detail"])


def answer(response: Any) -> Any:
    """The answer's JSON. Raises Refused."""
    check(response)
    try:
        return json.loads(response.read())
    finally:
        response.line.close()


def sent(response: Any) -> Iterator[Any]:
    """The data of each server-sent event. Raises Refused."""
    check(response)
    for line in closing(response, response):
        if line.startswith(b"data: "):
            yield json.loads(line[6:])
