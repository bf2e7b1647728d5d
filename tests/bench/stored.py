"""What a store that outlives the process costs: a message, a start, a receipt; how much it takes.

The same product twice, with its runs in memory and in a file of SQLite's, in turn; memory is the
baseline. The records of five thousand live logs are written by the store itself, in a process of
its own, while a stop is recorded now and then.
"""

import tempfile
from pathlib import Path
from time import perf_counter

from tests.bench.caller import Server, serving
from tests.bench.cost import Costs, cost
from tests.bench.figures import Figure, Series, at_least, percentile
from tests.bench.paced import speak
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.bench.script import Script

STREAMS = 150
LOGS = 5000


async def measure(plan: Plan) -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "runs.db"
        figures = await against_memory(plan, str(file), "SQLite")
        return [*figures, *await _records(plan, Path(folder) / "many.db")]


async def against_memory(plan: Plan, store: str, name: str) -> list[Figure]:
    """What a message and the calls cost with this store; memory is the baseline."""
    costs = Costs(f"a message: {STREAMS} paced streams, {name} beside memory")
    took = {
        call: Series(f"{call}, {name} beside memory, p50", "ms")
        for call in ("StartRun", "CancelRun of a live run", "a run from start to end")
    }
    async with (
        serving("product", store="memory") as memory,
        serving("product", store=store) as lasting,
    ):
        for _ in range(plan.rounds):
            theirs, theirs_sent = await speak(memory, STREAMS)
            ours, ours_sent = await speak(lasting, STREAMS)
            costs.add(ours, ours_sent, theirs, theirs_sent)
            for ours_took, theirs_took, series in zip(
                await _calls(lasting, plan), await _calls(memory, plan), took.values(), strict=True
            ):
                series.add(ours_took, theirs_took)
    control, _ = costs.figures()
    return [control, *(series.figure() for series in took.values())]


async def _calls(server: Server, plan: Plan) -> list[float]:
    """What each call took, in milliseconds: the median of some."""
    starts, cancels, runs = [], [], []
    caller, waits = server.caller, Script(then="wait")
    for _ in range(plan.scaled(100)):
        begun = perf_counter()
        run_id = await caller.start(waits)
        starts.append(perf_counter() - begun)
        begun = perf_counter()
        await caller.cancel(run_id)
        cancels.append(perf_counter() - begun)
        begun = perf_counter()
        await caller.run(Script()).follow()
        runs.append(perf_counter() - begun)
    return [percentile(took, 0.5) * 1e3 for took in (starts, cancels, runs)]


async def _records(plan: Plan, file: Path) -> list[Figure]:
    rate = Series(f"records stored, {LOGS:,} live logs", "/s", at_least(50_000))
    cpu = Series("CPU of a stored record", "µs")
    stop = Series("a stop recorded meanwhile, p50", "ms")
    async with Child("storing", {"store": str(file), "logs": LOGS}) as child:
        for _ in range(plan.rounds):
            with cost(child) as found:
                answer = await child.answer()
            rate.add(answer["records"] / answer["seconds"])
            cpu.add(found.control / answer["records"] * 1e6)
            stop.add(percentile(answer["stops"], 0.5) * 1e3)
    return [rate.figure(), cpu.figure(), stop.figure()]
