"""What a PostgreSQL that replicas share costs: a message, a start, an end; how much it takes; and
how long a cancel takes to a run that another replica executes.

The same product on PostgreSQL and in memory, in turn, on one machine. A cancel through another
replica is compared with a unary call and one committed update of a row, which it cannot do without.
"""

import contextlib
import time
from time import perf_counter

import asyncpg
from pullcord.v1 import run_service_pb2 as v1

from tests.bench.caller import Caller, serving
from tests.bench.cost import cost
from tests.bench.figures import Figure, Series, at_least, at_most, percentile
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.bench.script import Script
from tests.bench.stored import LOGS, against_memory
from tests.postgres import Postgres, programs


async def measure(plan: Plan) -> list[Figure]:
    if programs() is None:
        return []
    with contextlib.closing(Postgres(durable=True)) as postgres:
        url = postgres.url()
        async with serving("product", store=url):  # another replica, which has nothing to do
            figures = await against_memory(plan, url, "PostgreSQL")
        figures += await _elsewhere(plan, url)
        return [*figures, *await _records(plan, url)]


async def _elsewhere(plan: Plan, url: str) -> list[Figure]:
    told = Series("cancel through another replica to its code, p50", "ms", at_most(2))
    told.note = "beside a unary call and a committed update"
    connection = await asyncpg.connect(url)
    await connection.execute(
        "create table if not exists bench (n int); insert into bench values (0)"
    )
    async with serving("product", store=url) as a, serving("product", store=url) as b:
        for _ in range(plan.rounds):
            ours, theirs = [], []
            for _ in range(plan.scaled(100)):
                ours.append(await _cancel(a.caller, b.caller))
                here = await a.caller.start(Script(then="wait"))
                begun = perf_counter()
                await a.caller.get(here)
                await connection.execute("update bench set n = n + 1")
                theirs.append(perf_counter() - begun)
                await a.caller.cancel(here)
            told.add(percentile(ours, 0.5) * 1e3, percentile(theirs, 0.5) * 1e3)
    await connection.close()
    return [told.figure()]


async def _cancel(owner: Caller, other: Caller) -> float:
    """Seconds from the call to the run's code being told, by the clock of this machine."""
    run_id = await owner.start(Script(then="wait"))
    stream = owner.watch(run_id)
    await stream.until("run_started")
    begun = time.time()
    await other.cancel(run_id)
    await stream.until("run_cancelled")
    receipt = await owner.stub.CancelRun(v1.CancelRunRequest(run_id=run_id))
    return float(receipt.deliver_time.ToNanoseconds() / 1e9 - begun)


async def _records(plan: Plan, url: str) -> list[Figure]:
    rate = Series(f"records stored, {LOGS:,} live logs, PostgreSQL", "/s", at_least(50_000))
    cpu = Series("CPU of a stored record, in the server process", "µs")
    stop = Series("a stop recorded in PostgreSQL meanwhile, p50", "ms")
    async with Child("storing", {"store": url, "logs": LOGS}) as child:
        for _ in range(plan.rounds):
            with cost(child) as found:
                answer = await child.answer()
            rate.add(answer["records"] / answer["seconds"])
            cpu.add(found.control / answer["records"] * 1e6)
            stop.add(percentile(answer["stops"], 0.5) * 1e3)
    return [rate.figure(), cpu.figure(), stop.figure()]
