"""Builds the site into build/site; a warning is an error, and so is a link that leads nowhere.

`python -m tools.site linkcheck` looks at the links to other sites instead, which needs the network.
"""

import subprocess
import sys
from pathlib import Path

from tools.site.laying import ROOT, lay_out

_START = '<!doctype html><meta http-equiv="refresh" content="0; url=docs/index.html">'
"""Leads from the site's root to docs/: the pages lie as they do in the repository."""


def build(into: Path, builder: str = "html") -> int:
    """Lays the pages out beside `into` and has Sphinx read them. 0: nothing was wrong.

    Sphinx has a process of its own: it loads modules a second time, which breaks them for others.
    """
    pages = lay_out(into.with_name(f"{into.name}-pages"))
    doctrees = into.with_name(f"{into.name}-doctrees")
    options = ["-W", "--keep-going", "-q", "-b", builder, "-c", str(ROOT / "docs")]
    command = [sys.executable, "-m", "sphinx", *options, "-d", str(doctrees)]
    status = subprocess.run([*command, str(pages), str(into)], check=False, cwd=ROOT).returncode
    if builder == "html":
        (into / "index.html").write_text(_START)
    return status


def main() -> None:
    """`make site` and `make links`."""
    builder = sys.argv[1] if len(sys.argv) > 1 else "html"
    into = ROOT / "build" / ("site" if builder == "html" else builder)
    if status := build(into, builder):
        sys.exit(status)
    print(f"built {into / 'index.html'}" if builder == "html" else f"see {into / 'output.txt'}")


if __name__ == "__main__":
    main()
