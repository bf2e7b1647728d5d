"""How the console looks: every page for everybody, at phone and desktop width, dark and light."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.chromium import Window
from tests.clients.toolchains import toolchain
from tests.console.conftest import Desk

pytestmark = pytest.mark.timeout(300)

AXE = Path(__file__).parents[2] / "clients/console/node_modules/axe-core/axe.min.js"
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which finds what people with disabilities would stumble over."""
    toolchain("console").make("build")
    return AXE.read_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(
    size: dict[str, Any], scheme: Any, window: Callable[..., Window], desk: Desk, axe: str
) -> None:
    """axe finds nothing wrong on any page, and nothing is wider than the screen."""
    ask = {"question": "Send it?", "calls": [{"id": "c1", "name": "send", "arguments": "{}"}]}
    mark = {"look": f"{scheme}-{size['width']}"}
    asks = desk.start({"say": "Well. "}, {"ask": ask}, labels=mark)
    stopped = desk.client.start("workflows/evening-paper", "2", session_id="chat", labels=mark)
    failed = desk.start({"say": "half"}, {"fail": "the printer is on fire"}, labels=mark)
    desk.client.cancel(stopped.run_id, "enough", wait=10)
    desk.client.wait(failed.run_id)
    profile = window(viewport=size, color_scheme=scheme, bypass_csp=True)
    page = profile.page(f"{desk.url}/?label=look%3D{mark['look']}")
    page.evaluate(axe)

    def check(what: str) -> None:
        found = page.evaluate("() => axe.run({ resultTypes: ['violations'] })")["violations"]
        told = [f"{v['id']}: {[n['html'][:160] for n in v['nodes']]}" for v in found]
        assert not told, (what, told)
        width = page.evaluate("() => document.documentElement.scrollWidth")
        assert width <= size["width"], what

    expect(page.locator(".row")).to_have_count(3)
    check("the list")
    for run in (asks, stopped, failed):
        page.locator(f'[data-run="{run.run_id}"] a').click()
        expect(page.locator(".head .facts")).to_contain_text(run.run_id)
        page.evaluate("document.querySelectorAll('.run details').forEach((it) => it.open = true)")
        check(run.runnable)
        if size is PHONE:
            _stop_is_under_the_thumb(page)
            page.get_by_role("button", name="Runs", exact=False).first.click()
    for button in ("New run", "Stop many", "Help and settings"):
        page.get_by_role("button", name=button).click()
        expect(page.get_by_role("dialog")).to_be_visible()
        page.evaluate("document.querySelectorAll('dialog details').forEach((it) => it.open = true)")
        check(button)
        page.keyboard.press("Escape")


def _stop_is_under_the_thumb(page: Page) -> None:
    box = page.locator(".pull").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] == pytest.approx(PHONE["height"], abs=1)


def test_the_stop_button_stays_where_it_is(page: Page, desk: Desk) -> None:
    """Stop and Stop now are one after the other in one place, whatever is shown beneath."""
    run = desk.start({"say": "a"}, {"tool": {"name": "print", "steps": [{"wait": "never"}]}})
    page.locator(f'[data-run="{run.run_id}"] a').click()
    stop = page.locator(".pull .stop")
    before = stop.bounding_box()
    stop.click()
    expect(stop).to_have_text("Stop now")
    after = stop.bounding_box()
    assert before is not None
    assert after is not None
    assert before["y"] == after["y"]
    assert before["x"] + before["width"] == after["x"] + after["width"]


def test_reduced_motion(window: Callable[..., Window], desk: Desk) -> None:
    """Nothing moves for who wants no motion."""
    desk.start({"wait": "never"})
    moving = "() => document.getAnimations().length"
    calm = window(reduced_motion="reduce").page(desk.url)
    expect(calm.locator(".row .state.running")).to_be_visible()
    assert calm.evaluate(moving) == 0
    lively = window(reduced_motion="no-preference").page(desk.url)
    expect(lively.locator(".row .state.running")).to_be_visible()
    assert lively.evaluate(moving) > 0
