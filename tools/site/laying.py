"""Lays out what the site shows: pages where the repository has them, so that their links hold.

A link to a file that is no page becomes one to the repository. A link to a file that does not exist
raises; anchors are Sphinx's to check.
"""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from tools.site import commands, protos, python

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/pullcord/pullcord"
FOLDERS = ("docs", "clients/*", "tests/conformance")
"""Whose .md files are pages, beside those of the root."""
GENERATED: dict[str, Callable[[], str]] = {
    "docs/reference/python.md": python.page,
    "docs/reference/commands.md": commands.page,
    "docs/reference/protos.md": protos.page,
}
"""Pages that are made anew for each build, and kept nowhere else."""

_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s]+)(\))")
_FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


class DeadLink(Exception):
    """A link of a page leads to a file that does not exist."""


def lay_out(into: Path) -> Path:
    """Writes every page into this folder, and returns it. An unchanged page keeps its time."""
    pages = {path.relative_to(ROOT).as_posix() for path in _sources()}
    made = {name: _linked(name, (ROOT / name).read_text(), pages) for name in pages}
    made |= {name: render() for name, render in GENERATED.items()}
    made["docs/index.md"] += _REFERENCE
    for old in into.rglob("*.md"):
        if old.relative_to(into).as_posix() not in made:
            old.unlink()
    for name, text in made.items():
        _write(into / name, text)
    for picture in (ROOT / "docs").glob("*.svg"):
        shutil.copy2(picture, into / "docs" / picture.name)
    return into


_REFERENCE = """
## Reference

- [Python](reference/python.md): every name that `pullcord` exports
- [Command line](reference/commands.md): every command and option
- [Protocol](reference/protos.md): every call, message and field

## The project

- [README](../README.md)
- [Changelog](../CHANGELOG.md)
- [Contributing](../CONTRIBUTING.md)
- [Security policy](../SECURITY.md)
- [Code of conduct](../CODE_OF_CONDUCT.md)
- [Conformance of clients](../tests/conformance/README.md)
- [The console's code](../clients/console/README.md)
"""
"""What the index lists on the site only: on GitHub there are no generated pages to link to."""


def _sources() -> list[Path]:
    return [page for folder in (".", *FOLDERS) for page in sorted(ROOT.glob(f"{folder}/*.md"))]


def _linked(name: str, text: str, pages: set[str]) -> str:
    """The page with its links to other files of the repository made links to their address."""
    here = (ROOT / name).parent

    def aim(found: re.Match[str]) -> str:
        link, _, _anchor = found[2].partition("#")
        if not link or "://" in link or link.startswith("mailto:"):
            return found[0]
        path = os.path.normpath(here / link)
        target = Path(path)
        if not target.exists():
            raise DeadLink(f"{name}: {found[2]} does not exist")
        inside = target.relative_to(ROOT).as_posix()
        if inside in pages or (target.parent == ROOT / "docs" and target.suffix == ".svg"):
            return found[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"{found[1]}{REPOSITORY}/{kind}/main/{inside}{found[3]}"

    pieces, last = [], 0
    for fence in _FENCE.finditer(text):
        pieces += [_LINK.sub(aim, text[last : fence.start()]), fence[0]]
        last = fence.end()
    return "".join([*pieces, _LINK.sub(aim, text[last:])])


def _write(path: Path, text: str) -> None:
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
