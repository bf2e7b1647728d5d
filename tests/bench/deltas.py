"""How many content deltas a second one stream brings, when they are made faster than sent.

The product's client gets fewer and bigger messages; `content_delta.count` says how many each holds.
"""

from tests.bench.caller import Server, serving
from tests.bench.figures import Figure, Series, at_least
from tests.bench.plan import Plan
from tests.bench.script import Script


async def measure(plan: Plan) -> list[Figure]:
    few = Script(count=plan.scaled(15_000))
    many = Script(count=400_000)  # 1.6 MB, below the default limit of a run's output
    figures = []
    async with serving("bare") as bare, serving("product") as product:
        for how, producer in (("async", "an async generator"), ("sync", "a thread's generator")):
            series = Series(f"content deltas a second from {producer}", "/s", at_least(100))
            for _ in range(plan.rounds):
                series.add(await _rate(product, many, how), await _rate(bare, few, how))
            figures.append(series.figure())
    return figures


async def _rate(server: Server, script: Script, how: str) -> float:
    followed = await server.caller.run(script, how).follow()
    while followed.missed:  # the machine kept this reader so long that the log had moved on
        followed = await server.caller.run(script, how).follow()
    assert followed.deltas == script.count, followed
    assert followed.end == "run_completed", followed
    return followed.deltas / followed.seconds
