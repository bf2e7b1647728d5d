"""Many live streams at once, started in one burst.

Do all come up, what does each weigh, and does the server still answer?
"""

import asyncio
from collections.abc import Awaitable, Callable
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
    """Memory a stream, without workers."""
    workers_kib: float
    """Memory a stream in the workers."""
    during: list[float]
    """Unary round trips while they were opened, in seconds."""
    after: list[float]
    """The same once all were open."""
    health_during: list[float]
    """Health checks while they were opened, in seconds; of the product only."""
    health_after: list[float]
    """The same once all were open."""


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    for count in (1000, 5000):
        count = plan.scaled(count)
        name = f"{count:,} streams in a burst"
        errors = Series(f"{name}: errors", "", at_most(0))
        memory = Series(f"{name}: control process memory each, beside bare", "KiB")
        bound = Series(f"{name}: control process memory each", "KiB", at_most(48))
        workers = Series(f"{name}: worker memory each", "KiB")
        opening = Series(f"{name}: all open after", "s")
        waits = {
            when: (
                Series(f"{name}: GetRun {when}, p50", "ms"),
                Series(f"{name}: GetRun {when}, p99", "ms"),
            )
            for when in ("meanwhile", "then")
        }
        health = {
            "meanwhile": Series(f"{name}: health meanwhile, p99", "ms", at_most(10)),
            "then": Series(f"{name}: health then, p99", "ms", at_most(10)),
        }
        for _ in range(2):  # a fresh server each, which takes its time
            baseline = await _crowd("bare", count)
            product = await _crowd("product", count)
            errors.add(product.errors)
            memory.add(product.kib, baseline.kib)
            bound.add(product.kib)
            workers.add(product.workers_kib)
            opening.add(product.opening, baseline.opening)
            for when, ours, theirs in (
                ("meanwhile", product.during, baseline.during),
                ("then", product.after, baseline.after),
            ):
                for series, share in zip(waits[when], (0.5, 0.99), strict=True):
                    series.add(percentile(ours, share) * 1e3, percentile(theirs, share) * 1e3)
            for when, ours, theirs in (
                ("meanwhile", product.health_during, baseline.during),
                ("then", product.health_after, baseline.after),
            ):
                health[when].add(percentile(ours, 0.99) * 1e3, percentile(theirs, 0.99) * 1e3)
        all_series = (
            *(errors, bound, memory, workers, opening, *waits["meanwhile"], *waits["then"]),
            *health.values(),
        )
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
        before, workers_before = server.child.memory(), server.child.workers_memory()
        during: list[float] = []
        health: list[float] = []
        has_health = which != "bare"
        async with Child("crowd", {**job, "count": count}) as crowd:
            opening = asyncio.create_task(crowd.answer())
            while not opening.done():
                during.append(await _round_trip(server.caller.get, watched.run_id))
                if has_health:
                    health.append(await _round_trip(server.caller.health))
                await asyncio.sleep(0.002)
            opened = await opening
            after = [await _round_trip(server.caller.get, watched.run_id) for _ in range(500)]
            healths = [await _round_trip(server.caller.health) for _ in range(500 * has_health)]
            grown = server.child.memory() - before
            workers_grown = server.child.workers_memory() - workers_before
        watched.leave()
        return Crowded(
            opened["errors"],
            opened["seconds"],
            grown / count / 1024,
            workers_grown / count / 1024,
            during,
            after,
            health,
            healths,
        )


async def _round_trip(call: Callable[..., Awaitable[None]], *args: str) -> float:
    started = perf_counter()
    await call(*args)
    return perf_counter() - started
