"""Streams at a model's pace: what one of their messages costs the server, by how many there are.

Each says twenty messages a second. The product merges what it cannot send as fast as that, and the
bare server lets its generators wait; the note says how many events came in one message.
"""

from tests.bench.caller import Server, serving
from tests.bench.cost import Cost, Costs, cost
from tests.bench.figures import Figure, at_most
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.bench.script import Script

A_SECOND = 20
SECONDS = 4
STREAMS = (20, 150, 1000)


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    async with serving("bare") as bare, serving("product") as product:
        for streams in STREAMS:
            costs = Costs(f"a message: {streams:,} paced streams", at_most(1.1), at_most(1.5))
            sent = 0
            for _ in range(plan.rounds):
                theirs, theirs_sent = await speak(bare, streams)
                ours, ours_sent = await speak(product, streams)
                sent += ours_sent
                costs.add(ours, ours_sent, theirs, theirs_sent)
            made = plan.rounds * streams * A_SECOND * SECONDS
            figures += costs.figures(f"{made / sent:.2f} events a message")
    return figures


async def speak(server: Server, streams: int) -> tuple[Cost, int]:
    """What it cost, and the messages with events that came."""
    # They begin to speak once all are open: opening is not what is measured.
    delay = 1 + streams / 800
    script = Script(count=A_SECOND * SECONDS, burst=1, pause=1 / A_SECOND, delay=delay)
    job = {"address": server.address, "count": streams, "script": script.text()}
    async with Child("crowd", {**job, "first": "run_started"}) as crowd:
        assert (await crowd.answer())["errors"] == 0
        with cost(server.child) as found:
            ended = await crowd.answer()
        assert ended["errors"] == 0, ended
        return found, int(ended["messages"]) - streams  # the end is no event of theirs
