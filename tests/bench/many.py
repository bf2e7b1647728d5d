"""Many streams that all speak: what their messages cost the server, and whether it still answers.

Each says ten events a second. Where a server cannot send as fast as that, the bare one lets its
generators wait, and the product merges what piles up.
"""

import asyncio
from time import perf_counter

from tests.bench.caller import Server, serving
from tests.bench.figures import Figure, Series, percentile
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.bench.script import Script

A_SECOND = 10
COUNT = 40
"""Events of each stream: four seconds' worth."""


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    for streams, rounds in ((100, 2), (1000, 1), (5000, 1)):
        streams = plan.scaled(streams)
        name = f"{streams:,} streams of {A_SECOND} events a second"
        cost = Series(f"{name}: server CPU an event", "µs")
        late = Series(f"{name}: seconds until all were told", "s")
        get = Series(f"{name}: GetRun meanwhile, p99", "ms")
        sent = 0
        for _ in range(rounds):
            theirs = await _speak("bare", streams)
            ours = await _speak("product", streams)
            sent += int(ours[3])
            for series, product, baseline in zip((cost, late, get), ours, theirs, strict=False):
                series.add(product, baseline)
        cost.note = f"{rounds * streams * COUNT / sent:.1f} events a message"
        late.note = f"made within {COUNT / A_SECOND:g} s"
        figures += [cost.figure(), late.figure(), get.figure()]
    return figures


async def _speak(which: str, streams: int) -> tuple[float, float, float, float]:
    """Microseconds an event; seconds; milliseconds of a GetRun; messages with events."""
    # They begin to speak once all are open: opening is not what is measured.
    delay = 1 + streams / 800
    script = Script(count=COUNT, burst=1, pause=1 / A_SECOND, delay=delay)
    async with serving(which) as server:
        watched = server.caller.run(Script(then="wait"))
        await watched.until("content_delta")
        job = {"address": server.address, "count": streams, "script": script.text()}
        async with Child("crowd", {**job, "first": "run_started"}) as crowd:
            assert (await crowd.answer())["errors"] == 0
            before, started = server.child.cpu(), perf_counter()
            ending = asyncio.create_task(crowd.answer())
            waits = await _ask(server, watched.run_id, ending)
            ended = await ending
            assert ended["errors"] == 0, ended
            seconds = perf_counter() - started - delay
            cost = (server.child.cpu() - before) / (streams * COUNT) * 1e6
        watched.leave()
    told = ended["messages"] - streams  # the end is no event of theirs
    return cost, seconds, percentile(waits, 0.99) * 1e3, told


async def _ask(server: Server, run_id: str, until: "asyncio.Task[object]") -> list[float]:
    waits = []
    while not until.done():
        asked = perf_counter()
        await server.caller.get(run_id)
        waits.append(perf_counter() - asked)
        await asyncio.sleep(0.01)
    return waits
