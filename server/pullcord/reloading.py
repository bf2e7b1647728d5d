"""Noticing that an author's files have changed, for `pullcord serve --reload`.

It looks at Python files beneath a folder, in a thread, and says only that something has changed.
"""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

_EVERY = 0.5
"""Seconds between two looks."""
_MOST = 20_000
"""Files that are looked at; further ones are not."""
_SKIPPED = {"node_modules", "__pycache__", "site-packages"}


async def watch_files(folder: Path, changed: Callable[[], None]) -> None:
    """Calls `changed` whenever a Python file comes, changes or goes. Goes on until cancelled."""
    before = await asyncio.to_thread(_times, folder)
    while True:
        await asyncio.sleep(_EVERY)
        now = await asyncio.to_thread(_times, folder)
        if now != before:
            before = now
            changed()


def _times(folder: Path) -> dict[str, int]:
    """When each file was changed last, in nanoseconds."""
    found: dict[str, int] = {}
    for place, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in _SKIPPED]
        for name in files:
            if name.endswith(".py") and len(found) < _MOST:
                path = os.path.join(place, name)  # noqa: PTH118  # a Path for each of thousands is slow
                try:
                    found[path] = os.stat(path).st_mtime_ns  # noqa: PTH116  # as above
                except OSError:  # it has just gone
                    continue
    return found
