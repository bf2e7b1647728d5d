"""The console's list as it changes: one live stream a tab, of the open run or of the list."""

from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, Request, expect
from pullcord.run.cancel import CancelMode

from tests.chromium import Window
from tests.console.conftest import Desk
from tests.steady import PATIENCE

pytestmark = pytest.mark.timeout(300)

STREAMS = ("WatchRuns", "WatchRun")


class Streams:
    """The streams that the pages of a profile have open, by the name of the call."""

    def __init__(self, context: BrowserContext) -> None:
        self._open: list[Request] = []
        context.on("request", self._begin)
        context.on("requestfinished", self._end)
        context.on("requestfailed", self._end)

    def settle(self, page: Page, *wanted: str) -> None:
        """Waits until these are open, and no others."""
        for _ in range(int(PATIENCE * 20)):
            if self.names() == list(wanted):
                return
            page.wait_for_timeout(50)
        assert self.names() == list(wanted)

    def names(self) -> list[str]:
        return [request.url.rpartition("/")[2] for request in self._open]

    def _begin(self, request: Request) -> None:
        if request.url.rpartition("/")[2] in STREAMS:
            self._open.append(request)

    def _end(self, request: Request) -> None:
        if request in self._open:
            self._open.remove(request)


def test_a_tab_has_one_stream(window: Callable[..., Window], desk: Desk) -> None:
    """The list is followed while no run is; a run that is open has the stream until it ends."""
    first = desk.start({"say": "a"}, {"wait": "never"})
    profile = window(viewport={"width": 1280, "height": 800})
    streams = Streams(profile.context)
    page = profile.page(desk.url)
    streams.settle(page, "WatchRuns")
    second = desk.start({"wait": "never"})
    expect(page.locator(f'[data-run="{second.run_id}"]')).to_be_visible()
    desk.client.cancel(second.run_id, mode=CancelMode.IMMEDIATE)
    expect(page.locator(f'[data-run="{second.run_id}"] .state')).to_have_text("Stopped")

    page.locator(f'[data-run="{first.run_id}"] a').click()
    expect(page.locator(".said .words")).to_have_text("a")
    streams.settle(page, "WatchRun")
    third = desk.start({"wait": "never"})  # the list is looked at meanwhile
    page.mouse.move(800, 400)
    expect(page.locator(f'[data-run="{third.run_id}"]')).to_be_visible()
    page.keyboard.press("Escape")
    streams.settle(page, "WatchRuns")
    page.locator(f'[data-run="{first.run_id}"] a').click()
    streams.settle(page, "WatchRun")
    desk.client.cancel(first.run_id, mode=CancelMode.IMMEDIATE)
    expect(page.locator(".head .state")).to_have_text("Stopped")
    streams.settle(page, "WatchRuns")


def test_a_followed_list_keeps_its_filter(window: Callable[..., Window], desk: Desk) -> None:
    """A run that leaves the filter by its change leaves the list, and one that enters it comes."""
    run = desk.start({"wait": "never"}, labels={"kept": "yes"})
    other = desk.start({"wait": "never"}, labels={"kept": "no"})
    profile = window(viewport={"width": 1280, "height": 800})
    streams = Streams(profile.context)
    page = profile.page(f"{desk.url}/?state=live&label=kept%3Dyes")
    streams.settle(page, "WatchRuns")
    expect(page.locator(f'[data-run="{run.run_id}"]')).to_be_visible()
    expect(page.locator(f'[data-run="{other.run_id}"]')).to_have_count(0)
    desk.client.cancel(run.run_id, mode=CancelMode.IMMEDIATE)
    expect(page.locator(f'[data-run="{run.run_id}"]')).to_have_count(0)


def test_no_more_than_two_lists_are_followed(window: Callable[..., Window], desk: Desk) -> None:
    """Lists leave room for runs: the third tab looks at its list, and a run is followed beside."""
    run = desk.start({"say": "a"}, {"wait": "never"})
    profile = window()
    streams = Streams(profile.context)
    pages = [profile.page(desk.url) for _ in range(3)]
    for page in pages:
        expect(page.locator(f'[data-run="{run.run_id}"]')).to_be_visible()
    streams.settle(pages[0], "WatchRuns", "WatchRuns")
    watching = profile.page(f"{desk.url}/?run={run.run_id}")
    expect(watching.locator(".said .words")).to_have_text("a")
    streams.settle(watching, "WatchRuns", "WatchRuns", "WatchRun")


def test_a_workflow_speaks_by_its_steps(page: Page, desk: Desk) -> None:
    """While a workflow has no text of its own, its steps' is shown; a step has one line."""
    run = desk.client.start("workflows/evening-paper", "100", run_id="paper")
    page.locator(f'[data-run="{run.run_id}"] a').click()
    expect(page.locator(".said")).to_contain_text("Storyteller")
    expect(page.locator(".voice", has_text="Storyteller")).to_contain_text("tram")
    expect(page.locator(".said .hint")).to_have_count(0)
    names = [name.lower() for name in page.locator(".branch .name").all_inner_texts()]
    assert names.count("plan") == 1, names
