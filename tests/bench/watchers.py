"""Many watchers of one run: what each message costs the server for each of them.

The bare server knows no watchers: its baseline is as many streams, each with its own generator.
"""

from tests.bench.caller import Server, serving
from tests.bench.cost import Cost, Costs, cost
from tests.bench.figures import Figure
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.bench.script import Script

SENT = 10_000
"""Messages to all watchers together."""


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    async with serving("bare") as bare, serving("product") as product:
        for count in (1, 10, 100):
            script = Script("voices", plan.scaled(SENT) // count, 10, 0.005, delay=1.0)
            costs = Costs(f"a message: {count} watcher{'s' * (count > 1)} of one run")
            for _ in range(min(plan.rounds, 3)):  # each waits for processes to start
                baseline, sent = await _cost(bare, {"count": count, "script": script.text()})
                run_id = await product.caller.start(script)
                found, ours = await _cost(product, {"count": count, "watch": run_id})
                costs.add(found, ours, baseline, sent)
            figures += costs.figures()
    return figures


async def _cost(server: Server, job: dict[str, object]) -> tuple[Cost, int]:
    """What the messages cost, from when all watch until all have ended; how many there were."""
    async with Child("crowd", {**job, "address": server.address, "first": "run_started"}) as crowd:
        assert (await crowd.answer())["errors"] == 0
        with cost(server.child) as found:
            ended = await crowd.answer()
        assert ended["errors"] == 0, ended
        return found, int(ended["messages"])
