"""Runs beneath runs: what an event costs more for each level it rises, and how long a stop takes
to the leaf and back. The baseline is the same run with nothing above it.
"""

from time import perf_counter

from tests.bench.caller import Server, serving
from tests.bench.cost import cost
from tests.bench.figures import Figure, Series, percentile
from tests.bench.plan import Plan
from tests.bench.script import Script

DEPTHS = (1, 3, 7)
"""Runs above the one that speaks; a tree of eight is the deepest by default."""


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    speaking = Script(says="voices", count=plan.scaled(2000))
    async with serving("product") as product:
        for depth in DEPTHS:
            above = f"{depth} run{'s' * (depth > 1)} above"
            cost = Series(f"control and worker CPU a message with {above}", "µs")
            stop = Series(f"cancel with {above}, p50", "ms")
            for _ in range(min(plan.rounds, 3)):
                cost.add(await _cost(product, speaking, depth), await _cost(product, speaking, 0))
                ours, theirs = [], []
                for _ in range(plan.scaled(50)):
                    theirs.append(await _stop(product, 0))
                    ours.append(await _stop(product, depth))
                stop.add(percentile(ours, 0.5) * 1e3, percentile(theirs, 0.5) * 1e3)
            figures += [cost.figure(), stop.figure()]
    return figures


async def _cost(product: Server, script: Script, depth: int) -> float:
    """Microseconds a message of the control process and its worker."""
    with cost(product.child) as found:
        followed = await product.caller.run(script.beneath(depth), "async").follow()
    assert followed.end == "run_completed", followed
    return (found.control + found.workers) / followed.messages * 1e6


async def _stop(product: Server, depth: int) -> float:
    """Seconds from the cancel to the end of the run at the top, its leaf silent."""
    stream = product.caller.run(Script(then="wait").beneath(depth))
    await stream.until("content_delta")
    started = perf_counter()
    await product.caller.cancel(stream.run_id)
    async for event in stream.events():
        if event.HasField("run_cancelled") and not event.HasField("source"):
            return perf_counter() - started
    raise AssertionError("no end")
