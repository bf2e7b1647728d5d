"""Many streams that all speak: what their messages cost the server, and whether it still answers.

Each says ten events a second. Where a server cannot send as fast as that, the bare one lets its
generators wait, and the product merges what piles up.
"""

import asyncio
from dataclasses import dataclass
from time import perf_counter

from tests.bench.caller import Server, serving
from tests.bench.cost import Cost, Costs, cost
from tests.bench.figures import Figure, Series, percentile
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.bench.script import Script

A_SECOND = 10
COUNT = 40
"""Events of each stream: four seconds' worth."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """What a server did while so many streams spoke."""

    cost: Cost
    seconds: float
    """From the first event to the last end."""
    get: float
    """Milliseconds of a GetRun meanwhile, p99."""
    messages: int
    """With events."""


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    for streams, rounds in ((100, 2), (1000, 1), (5000, 1)):
        streams = plan.scaled(streams)
        name = f"{streams:,} streams of {A_SECOND} events a second"
        costs = Costs(f"an event: {name}")
        late = Series(f"{name}: seconds until all were told", "s")
        get = Series(f"{name}: GetRun meanwhile, p99", "ms")
        sent = 0
        for _ in range(rounds):
            theirs = await _speak("bare", streams)
            ours = await _speak("product", streams)
            sent += ours.messages
            costs.add(ours.cost, streams * COUNT, theirs.cost, streams * COUNT)
            late.add(ours.seconds, theirs.seconds)
            get.add(ours.get, theirs.get)
        late.note = f"made within {COUNT / A_SECOND:g} s"
        figures += costs.figures(f"{rounds * streams * COUNT / sent:.1f} events a message")
        figures += [late.figure(), get.figure()]
    return figures


async def _speak(which: str, streams: int) -> Spoken:
    # They begin to speak once all are open: opening is not what is measured.
    delay = 1 + streams / 800
    script = Script(count=COUNT, burst=1, pause=1 / A_SECOND, delay=delay)
    async with serving(which) as server:
        watched = server.caller.run(Script(then="wait"))
        await watched.until("content_delta")
        job = {"address": server.address, "count": streams, "script": script.text()}
        async with Child("crowd", {**job, "first": "run_started"}) as crowd:
            assert (await crowd.answer())["errors"] == 0
            started = perf_counter()
            with cost(server.child) as found:
                ending = asyncio.create_task(crowd.answer())
                waits = await _ask(server, watched.run_id, ending)
                ended = await ending
            assert ended["errors"] == 0, ended
            seconds = perf_counter() - started - delay
        watched.leave()
    messages = int(ended["messages"]) - streams  # the end is no event of theirs
    return Spoken(found, seconds, percentile(waits, 0.99) * 1e3, messages)


async def _ask(server: Server, run_id: str, until: "asyncio.Task[object]") -> list[float]:
    waits = []
    while not until.done():
        asked = perf_counter()
        await server.caller.get(run_id)
        waits.append(perf_counter() - asked)
        await asyncio.sleep(0.01)
    return waits
