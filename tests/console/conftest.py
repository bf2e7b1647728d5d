"""One server and one browser for a module's tests, and a fresh profile for each test."""

import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from pullcord.client import RunClient
from pullcord.run.cancel import CancelMode
from pullcord.run.record import Run

from tests.chromium import Window, browsing
from tests.conformance.runnables import gate_named
from tests.console.app import make_server

_numbers = itertools.count(1)


class Desk:
    """A server that is ready, and what a test does with it beside the browser."""

    def __init__(self, address: str, url: str) -> None:
        self.address = address
        self.url = url
        self.client = RunClient(address, actor="the test")
        self._started: list[str] = []

    def start(self, *steps: Any, runnable: str = "agents/play", **options: Any) -> Run:
        """Starts a run of these steps in the background."""
        options.setdefault("run_id", f"run-{next(_numbers)}")
        run = self.client.start(runnable, json.dumps(steps), **options)
        self._started.append(run.run_id)
        return run

    def open(self, gate: str) -> None:
        """Opens a gate at which a run waits."""
        gate_named(gate).open()

    def tidy(self) -> None:
        """Ends what tests have left, so that the next one sees none of it at work."""
        for run in list(self.client.list()):
            if not run.state.is_terminal:
                self.client.cancel(run.run_id, mode=CancelMode.IMMEDIATE, wait=10)


@pytest.fixture(scope="module")
def served() -> Iterator[Desk]:
    server = make_server()
    with server as address:
        desk = Desk(address, server.http_url)
        yield desk
        desk.tidy()
        desk.client.close()


@pytest.fixture
def desk(served: Desk) -> Iterator[Desk]:
    yield served
    served.tidy()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def window(browser: Browser) -> Iterator[Callable[..., Window]]:
    """Makes profiles; each must have behaved when the test ends."""
    made: list[Window] = []

    def make(**options: Any) -> Window:
        made.append(Window(browser, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def page(window: Callable[..., Window], desk: Desk) -> Page:
    """The console, in a profile of its own, on a desk."""
    return window(viewport={"width": 1280, "height": 800}).page(desk.url)
