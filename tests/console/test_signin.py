"""Signing in to the console of a server that knows its callers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect
from pullcord.run.events import SourceKind

from tests.chromium import Window
from tests.console.app import Play
from tests.identity.callers import Guarded, guarded, token_of

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Guarded]:
    """A server that knows callers by tokens."""
    with guarded(tmp_path, Play(SourceKind.AGENT, id="play"), http="127.0.0.1:0") as served:
        yield served


def test_sign_in_stop_and_sign_out(known: Guarded, window: Callable[..., Window]) -> None:
    """Nothing is shown before a token is given; then one's own runs are, stopped by one's name."""
    ann, bob = known.client("ann"), known.client("bob")
    ours = ann.start("agents/play", '[{"say": "ours"}, {"wait": "never"}]', run_id="ours")
    bob.start("agents/play", '[{"wait": "never"}]', run_id="theirs")
    profile = window()
    page = profile.page(f"{known.server.http_url}/?run=ours")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("Token").fill(token_of("ann"))
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".said .words")).to_have_text("ours")
    expect(page.locator(".row")).to_have_count(1)
    assert token_of("ann") not in page.evaluate("document.cookie + JSON.stringify(localStorage)")
    page.locator(".pull").get_by_role("button", name="Stop").click()
    expect(page.locator(".receipt")).to_contain_text("Stopped by ann")
    page.reload()  # the cookie is enough
    expect(page.locator(".receipt")).to_contain_text("Stopped by ann")
    page.get_by_role("button", name="Help and settings").click()
    expect(page.get_by_role("dialog")).to_contain_text("Signed in as ann")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    expect(page.locator(".row")).to_have_count(0)
    assert ann.get(ours.run_id).state.is_terminal


def test_two_runs_of_one_id(known: Guarded, window: Callable[..., Window]) -> None:
    """An operator opens each of two runs that have the same id, and stops the one that is open."""
    steps = '[{{"say": "of {name}"}}, {{"wait": "never"}}]'
    for name in ("ann", "bob"):
        known.client(name).start("agents/play", steps.format(name=name), run_id="same")
    page = window().page(known.server.http_url)
    page.get_by_label("Token").fill(token_of("olga"))
    page.get_by_role("button", name="Sign in").click()
    for name in ("ann", "bob"):
        page.locator(".row", has_text=f"of acme/{name}").locator("a").click()
        expect(page.locator(".said .words")).to_have_text(f"of {name}")
        expect(page.locator(".row.chosen")).to_have_count(1)
    page.reload()
    expect(page.locator(".said .words")).to_have_text("of bob")
    page.locator(".pull").get_by_role("button", name="Stop").click()
    expect(page.locator(".receipt")).to_contain_text("Stopped by olga")
    assert known.client("bob").get("same").state.is_terminal
    assert not known.client("ann").get("same").state.is_terminal
