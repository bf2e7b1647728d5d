"""What is large, and whether the server answers others meanwhile: the work of one turn is bounded.

Another process starts runs with as many values as a request may hold, follows events with as much
data as they may have, or watches one run a thousand times. The baseline is the same server idle.
"""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from time import perf_counter

import uvloop
from pullcord.v1 import run_service_pb2 as v1

from tests.bench.caller import Caller, Server, serving
from tests.bench.figures import Figure, Series, at_most, percentile
from tests.bench.plan import Plan
from tests.bench.process import Child, answer, end_with_parent
from tests.bench.script import Script

VALUES = 49_000
"""Of 50,000 that a start may have."""
STATES = 120_000
"""Of a filter that is refused, because a filter has at most 64."""
STREAMS = 20
WATCHERS = 1000
SECONDS = 4.0
_PAUSE = 0.005


async def measure(plan: Plan) -> list[Figure]:
    figures: list[Figure] = []
    async with serving("product") as product:
        watched = product.caller.run(Script(then="wait"))
        await watched.until("content_delta")
        loads: list[tuple[str, dict[str, object]]] = [
            (f"starts with {VALUES:,} values in a list", {"load": "list"}),
            (f"starts with {VALUES:,} values by key", {"load": "keys"}),
            (f"filters with {STATES:,} states", {"load": "states"}),
            (f"{STREAMS} streams of events with 200 KB of data", {"load": "events"}),
            (f"{plan.scaled(WATCHERS):,} watchers of one run", {"load": "watchers"}),
        ]
        calls: dict[str, Callable[[], Awaitable[None]]] = {
            "GetRun": lambda: product.caller.get(watched.run_id),
            "health": product.caller.health,
        }
        for words, job in loads:
            series = {
                name: Series(f"{name} beside {words}, p99", "ms", at_most(10)) for name in calls
            }
            for _ in range(min(plan.rounds, 3)):
                idle = await _ask(calls, SECONDS)
                async with _loaded(plan, product, job) as loaded:
                    busy = await _ask(calls, SECONDS)
                    assert not loaded.has_ended, "the load has ended early"
                for name, made in series.items():
                    made.add(percentile(busy[name], 0.99) * 1e3, percentile(idle[name], 0.99) * 1e3)
                    made.note = f"{len(busy[name])} samples a round"
            figures += [made.figure() for made in series.values()]
        watched.leave()
    return figures


async def _ask(
    calls: dict[str, Callable[[], Awaitable[None]]], seconds: float
) -> dict[str, list[float]]:
    waits: dict[str, list[float]] = {name: [] for name in calls}
    until = perf_counter() + seconds
    while perf_counter() < until:
        for name, call in calls.items():
            asked = perf_counter()
            await call()
            waits[name].append(perf_counter() - asked)
            await asyncio.sleep(_PAUSE)
    return waits


class _loaded:
    """A load from a process of its own, from when it has begun."""

    def __init__(self, plan: Plan, server: Server, job: dict[str, object]) -> None:
        count = plan.scaled(WATCHERS)
        self._child = Child("large", {**job, "address": server.address, "watchers": count})

    async def __aenter__(self) -> Child:
        child = await self._child.__aenter__()
        await child.answer()
        return child

    async def __aexit__(self, *error: object) -> None:
        await self._child.__aexit__(None, None, None)


# --- the process that loads


async def load(job: dict[str, str]) -> None:
    end_with_parent()
    os.nice(19)  # other clients are elsewhere: they must not take the processor from the server
    caller = Caller(job["address"])
    await caller.ready()
    kind = job["load"]
    if kind == "events":
        script = Script("large", 10**6, 1, 0.1)
        streams = [caller.run(script) for _ in range(STREAMS)]
        await _follow(streams)
    elif kind == "watchers":
        run_id = await caller.start(Script("content", 10**6, 1, 0.2))
        await _follow([caller.watch(run_id) for _ in range(int(job["watchers"]))])
    else:
        call, request = _request(caller, kind)
        answer({"begun": True})
        while True:
            try:
                await call(request)
            except Exception:
                if kind != "states":
                    raise


async def _follow(streams: list[object]) -> None:
    for stream in streams:
        await stream.until("run_started")
    answer({"begun": True})
    await asyncio.gather(*(stream.follow() for stream in streams))


def _request(caller: Caller, kind: str):
    if kind == "states":
        return caller.stub.ListRuns, v1.ListRunsRequest(states=[1] * STATES)
    request = v1.StartRunRequest()
    request.spec.runnable = "agents/async"
    request.spec.input = Script().text()
    data = {str(n): n for n in range(VALUES)} if kind == "keys" else {"a": [1] * VALUES}
    request.spec.input_data.update(data)
    return caller.stub.StartRun, request


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(load(json.loads(sys.argv[1])))
