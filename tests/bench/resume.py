"""Coming back to a long run: how fast a watcher catches up, and how soon it has what is new.

The bare server cannot resume: its baseline is a new stream of as many messages as it sends in the
same time, and the first message of one.
"""

from time import perf_counter

from tests.bench.caller import Server, serving
from tests.bench.figures import Figure, Series, at_least, percentile
from tests.bench.plan import Plan
from tests.bench.script import Script

LONG = 300_000
"""Deltas of the long run: below the default limit of a run's output."""


async def measure(plan: Plan) -> list[Figure]:
    few = Script(count=plan.scaled(10_000))
    caught_up = Series(
        f"catching up on {LONG:,} deltas from the first: deltas a second", "/s", at_least(50)
    )
    soon = Series("coming back for the last delta of them: time to it, p50", "ms")
    async with serving("bare") as bare, serving("product") as product:
        run = product.caller.run(Script(count=LONG, then="wait"))
        told = 0
        async for event in run.events():
            told = event.sequence
            if told > LONG:  # run_started is the first
                break
        for _ in range(plan.rounds):
            started = perf_counter()
            followed = await bare.caller.run(few).follow()
            rate = followed.deltas / (perf_counter() - started)
            caught_up.add(await _catch_up(product, run.run_id, told), rate)
            theirs = [await _first(bare, None, 0) for _ in range(plan.scaled(100))]
            ours = [await _first(product, run.run_id, told - 1) for _ in range(plan.scaled(100))]
            soon.add(percentile(ours, 0.5) * 1e3, percentile(theirs, 0.5) * 1e3)
        run.leave()
    return [caught_up.figure(), soon.figure()]


async def _catch_up(product: Server, run_id: str, last: int) -> float:
    """Deltas a second."""
    started = perf_counter()
    stream = product.caller.watch(run_id)
    async for event in stream.events():
        if event.sequence >= last:
            break
    seconds = perf_counter() - started
    stream.leave()
    return last / seconds


async def _first(server: Server, run_id: str | None, after: int) -> float:
    """Seconds to the first event of a stream, which is then left."""
    started = perf_counter()
    stream = server.caller.watch(run_id, after) if run_id else server.caller.run(Script())
    await anext(stream.events())
    seconds = perf_counter() - started
    stream.leave()
    return seconds
