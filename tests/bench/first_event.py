"""How soon a caller hears of a run just asked for: its first event, and its first text."""

from time import perf_counter

from tests.bench.caller import Server, serving
from tests.bench.figures import Figure, Series, at_most, percentile
from tests.bench.plan import Plan
from tests.bench.script import Script


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    async with serving("bare") as bare, serving("product") as product:
        for payload, how, goal in (
            ("run_started", "async", at_most(1.5)),
            ("content_delta", "async", None),
            ("content_delta", "sync", None),
        ):
            p50 = Series(f"time to {payload}, {how} run, p50", "ms", goal)
            p99 = Series(f"time to {payload}, {how} run, p99", "ms")
            for _ in range(plan.rounds):
                ours, theirs = [], []
                for _ in range(plan.scaled(200)):
                    theirs.append(await _wait(bare, payload, how))
                    ours.append(await _wait(product, payload, how))
                for series, share in ((p50, 0.5), (p99, 0.99)):
                    series.add(percentile(ours, share) * 1e3, percentile(theirs, share) * 1e3)
            figures += [p50.figure(), p99.figure()]
    return figures


async def _wait(server: Server, payload: str, how: str) -> float:
    started = perf_counter()
    stream = server.caller.run(Script(), how)
    await stream.until(payload)
    seconds = perf_counter() - started
    await stream.follow()
    return seconds
