"""How long a stop takes: from sending CancelRun to `run_cancelled` at the run's own stream.

Each cancel is taken in turn with a unary round trip to the bare server, which is the baseline. The
runs are silent, speaking, in a tool (which an IMMEDIATE stop does not wait for) or still queued;
then the same with a worker full of other runs, whose threads block (as on a network) or compute (in
pure Python, taking turns with the worker's own). What such threads do to any server in Python is
measured on the bare one. Last, a run that has a process for itself and ignores everything.
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

SLOW = 2.0
"""Seconds after which a worker whose threads compute is known to be slow, and gets no new runs."""
BESIDE = 10
"""Runs that are silent beside the computing ones."""
ABANDONED = 2.1
"""Seconds: by default a run that does not stop is abandoned after two."""

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
    for then, doing, threads in (("block", "blocking", WORKERS), ("compute", "computing", 1)):
        async with serving("bare") as bare, _full(plan, then, threads) as product:
            name = f"with {plan.scaled(LIVE):,} live, {threads} thread{'s' * (threads > 1)} {doing}"
            goals = (None, at_most(20))
            figures += await _cancels(plan, f"cancel {name}", bare, product, SILENT, goals)
            if then == "block":
                figures += await _cancels(plan, f"cancel queued {name}", bare, product, None, goals)
            figures += await _unary(plan, f"GetRun {name}", bare, product)
    figures += await _beside_computing(plan)
    figures += await _killed(plan)
    async with serving("bare") as bare, serving("bare") as starved:
        for _ in range(WORKERS):
            await starved.caller.run(Script(then="compute")).follow()
        await asyncio.sleep(2)
        name = f"bare server's unary call, {WORKERS} threads computing and nothing else"
        figures += await _unary(plan, name, bare, starved)
    return figures


async def _beside_computing(plan: Plan) -> list[Figure]:
    """The worker computes in every thread: the control process answers as ever, new runs go to
    another worker, and runs beside the computing ones end at the latest when they are abandoned."""
    name = f"with {plan.scaled(LIVE):,} live, {WORKERS} threads computing"
    figures: list[Figure] = []
    async with serving("bare") as bare, serving("product") as product:
        beside = [product.caller.run(SILENT) for _ in range(BESIDE)]
        for run in beside:
            await run.until("content_delta")
        async with _filled(plan, product, "compute", WORKERS):
            await asyncio.sleep(SLOW)
            figures += await _unary(plan, f"GetRun {name}", bare, product, at_most(10))
            health = (
                Series(f"health {name}, p50", "ms"),
                Series(f"health {name}, p99", "ms", at_most(10)),
            )
            await _rounds(plan, *health, bare, lambda: _seconds(product.caller.health()))
            figures += [series.figure() for series in health]
            figures += await _cancels(
                plan, f"cancel on a fresh worker {name}", bare, product, SILENT, (None, at_most(10))
            )
            answer = Series(f"CancelRun's answer {name}, p99", "ms", at_most(10))
            ended = Series(f"cancel beside them {name}, longest", "s", at_most(ABANDONED))
            answers, ends, theirs = [], [], []
            for run in beside:
                theirs.append(await _round_trip(bare))
                started = perf_counter()
                answers.append(await _seconds(product.caller.cancel(run.run_id, now=True)))
                assert await run.until("run_cancelled") == "run_cancelled"
                ends.append(perf_counter() - started)
            answer.add(percentile(answers, 0.99) * 1e3, percentile(theirs, 0.99) * 1e3)
            ended.add(max(ends))
            answer.note = ended.note = f"{BESIDE} samples"
            figures += [answer.figure(), ended.figure()]
    return figures


async def _killed(plan: Plan) -> list[Figure]:
    """IMMEDIATE against a run with a process for itself, in C code that no exception reaches."""
    p50 = Series("IMMEDIATE against a busy loop in C, isolated, p50", "ms", at_most(50))
    longest = Series("IMMEDIATE against a busy loop in C, isolated, longest", "ms", at_most(50))
    async with serving("product", isolation="process", spares=2) as product:
        for _ in range(plan.rounds):
            waits = []
            for _ in range(plan.scaled(10)):
                stream = product.caller.run(Script(), "stubborn")
                assert await stream.until("content_delta") == "content_delta"
                await asyncio.sleep(0.1)  # until it is in the loop
                started = perf_counter()
                await product.caller.cancel(stream.run_id, now=True)
                assert await stream.until("run_cancelled") == "run_cancelled"
                waits.append(perf_counter() - started)
            p50.add(percentile(waits, 0.5) * 1e3)
            longest.add(max(waits) * 1e3)
    return [p50.figure(), longest.figure()]


async def _seconds(call: Awaitable[object]) -> float:
    started = perf_counter()
    await call
    return perf_counter() - started


@asynccontextmanager
async def _full(plan: Plan, then: str, threads: int) -> AsyncIterator[Server]:
    """A server with every thread taken, and as many runs beside them as make a thousand."""
    async with serving("product") as product, _filled(plan, product, then, threads):
        yield product


@asynccontextmanager
async def _filled(plan: Plan, product: Server, then: str, threads: int) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
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
        yield


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


async def _unary(
    plan: Plan, name: str, bare: Server, product: Server, goal: Goal | None = None
) -> list[Figure]:
    p50, p99 = Series(f"{name}, p50", "ms"), Series(f"{name}, p99", "ms", goal)
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
