"""A browser for a server of one test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.transports.harness import Serve, Served
from tests.transports.http.web import Browser


@pytest.fixture
def serve_http(serve: Serve) -> Iterator[Callable[..., tuple[Served, Browser]]]:
    """As `serve`, with a browser."""
    made: list[Browser] = []

    def start(*agents: Any, **options: Any) -> tuple[Served, Browser]:
        served = serve(*agents, http="127.0.0.1:0", **options)
        made.append(Browser(served.server.http_url))
        return served, made[-1]

    yield start
    for browser in made:
        browser.leave()
