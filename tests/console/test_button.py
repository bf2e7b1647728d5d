"""The Stop button as a component: on a page of another origin, with a token for one run."""

import contextlib
import importlib.util
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import uvicorn
from playwright.sync_api import Page, expect
from pullcord.run.state import RunState

from tests.chromium import Window
from tests.clients.toolchains import CLIENTS, toolchain
from tests.conformance.line import Line
from tests.console.app import make_server
from tests.console.conftest import Desk

pytestmark = pytest.mark.timeout(600)

EXAMPLE = Path(__file__).parents[2] / "examples/chat/app.py"


@pytest.fixture(scope="module")
def scripts() -> Path:
    """The folder of what tests load into a browser; the package is built, too."""
    return Path(toolchain("typescript").make("pages").splitlines()[-1])


@pytest.fixture(scope="module")
def door() -> Iterator[socket.socket]:
    """Where the app of another origin will listen."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        yield door


def _origin(door: socket.socket) -> str:
    return f"http://127.0.0.1:{door.getsockname()[1]}"


@pytest.fixture(scope="module")
def served(door: socket.socket) -> Iterator[Desk]:
    """A server that lets the pages of the app's origin call."""
    server = make_server(http_origin=(_origin(door),))
    with server as address:
        desk = Desk(address, server.http_url)
        yield desk
        desk.tidy()
        desk.client.close()


@pytest.fixture(scope="module")
def app(door: socket.socket, served: Desk, scripts: Path) -> Iterator[str]:
    """The chat of examples/chat, at its origin."""
    with _serving(_example(served, scripts), door):
        yield _origin(door)


def _example(served: Desk, scripts: Path) -> ModuleType:
    told = {
        "PULLCORD_SCRIPTS": str(CLIENTS / "typescript/dist/src"),
        "PULLCORD_URL": served.url,
        "PULLCORD_TARGET": served.address,
    }
    spec = importlib.util.spec_from_file_location("chat_app", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.dict(os.environ, told):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _serving(module: ModuleType, door: socket.socket) -> Iterator[None]:
    config = uvicorn.Config(module.app, log_config=None, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
        module.client.close()


def test_a_chat_with_history(app: str, window: Callable[..., Window], desk: Desk) -> None:
    """The recipe: a text is answered, stopped by the button, and there again after a reload."""
    page = window().page(app)
    page.get_by_label("Say").fill("a lighthouse")
    page.get_by_role("button", name="Send").click()
    run = page.locator("pullcord-run")
    expect(run.locator("[part=text]")).to_contain_text("a lighthouse")
    run.get_by_role("button", name="Stop").click()
    expect(run.locator("[part=state]")).to_have_text("Stopped")
    expect(run.locator("[part=receipt]")).to_contain_text("ms")
    expect(run.get_by_role("button")).to_have_count(0)
    said = run.locator("[part=text]").inner_text()
    page.reload()
    expect(page.get_by_role("heading", name="a lighthouse")).to_be_visible()
    expect(run.locator("[part=text]")).to_have_text(said)
    expect(run.locator("[part=state]")).to_have_text("Stopped")


def test_the_recipe_is_short() -> None:
    """Backend and page have about twenty lines of code each."""
    backend = [line for line in EXAMPLE.read_text().splitlines() if line.strip()]
    code = [line for line in backend if not line.lstrip().startswith(("import", "from", '"""'))]
    assert len(code) <= 30
    assert len(EXAMPLE.with_name("index.html").read_text().splitlines()) <= 25


STOP = """async ([url, token]) => {
  const answer = await fetch(url, {
    method: "POST", headers: token ? { authorization: `Bearer ${token}` } : {}
  });
  return answer.status;
}"""


def test_a_token_stops_its_run_and_no_other(
    app: str, window: Callable[..., Window], desk: Desk
) -> None:
    """A page can stop what its token is for, and nothing else; without one, nothing at all."""
    ours, others = (desk.start({"wait": "never"}) for _ in range(2))
    token = desk.client.create_run_token(ours.run_id).token
    page = window().page(app)

    def stop(run_id: str, token: str) -> int:
        status: int = page.evaluate(STOP, [f"{desk.url}/v1/runs/{run_id}/cancel", token])
        return status

    assert stop(others.run_id, token) in (401, 403, 404)
    assert stop(others.run_id, "") in (401, 403)
    assert stop(ours.run_id, token) == 200
    assert desk.client.wait(ours.run_id, 30).state is RunState.CANCELLED
    assert desk.client.get(others.run_id).state is RunState.RUNNING


def element(page: Page, desk: Desk, run_id: str, **attributes: str) -> Any:
    """A run shown on the page, with a token for it."""
    token = desk.client.create_run_token(run_id).token
    told = {"run-id": run_id, "server": desk.url, "token": token, **attributes}
    page.evaluate(
        """(told) => {
          const run = document.createElement("pullcord-run");
          for (const [name, value] of Object.entries(told)) run.setAttribute(name, value);
          document.body.append(run);
        }""",
        told,
    )
    return page.locator("pullcord-run").last


def test_stop_then_stop_now_in_other_words(
    app: str, window: Callable[..., Window], desk: Desk
) -> None:
    """Stop waits for a tool call, Stop now does not; the words can be the page's own."""
    run = desk.start({"say": "a"}, {"tool": {"name": "print", "steps": [{"wait": "never"}]}})
    page = window().page(app)
    shown = element(page, desk, run.run_id, reason="the reader left")
    shown.evaluate("(run) => (run.labels = { stop: 'Halt', stopNow: 'Sofort', stopped: 'Aus' })")
    shown.get_by_role("button", name="Halt").click()
    shown.get_by_role("button", name="Sofort").click()
    expect(shown.locator("[part=state]")).to_have_text("Aus")
    ended = desk.client.get(run.run_id)
    assert ended.cancellation is not None
    assert ended.cancellation.reason == "the reader left"


def test_a_line_that_is_cut(app: str, window: Callable[..., Window], desk: Desk) -> None:
    """The component comes back by itself, and misses nothing."""
    run = desk.start({"say": "one "}, {"wait": "button-cut"}, {"say": "two"})
    profile = window()
    profile.expected += ("net::ERR", "Failed to load resource")
    page = profile.page(app)
    with Line(desk.url.removeprefix("http://")) as line:
        shown = element(page, desk, run.run_id, server=f"http://{line.address}")
        expect(shown.locator("[part=text]")).to_have_text("one ")
        line.cut()
        desk.open("button-cut")
        expect(shown.locator("[part=text]")).to_have_text("one two")
        expect(shown.locator("[part=state]")).to_have_text("Done")


def test_a_token_that_has_run_out(app: str, window: Callable[..., Window], desk: Desk) -> None:
    """A token that is a function is asked again; a text that is no longer good is refused."""
    run = desk.start({"say": "kept"}, {"wait": "never"})
    page = window().page(app)
    shown = element(page, desk, run.run_id, token="of yesterday")
    expect(shown.locator("[part=note]")).not_to_be_empty()
    fresh = desk.client.create_run_token(run.run_id).token
    shown.evaluate("(run, fresh) => (run.token = async () => fresh)", fresh)
    expect(shown.locator("[part=text]")).to_have_text("kept")


def test_react(app: str, window: Callable[..., Window], desk: Desk, scripts: Path) -> None:
    """The same in React, also where it renders everything twice."""
    run = desk.start({"say": "kept"}, {"wait": "never"})
    token = desk.client.create_run_token(run.run_id).token
    page = window().page(f"{app}/history")  # of its origin, without a script
    page.set_content('<div id="run"></div>')
    page.add_script_tag(path=scripts / "react.js")
    told = {"runId": run.run_id, "server": desk.url, "token": token, "reason": "by React"}
    page.evaluate("(told) => pullcordShow(told)", told)
    shown = page.locator("#run")
    expect(shown.locator("[data-part=text]")).to_have_text("kept")
    shown.get_by_role("button", name="Stop").click()
    expect(shown.locator("[data-part=state]")).to_have_text("Stopped")
    expect(shown.locator("[data-part=receipt]")).to_contain_text("by React")
    expect(shown.get_by_role("button")).to_have_count(0)
