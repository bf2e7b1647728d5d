"""Short runs one after the other: how fast, and does anything stay behind?

Ended runs are kept for a while, up to a number; that is set low here, so that what grows after the
first half is a leak and not the keeping.
"""

from time import perf_counter

from tests.bench.caller import Server, serving
from tests.bench.figures import Figure, Series, at_most
from tests.bench.plan import Plan
from tests.bench.script import Script

KEPT = 500
PARTS = 10


async def measure(plan: Plan) -> list[Figure]:
    part = max(PARTS, plan.scaled(plan.runs) // PARTS)
    speed = Series("runs a second, one after the other", "/s")
    weights = []
    async with (
        serving("bare") as bare,
        serving("product", engine__max_finished_runs=KEPT) as product,
    ):
        await _runs(product, KEPT)
        weights.append(_weigh(product))
        for _ in range(PARTS):
            baseline = await _runs(bare, part)
            speed.add(await _runs(product, part), baseline)
            weights.append(_weigh(product))
    figures = [speed.figure()]
    half = PARTS // 2
    for name, unit, goal in (
        ("memory", "KiB", None),
        ("threads", "", at_most(2)),  # workers are made when needed, up to a bound
        ("file descriptors", "", at_most(0)),
    ):
        values = [weight[name] for weight in weights]
        grown = Series(
            f"{part * PARTS:,} runs: {name} of the control process grown in the second half",
            unit,
            goal,
        )
        grown.add(values[-1] - values[half])
        grown.note = f"start {values[0]:,.0f}, middle {values[half]:,.0f}, end {values[-1]:,.0f}"
        figures.append(grown.figure())
    return figures


def _weigh(server: Server) -> dict[str, float]:
    child = server.child
    return {
        "memory": child.memory() / 1024,
        "threads": child.threads(),
        "file descriptors": child.files(),
    }


async def _runs(server: Server, count: int) -> float:
    """Runs a second; async and sync ones in turn."""
    started = perf_counter()
    for number in range(count):
        stream = server.caller.run(Script(), "sync" if number % 2 else "async")
        end = await stream.until("run_completed", "run_failed")
        assert end == "run_completed", end
        await stream.follow()
    return count / (perf_counter() - started)
