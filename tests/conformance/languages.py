"""The clients that the suite plays with: how each one's driver is built, and who is whose partner.

The Python client has two faces, and the TypeScript client is played on Node and in a browser, so
they are here twice.
"""

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence

from tests.conformance.drivers import DriverError
from tools import clients

BROWSER = "browser"

LANGUAGES = {
    "python": ("python", ()),
    "asyncio": ("python", ("--asyncio",)),
    "typescript": ("typescript", ()),
    BROWSER: ("typescript", ()),
    "go": ("go", ()),
    "java": ("java", ()),
    "rust": ("rust", ()),
}
"""By name: the folder under clients/, and what its driver is told beside."""


def missing(language: str) -> str:
    """What must be installed before the language can be played, in words; empty: nothing."""
    if language == BROWSER and shutil.which("chromium") is None:
        return "the client in a browser needs chromium: apt-get install chromium"
    return clients.missing(LANGUAGES[language][0])


def command(language: str) -> list[str]:
    """Builds the driver; the command that runs it. Raises DriverError."""
    folder, more = LANGUAGES[language]
    target = "pages" if language == BROWSER else "driver"
    done = clients.make(folder, target, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        words = f"{done.stdout}{done.stderr}"[-4000:]
        raise DriverError(f"make -C clients/{folder} {target}: status {done.returncode}\n{words}")
    if language == BROWSER:
        return [sys.executable, "-m", "tests.conformance.browser", f"{lines[-1]}/page.js"]
    return [*shlex.split(lines[-1]), *more]


def partner(language: str, present: Sequence[str]) -> str:
    """Who plays the second part: the next one round, so that each plays it once for another."""
    ring = [name for name in LANGUAGES if name in present]
    return ring[(ring.index(language) + 1) % len(ring)]
