"""Agents of other frameworks: what an event costs through an adapter, and how long a stop takes
until the provider's connection is closed.

The baseline is the framework alone, in a process of its own: its stream as its users read it, and
stopped as its documentation says. Both ask the same local server, which speaks the provider's wire
protocol, and notes when it is left. A model falls silent for a second, because agno alone waits for
the next piece.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pullcord.v1 import run_service_pb2 as v1

from tests.bench.caller import Caller, Stream
from tests.bench.cost import cost
from tests.bench.figures import Figure, Series
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.openai_server import OpenAIServer, Pace

FRAMEWORKS = {
    "pydantic_ai": ("pydantic-ai", "its CancellationToken"),
    "langgraph": ("LangGraph", "the task is cancelled, as it has no stop that does not wait"),
    "openai_agents": ("OpenAI Agents SDK", "its result.cancel()"),
    "agno": ("agno", "its acancel_run()"),
}
"""By the name of the module that makes the agent: the framework's own name, and its own stop."""
WORDS = 1000
SILENT = Pace(1.0)
SPEAKING = Pace(0.02)
PATIENCE = 2.0
"""Seconds that a stop may take; what takes longer counts as so long, and is noted."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """One framework, served and alone, and the model that both ask."""

    model: OpenAIServer
    product: Child
    caller: Caller
    alone: Child


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    for module, (name, own_stop) in FRAMEWORKS.items():
        async with _both(module) as pair:
            figures += await _costs(plan, name, pair)
            for doing, script in (("speaking", SPEAKING), ("silent for 1 s", SILENT)):
                stop = Series(f"{name}: cancel to the closed connection, model {doing}", "ms")
                for _ in range(plan.rounds * plan.scaled(2)):
                    stop.add(await _stopped(pair, script), await _stopped_alone(pair, script))
                open = sum(one >= PATIENCE * 1e3 for one in stop.baselines)
                stop.note = f"baseline: {own_stop}" + (
                    f"; {open} of {len(stop.baselines)} still open after {PATIENCE:g} s"
                    * bool(open)
                )
                figures.append(stop.figure())
    return figures


@asynccontextmanager
async def _both(module: str) -> AsyncIterator[_Pair]:
    with OpenAIServer(keep_alive=False) as model:
        job = {"framework": module, "base_url": model.base_url}
        async with Child("servers.adapted", job) as product, Child("servers.alone", job) as alone:
            await alone.answer()
            caller = Caller(str((await product.answer())["address"]))
            try:
                await caller.ready()
                pair = _Pair(model, product, caller, alone)
                for _ in range(2):  # what is imported at the first run is not measured
                    await _whole(pair, "warm")
                    await _whole_alone(pair, "warm")
                yield pair
            finally:
                await caller.close()


async def _costs(plan: Plan, name: str, pair: _Pair) -> list[Figure]:
    words = " ".join("w" * plan.scaled(WORDS))
    count = len(words.split())
    worker = Series(f"{name}: worker CPU a delta", "µs")
    together = Series(f"{name}: control and worker CPU a delta", "µs")
    messages = 0
    for _ in range(plan.rounds):
        with cost(pair.alone) as alone:
            await _whole_alone(pair, words)
        with cost(pair.product) as product:
            messages += await _whole(pair, words)
        baseline = alone.control / count * 1e6
        worker.add(product.workers / count * 1e6, baseline)
        together.add((product.control + product.workers) / count * 1e6, baseline)
    worker.note = together.note = f"{plan.rounds * count:,} deltas in {messages:,} messages"
    return [worker.figure(), together.figure()]


def _run(pair: _Pair) -> Stream:
    request = v1.RunRequest()
    request.spec.runnable, request.spec.input = "agents/helper", "?"
    return Stream("", pair.caller.stub.Run(request))


async def _whole(pair: _Pair, words: str) -> int:
    """A run to its end; the messages that came."""
    pair.model.script(words)
    followed = await _run(pair).follow()
    assert followed.end == "run_completed", followed
    return followed.messages


async def _whole_alone(pair: _Pair, words: str) -> None:
    pair.model.script(words)
    await pair.alone.tell("whole")
    said = await pair.alone.answer()
    assert said["deltas"] == len(words.split()), said


async def _stopped(pair: _Pair, script: Pace) -> float:
    """Milliseconds from the call of CancelRun until the model's server was left."""
    exchange, stream = _begun(pair, script), _run(pair)
    run_id = ""
    async for event in stream.events():
        if event.WhichOneof("payload") == "content_delta":
            run_id = event.run_id
            break
    await _anywhere()
    started = time.monotonic()
    await pair.caller.cancel(run_id)
    left = await _left(pair, exchange, started)
    await stream.until("run_cancelled")
    return left


async def _stopped_alone(pair: _Pair, script: Pace) -> float:
    """The same from the framework's own stop."""
    exchange = _begun(pair, script)
    await pair.alone.tell("begin")
    await pair.alone.answer()  # its first piece has come
    await _anywhere()
    await pair.alone.tell("stop")
    started = float((await pair.alone.answer())["stopped"])
    left = await _left(pair, exchange, started)
    await pair.alone.answer()  # it has ended
    return left


def _begun(pair: _Pair, script: Pace) -> int:
    """The number that the next request will have."""
    pair.model.script(script)
    return len(pair.model.exchanges)


async def _anywhere() -> None:
    """Somewhere between two pieces."""
    await asyncio.sleep(random.uniform(0.001, 0.021))


async def _left(pair: _Pair, number: int, started: float) -> float:
    """Milliseconds from then until the server was left, by the clock that all processes share."""

    def wait() -> float:
        exchange = pair.model.exchange(number)
        is_left = exchange.left.wait(PATIENCE)
        return exchange.left_time - started if is_left else PATIENCE

    return await asyncio.to_thread(wait) * 1e3
