"""Real Chromium for tests: where it is, how it is driven, and what a page must never do.

The driver is Playwright, and the browser is the system's own: `apt-get install chromium`.
"""

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from tests.steady import PATIENCE
from tools.clients import is_ci

_WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
});
"""


def chromium() -> str:
    """The browser's path; without one the test is skipped, and in CI it fails."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        words = "this needs Chromium: apt-get install chromium"
        (pytest.fail if is_ci() else pytest.skip)(words)
    return found


@contextlib.contextmanager
def browsing() -> Iterator[Browser]:
    """A browser. No other loop can run in this thread meanwhile, so keep it within a module."""
    path = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


class Window:
    """One profile of a browser: its pages share cookies, storage and connections.

    When it closes, it says what the pages' consoles said that they should not have.
    """

    def __init__(self, browser: Browser, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.context.add_init_script(_WATCH)
        self.wrong: list[str] = []
        self.expected: tuple[str, ...] = ("the server responded with a status of 4",)
        """Parts of what may be said after all: a refusal, which the page shows by itself."""

    def page(self, url: str) -> Page:
        """A new page."""
        page = self.context.new_page()
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", self._hear)
        page.goto(url)
        return page

    def _hear(self, said: ConsoleMessage) -> None:
        if said.type in ("error", "warning"):
            self.wrong.append(said.text)

    def close(self) -> None:
        """Closes all pages. Raises AssertionError if one has done what it must not."""
        try:
            for page in self.context.pages:
                with contextlib.suppress(Exception):  # it may have been left on nothing
                    self.wrong += page.evaluate("window.violations || []")
        finally:
            self.context.close()
        wrong = [said for said in self.wrong if not any(part in said for part in self.expected)]
        assert not wrong, wrong
