"""One run of a million deltas: does the server's memory stay within the run's bounds?

The log keeps the newest events up to its bounds, and the output all of the text up to its own,
which is raised here for the text to fit. Watched and unwatched, since a reader makes the difference
between messages that are sent at once and text that waits.
"""

from tests.bench.caller import Server, serving
from tests.bench.figures import Figure, Series, at_most
from tests.bench.plan import Plan
from tests.bench.script import TOKEN, Script

DELTAS = 1_000_000
OUTPUT = 8 * 1024 * 1024
BOUND = 32.0
"""MiB: the output twice (as it is kept, and as the terminal event has it), the log, and as much
again for what the allocator holds."""


async def measure(plan: Plan) -> list[Figure]:
    count = plan.scaled(DELTAS)
    assert count * len(TOKEN) < OUTPUT
    figures = []
    for watched in (True, False):
        how = "watched" if watched else "unwatched"
        grown = Series(
            f"a run of {count:,} deltas, {how}: control process memory grown", "MiB", at_most(BOUND)
        )
        for _ in range(min(plan.rounds, 3)):
            async with serving("product", engine__max_output_bytes=OUTPUT) as product:
                grown.add(await _grown(product, Script(count=count), watched))
        grown.note = f"{count * len(TOKEN) / 2**20:.1f} MiB of text"
        figures.append(grown.figure())
    return figures


async def _grown(product: Server, script: Script, watched: bool) -> float:
    """MiB more than before, when the run has just ended."""
    before = product.child.memory()
    if watched:
        followed = await product.caller.run(script).follow()
        told = (followed.deltas + followed.missed, followed.end)
        assert told == (script.count, "run_completed"), followed
    else:
        await product.caller.wait(await product.caller.start(script))
    return (product.child.memory() - before) / 2**20
