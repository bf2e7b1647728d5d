"""`python -m tests.conformance.browser SCRIPT`: the driver in a browser.

The script is the TypeScript driver as a page has it. This process reads what a driver is asked, and
has a page of the server's own origin answer; it gives a page to each `connect`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, Route

from tests.chromium import browsing
from tests.conformance.door import Door

_PAGE = "<!doctype html><title>driver</title>"


class _Host:
    def __init__(self, browser: Browser, script: str) -> None:
        self._browser = browser
        self._script = script
        self._context: BrowserContext | None = None
        self._page: Page | None = None
        self._door: Door | None = None

    def answer(self, line: str) -> str:
        """What the page answers to a line."""
        asked: dict[str, Any] = json.loads(line)
        if asked["op"] == "connect":
            line = json.dumps({**asked, "target": self._connect(asked)})
        assert self._page is not None, "the first op is connect"
        answer: str = self._page.evaluate("(line) => pullcordDriver(line)", line)
        return answer

    def _connect(self, asked: dict[str, Any]) -> str:
        """A fresh page of the server's origin; that origin."""
        self.close()
        target = asked["target"]
        if not asked.get("http"):
            self._door = Door(target)
            target = self._door.address
        origin = f"http://{target}"
        self._context = self._browser.new_context()
        self._page = self._context.new_page()
        # The page is ours, also where nobody listens.
        self._page.route(f"{origin}/", _fulfil)
        self._page.goto(f"{origin}/")
        self._page.add_script_tag(content=self._script)
        return origin

    def close(self) -> None:
        """Ends the page, and with it all of its calls."""
        if self._context is not None:
            self._context.close()
            self._context = None
        if self._door is not None:
            self._door.close()
            self._door = None


def _fulfil(route: Route) -> None:
    route.fulfill(body=_PAGE, content_type="text/html")


def main() -> None:
    """Answers until stdin ends."""
    with browsing() as browser:
        host = _Host(browser, Path(sys.argv[1]).read_text())
        for line in sys.stdin:
            print(host.answer(line), flush=True)
        host.close()


if __name__ == "__main__":
    main()
