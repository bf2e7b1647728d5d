"""What it costs that a worker is elsewhere: behind a link over TLS, started by a command or placed
by Ray, beside one of this machine; and what Ray's own actors take: the baseline for starts, kills.
All of it is on one machine, so the network itself costs nothing here.
"""

import asyncio
import shlex
import sys
from contextlib import AsyncExitStack
from importlib.util import find_spec
from time import perf_counter
from typing import Any

from pullcord.executors.workers.execution import KILL_AFTER

from tests.bench.caller import Server, serving
from tests.bench.cancel import SILENT, _cancelled, _seconds
from tests.bench.figures import Figure, Series, at_most, percentile
from tests.bench.plan import Plan
from tests.bench.process import Child
from tests.bench.script import Script

COMMAND = [sys.executable, "-m", "pullcord", "worker", "tests.bench.servers.app:server"]
EVENTS = 2000
WARM = 5.0
"""Seconds after which a spare has imported the module, beside what Ray takes to start it."""


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    async with serving("product") as here, AsyncExitStack() as stack:
        command = {"worker_command": shlex.join(COMMAND)}
        there = await stack.enter_async_context(serving("product", **command))
        figures += await _beside(plan, "a command's worker", here, there)
        if find_spec("ray") is None:
            return [*figures, Figure("Ray", "", note="left out: the extra `ray` is not installed")]
        ray = await stack.enter_async_context(Child("servers.ray", plan.scaled(20)))
        told = await ray.answer()
        placed: dict[str, Any] = {"launcher": "ray", "ray__address": told["address"]}
        placed["ray__cpu"] = 0.1
        async with serving("product", **placed) as there:
            figures += await _beside(plan, "Ray's worker", here, there)
        async with serving("product", isolation="process", spares=2, **placed) as alone:
            figures += await _starts_and_kills(plan, alone, told)
    return figures


async def _beside(plan: Plan, whose: str, here: Server, there: Server) -> list[Figure]:
    """An event and a stop, with such a worker and with a local one in turn."""
    event = Series(f"an event of {whose}, at full speed", "µs", at_most(1.5))
    p50 = Series(f"cancel, silent run, {whose}, p50", "ms", at_most(1.5))
    p99 = Series(f"cancel, silent run, {whose}, p99", "ms")
    script = Script(says="custom", count=plan.scaled(EVENTS))
    for _ in range(plan.rounds):
        event.add(await _each_event(there, script), await _each_event(here, script))
        ours, theirs = [], []
        for _ in range(plan.scaled(100)):
            ours.append(await _cancelled(there, SILENT))
            theirs.append(await _cancelled(here, SILENT))
        for series, share in ((p50, 0.5), (p99, 0.99)):
            series.add(percentile(ours, share) * 1e3, percentile(theirs, share) * 1e3)
    event.note = p50.note = p99.note = "baseline: a worker of this machine"
    return [event.figure(), p50.figure(), p99.figure()]


async def _each_event(server: Server, script: Script) -> float:
    followed = await server.caller.run(script).follow()
    assert followed.end == "run_completed", followed
    return followed.seconds / script.count * 1e6


async def _starts_and_kills(plan: Plan, alone: Server, told: Any) -> list[Figure]:
    """A run with a warm process for itself, to its first word and to its kill."""
    start = Series(
        "a run with a warm Ray actor for itself, to its first word, p50", "ms", at_most(1)
    )
    kill = Series("IMMEDIATE against a busy loop in C in a Ray actor, p50", "ms", at_most(3))
    starts, kills = [], []
    for _ in range(plan.scaled(10)):
        await asyncio.sleep(WARM + 2 * told["start"])
        began = perf_counter()
        stream = alone.caller.run(Script(), "stubborn")
        assert await stream.until("content_delta") == "content_delta"
        starts.append(perf_counter() - began)
        began = perf_counter()
        await _seconds(alone.caller.cancel(stream.run_id, now=True))
        assert await stream.until("run_cancelled") == "run_cancelled"
        kills.append(perf_counter() - began - KILL_AFTER)
    start.add(percentile(starts, 0.5) * 1e3, told["start"] * 1e3)
    kill.add(percentile(kills, 0.5) * 1e3, told["kill"] * 1e3)
    start.note = "baseline: Ray makes an actor and calls it"
    kill.note = "baseline: ray.kill; without the 25 ms for `finally` blocks"
    return [start.figure(), kill.figure()]
