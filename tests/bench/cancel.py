"""How long a stop takes: from sending CancelRun to `run_cancelled` at the run's own stream.

Each cancel is taken in turn with a unary round trip to the bare server, which is the baseline. The
runs are silent, speaking, in a tool (which an IMMEDIATE stop does not wait for) or still queued;
then the same with the server full of other runs, whose threads block (as on a network) or compute
(in pure Python, taking turns with the server's own). What such threads do to any server in Python
is measured on the bare one.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter

from tests.bench.caller import Server, serving
from tests.bench.figures import Figure, Goal, Series, at_most, percentile
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.bench.script import Script

WORKERS = 32
"""The default number of threads for sync runs."""
LIVE = 1000
ROUND = 3.0
"""Seconds after which a round makes do with the samples it has."""

FIGURE = 10.0
"""Seconds after which a figure makes do with the rounds it has."""
PATIENCE = 3.0
"""Seconds that a sample may take; what takes longer counts as so long, and is noted."""

SILENT = Script(then="wait")
TOOL = Script(then="tool")
SPEAKING = Script(count=10**9, burst=1, pause=0.01)
ONCE_A_SECOND = Script(count=10**9, burst=1, pause=1.0)


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    async with serving("bare") as bare, serving("product") as product:
        goals = (at_most(3), at_most(10))
        for name, script in (("silent", SILENT), ("speaking", SPEAKING), ("in a tool", TOOL)):
            figures += await _cancels(plan, f"cancel, {name} run", bare, product, script, goals)
    for then, doing, threads in (
        ("block", "blocking", WORKERS),
        ("compute", "computing", 1),
        ("compute", "computing", WORKERS),
    ):
        async with serving("bare") as bare, _full(plan, then, threads) as product:
            name = f"with {plan.scaled(LIVE):,} live, {threads} thread{'s' * (threads > 1)} {doing}"
            goals = (None, at_most(20))
            figures += await _cancels(plan, f"cancel {name}", bare, product, SILENT, goals)
            if then == "block":
                figures += await _cancels(plan, f"cancel queued {name}", bare, product, None, goals)
            if threads == 1 or then == "block":  # else the server is starved, and answers nothing
                figures += await _unary(plan, f"GetRun {name}", bare, product)
    async with serving("bare") as bare, serving("bare") as starved:
        for _ in range(WORKERS):
            await starved.caller.run(Script(then="compute")).follow()
        await asyncio.sleep(2)
        name = f"bare server's unary call, {WORKERS} threads computing and nothing else"
        figures += await _unary(plan, name, bare, starved)
    return figures


@asynccontextmanager
async def _full(plan: Plan, then: str, threads: int) -> AsyncIterator[Server]:
    """A server with every thread taken, and as many runs beside them as make a thousand."""
    async with AsyncExitStack() as stack:
        product = await stack.enter_async_context(serving("product"))
        crowd = Child(
            "crowd",
            {
                "address": product.address,
                "count": plan.scaled(LIVE) - threads,
                "script": ONCE_A_SECOND.text(),
                "first": "content_delta",
            },
        )
        await stack.enter_async_context(crowd)
        assert (await crowd.answer())["errors"] == 0
        # They begin together, once all are started: starting is not what is measured.
        busy = Script(then=then, delay=1.0)
        await asyncio.gather(*(product.caller.start(busy, "sync") for _ in range(threads)))
        await asyncio.sleep(1.5)
        yield product


async def _cancels(
    plan: Plan,
    name: str,
    bare: Server,
    product: Server,
    script: Script | None,
    goals: tuple[Goal | None, Goal | None],
) -> list[Figure]:
    p50, p99 = Series(f"{name}, p50", "ms", goals[0]), Series(f"{name}, p99", "ms", goals[1])
    await _rounds(plan, p50, p99, bare, lambda: _cancelled(product, script))
    return [p50.figure(), p99.figure()]


async def _unary(plan: Plan, name: str, bare: Server, product: Server) -> list[Figure]:
    p50, p99 = Series(f"{name}, p50", "ms"), Series(f"{name}, p99", "ms")
    run = product.caller.run(SILENT)
    await run.until("run_started")

    async def get() -> float:
        started = perf_counter()
        await product.caller.get(run.run_id)
        return perf_counter() - started

    await _rounds(plan, p50, p99, bare, get)
    run.leave()
    return [p50.figure(), p99.figure()]


async def _rounds(
    plan: Plan,
    p50: Series,
    p99: Series,
    bare: Server,
    take: Callable[[], Awaitable[float]],
) -> None:
    taken = lost = 0
    enough = perf_counter() + FIGURE
    for _ in range(plan.rounds):
        if taken and perf_counter() > enough:
            break
        ours, theirs = [], []
        until = perf_counter() + ROUND
        while len(ours) < plan.scaled(200) and (not ours or perf_counter() < until):
            theirs.append(await _round_trip(bare))
            try:
                async with asyncio.timeout(PATIENCE):
                    ours.append(await take())
            except TimeoutError:
                ours.append(PATIENCE)
                lost += 1
        taken += len(ours)
        for series, share in ((p50, 0.5), (p99, 0.99)):
            series.add(percentile(ours, share) * 1e3, percentile(theirs, share) * 1e3)
    p50.note = p99.note = f"{taken} samples" + (f", {lost} above {PATIENCE:g} s" if lost else "")


async def _round_trip(bare: Server) -> float:
    started = perf_counter()
    await bare.caller.cancel("a-run")
    return perf_counter() - started


async def _cancelled(product: Server, script: Script | None) -> float:
    """Seconds from the cancel to the terminal event; without a script, of a run that queues."""
    stream = product.caller.run(script or Script(), "sync" if script is None else "async")
    try:
        await stream.until("run_started" if script is None else "content_delta")
        if script is not None:
            await asyncio.sleep(random.uniform(0.001, 0.011))  # anywhere between two deltas
        started = perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(product.caller.cancel(stream.run_id, now=script is TOOL))
            end = await stream.until("run_cancelled", "run_completed", "run_failed")
            seconds = perf_counter() - started
        assert end == "run_cancelled", end
        return seconds
    finally:
        stream.leave()
