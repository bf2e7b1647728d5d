"""A stream at a model's pace: how late each event is, and whether a reader that keeps up gets each.

Lateness is from when the event was made, which it bears, to when the client has it.
"""

import time

from tests.bench.caller import Server, serving
from tests.bench.figures import Figure, Series, at_most, percentile
from tests.bench.plan import Plan
from tests.bench.script import Script

TOKENS_A_SECOND = 50


async def measure(plan: Plan) -> list[Figure]:
    script = Script(count=plan.scaled(150), burst=1, pause=1 / TOKENS_A_SECOND)
    name = f"one stream of {TOKENS_A_SECOND} tokens a second"
    p50 = Series(f"{name}: an event's lateness, p50", "ms")
    p99 = Series(f"{name}: an event's lateness, p99", "ms")
    merged = Series(f"{name}: events merged with another", "", at_most(0))
    async with serving("bare") as bare, serving("product") as product:
        for _ in range(min(plan.rounds, 3)):
            theirs, _ = await _lateness(bare, script)
            ours, deltas = await _lateness(product, script)
            merged.add(deltas - len(ours))
            for series, share in ((p50, 0.5), (p99, 0.99)):
                series.add(percentile(ours, share) * 1e3, percentile(theirs, share) * 1e3)
    return [p50.figure(), p99.figure(), merged.figure()]


async def _lateness(server: Server, script: Script) -> tuple[list[float], int]:
    """Seconds for each message with text, and how many deltas they held."""
    found, deltas = [], 0
    async for event in server.caller.run(script).events():
        if event.HasField("content_delta"):
            made = event.create_time
            found.append(time.time() - made.seconds - made.nanos / 1e9)
            deltas += event.content_delta.count or 1
    return found, deltas
