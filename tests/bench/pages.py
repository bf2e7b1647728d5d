"""What a browser is sent before it shows the console, packed as the server packs it."""

import gzip
from importlib import resources

from tests.bench.figures import Figure, Spread, at_most
from tests.bench.plan import Plan

_GOAL = 100.0
"""kB: what comes within a second over a line of 1 Mbit/s."""


async def measure(plan: Plan) -> list[Figure]:
    """The sizes of the files of the build, of one kind each, and of all."""
    built = resources.files("pullcord") / "console"
    sizes: dict[str, float] = {}
    for file in (built / "index.html", *(built / "assets").iterdir()):
        kind = file.name.rpartition(".")[2]
        packed = len(gzip.compress(file.read_bytes(), mtime=0)) / 1000
        sizes[kind] = sizes.get(kind, 0.0) + packed
    figures = [
        Figure(f"the console: {kind}", "kB", Spread.of([sizes[kind]])) for kind in ("js", "css")
    ]
    whole = Spread.of([sum(sizes.values())])
    return [*figures, Figure("the console: all of it", "kB", whole, goal=at_most(_GOAL))]
