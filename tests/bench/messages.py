"""What one message of one stream costs the server.

Deltas that pile up merge, which would flatter the product, so the workloads here are such that none
can: two voices in turn and custom events at full speed, and single deltas with a pause after each.
The last one lets deltas merge, and counts by delta.
"""

from tests.bench.caller import Server, serving
from tests.bench.cost import Cost, Costs, cost
from tests.bench.figures import Figure
from tests.bench.plan import Plan
from tests.bench.script import Script


async def measure(plan: Plan) -> list[Figure]:
    count = plan.scaled(2000)
    rounds = 4 * plan.rounds  # short ones: a neighbour on the machine then spoils few of them
    workloads = {
        "two voices in turn, full speed": Script(says="voices", count=count),
        "two voices in turn, 8 each 4 ms": Script("voices", count // 2, burst=8, pause=0.004),
        "custom events, full speed": Script(says="custom", count=count),
        "one delta each ms": Script(count=count // 4, burst=1, pause=0.001),
    }
    figures = []
    async with serving("bare") as bare, serving("product") as product:
        for name, script in workloads.items():
            costs = Costs(f"a message: {name}")
            merged = 0
            for _ in range(rounds):
                baseline, sent = await _cost(bare, script)
                assert sent == script.count + 2
                found, messages = await _cost(product, script)
                merged += script.count + 2 - messages
                costs.add(found, messages, baseline, sent)
            figures += costs.figures(f"{merged} of {rounds * (script.count + 2)} messages merged")
        figures += await _merging(plan, bare, product)
    return figures


async def _merging(plan: Plan, bare: Server, product: Server) -> list[Figure]:
    costs = Costs("a delta: they may merge")
    many, few = Script(count=plan.scaled(200_000)), Script(count=plan.scaled(8000))
    for _ in range(plan.rounds):
        baseline, _ = await _cost(bare, few)
        found, messages = await _cost(product, many)
        costs.add(found, many.count, baseline, few.count)
    return costs.figures(f"{many.count / (messages - 2):.0f} deltas a message")


async def _cost(server: Server, script: Script) -> tuple[Cost, int]:
    """What the run cost, and the messages that came."""
    with cost(server.child) as found:
        followed = await server.caller.run(script).follow()
    assert followed.end == "run_completed", followed
    return found, followed.messages
