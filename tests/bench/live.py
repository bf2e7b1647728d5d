"""Many live streams at once, started in one burst.

Do all come up, what does each weigh, and does the server still answer?
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter

from tests.bench.caller import serving
from tests.bench.figures import Figure, Series, at_most, percentile
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.bench.script import Script


@dataclass(frozen=True, slots=True)
class Crowded:
    """What a server was like with so many streams."""

    errors: int
    opening: float
    """Seconds until each had brought its first text."""
    kib: float
    """Memory a stream."""
    during: list[float]
    """Unary round trips while they were opened, in seconds."""
    after: list[float]
    """The same once all were open."""


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    for count in (1000, 5000):
        count = plan.scaled(count)
        name = f"{count:,} streams in a burst"
        errors = Series(f"{name}: errors", "", at_most(0))
        memory = Series(f"{name}: memory each", "KiB", None)
        bound = Series(f"{name}: memory each, not as a ratio", "KiB", at_most(64))
        opening = Series(f"{name}: all open after", "s")
        waits = {
            when: (
                Series(f"{name}: GetRun {when}, p50", "ms"),
                Series(f"{name}: GetRun {when}, p99", "ms"),
            )
            for when in ("meanwhile", "then")
        }
        for _ in range(2):  # a fresh server each, which takes its time
            baseline = await _crowd("bare", count)
            product = await _crowd("product", count)
            errors.add(product.errors)
            memory.add(product.kib, baseline.kib)
            bound.add(product.kib)
            opening.add(product.opening, baseline.opening)
            for when, ours, theirs in (
                ("meanwhile", product.during, baseline.during),
                ("then", product.after, baseline.after),
            ):
                for series, share in zip(waits[when], (0.5, 0.99), strict=True):
                    series.add(percentile(ours, share) * 1e3, percentile(theirs, share) * 1e3)
        all_series = (errors, bound, memory, opening, *waits["meanwhile"], *waits["then"])
        figures += [series.figure() for series in all_series]
    return figures


async def _crowd(which: str, count: int) -> Crowded:
    async with serving(which) as server:
        watched = server.caller.run(Script(then="wait"))
        await watched.until("content_delta")
        job = {"address": server.address, "script": Script(then="wait").text()}
        job["first"] = "content_delta"
        async with Child("crowd", {**job, "count": 50}) as warming:
            await warming.answer()
        await asyncio.sleep(0.5)  # until what the warming left is gone
        before = server.child.memory()
        during: list[float] = []
        async with Child("crowd", {**job, "count": count}) as crowd:
            opening = asyncio.create_task(crowd.answer())
            while not opening.done():
                during.append(await _round_trip(server.caller.get, watched.run_id))
                await asyncio.sleep(0.002)
            opened = await opening
            after = [await _round_trip(server.caller.get, watched.run_id) for _ in range(500)]
            grown = server.child.memory() - before
        watched.leave()
        kib = grown / count / 1024
        return Crowded(opened["errors"], opened["seconds"], kib, during, after)


async def _round_trip(call, run_id: str) -> float:
    started = perf_counter()
    await call(run_id)
    return perf_counter() - started
