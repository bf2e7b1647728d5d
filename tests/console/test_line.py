"""The console on a bad line and in many tabs: it comes back, misses nothing, and can stop."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect
from pullcord.run.state import RunState

from tests.chromium import Window
from tests.conformance.line import Line
from tests.console.conftest import Desk

pytestmark = pytest.mark.timeout(300)

AWAY = ("Failed to load resource", "net::ERR")


def test_a_line_that_is_cut(window: Callable[..., Window], desk: Desk) -> None:
    """While the line is away the page says so; when it is back, nothing is missing."""
    run = desk.start({"say": "one "}, {"wait": "cut"}, {"say": "two"}, {"wait": "never"})
    profile = window()
    profile.expected += AWAY
    with Line(desk.url.removeprefix("http://")) as line:
        page = profile.page(f"http://{line.address}/?run={run.run_id}")
        expect(page.locator(".said .words")).to_have_text("one ")
        profile.context.set_offline(True)
        line.cut()
        expect(page.locator(".head")).to_contain_text("Connection lost, coming back")
        expect(page.locator(".bar .line")).to_contain_text("does not answer")
        desk.open("cut")
        profile.context.set_offline(False)
        expect(page.locator(".said .words")).to_have_text("one two", timeout=20_000)
        expect(page.locator(".bar .line")).to_have_text("Connected")
        page.locator(".pull").get_by_role("button", name="Stop").click()
        expect(page.locator(".head .state")).to_have_text("Stopped")
        page.goto("about:blank")


def test_six_open_runs_and_the_button_works(window: Callable[..., Window], desk: Desk) -> None:
    """Six tabs that each watch a run leave room among a browser's six connections for a stop."""
    runs = [desk.start({"say": f"run {n}"}, {"wait": "never"}) for n in range(7)]
    profile = window()
    pages = [profile.page(f"{desk.url}/?run={run.run_id}") for run in runs]
    for n, page in enumerate(pages):
        expect(page.locator(".said .words")).to_have_text(f"run {n}")
    for page in (pages[0], pages[-1]):
        page.locator(".pull").get_by_role("button", name="Stop").click()
        expect(page.locator(".head .state")).to_have_text("Stopped")
    assert desk.client.get(runs[0].run_id).state is RunState.CANCELLED
    expect(pages[3].locator(".head .state")).to_have_text("Running")


def test_six_streams_that_nobody_counts(window: Callable[..., Window], desk: Desk) -> None:
    """Where the browser has no locks every tab streams; a stop then makes all of them let go."""
    runs = [desk.start({"say": f"run {n}"}, {"wait": "never"}) for n in range(6)]
    profile = window()
    profile.context.add_init_script(
        "Object.defineProperty(navigator, 'locks', { value: undefined })"
    )
    pages = [profile.page(f"{desk.url}/?run={run.run_id}") for run in runs]
    for n, page in enumerate(pages):
        expect(page.locator(".said .words")).to_have_text(f"run {n}")
    pages[-1].locator(".pull").get_by_role("button", name="Stop").click()
    expect(pages[-1].locator(".head .state")).to_have_text("Stopped")
    expect(pages[0].locator(".head .state")).to_have_text("Running")
