"""Pullcord beside other servers of agents: AgentOS, and LangGraph's server in memory.

Each peer has a model that does what the product's runs do, by the same script, and both take turns.
The peers speak server-sent events, which are read by the least client there can be, while the product
is read by its generated stubs: what a client costs is on the product's side. A peer that cannot be
installed or does not serve here is left out, in words.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from tests.bench.caller import Server, Stream, serving
from tests.bench.figures import Figure, Goal, Series, at_least
from tests.bench.peers.callers import (
    AgentOS,
    LangGraph,
    Peer,
    PeerStream,
    ResumableAgentOS,
    serving_peer,
)
from tests.bench.peers.environment import NotInstalled
from tests.bench.plan import Plan
from tests.bench.script import Script

MANY = Script(count=400_000)
"""The product's fast producer: 1.6 MB, below the default limit of a run's output."""
FEW = 4000
"""Deltas of the peers' fast producer."""
TALKERS = 20
"""Streams at once that bring fifty tokens a second each."""
TALK = Script(count=50, burst=1, pause=0.02, delay=1.0)
"""They begin together, once all are started: starting is not what is measured."""

FIFTY_A_SECOND = Script(count=10**9, burst=1, pause=0.02)
TWICE_A_SECOND = Script(count=10**9, burst=1, pause=0.5)
SILENCE = 3.0
"""Seconds. A peer that looks for a cancel at the next token only takes what is left of them, so that
this bounds what is measured: of a longer silence it would be more."""
SILENT = Script(count=10**9, burst=1, pause=SILENCE)

STREAMS = 200
"""Live at once, to be weighed."""
HELD = Script(count=10**9, burst=1, pause=600)
ROUND = 1.0
"""Seconds after which a round makes do with the samples it has."""

PATIENCE = 120.0
"""Seconds after which a peer's figures are what there is by then."""

Side = Server | Peer


@dataclass(frozen=True, slots=True)
class Goals:
    """What is to be reached against one peer, if anything is."""

    deltas: Goal | None = None
    speaking: Goal | None = None
    silent: Goal | None = None


PEERS = {
    "AgentOS": (
        ("agentos", AgentOS, {"keeps_runs": False}),
        Goals(at_least(200), at_least(20), at_least(500)),
    ),
    "AgentOS, resumable": (("agentos", ResumableAgentOS, {"keeps_runs": True}), Goals()),
    "LangGraph": (("langgraph", LangGraph), Goals()),
}


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    for name, (how, goals) in PEERS.items():
        try:
            async with serving("product") as product, serving_peer(name, *how) as peer:
                async with asyncio.timeout(PATIENCE):
                    async for figure in _against(plan, product, peer, goals):
                        figures.append(figure)  # what there is by then stays
        except NotInstalled as why:
            figures.append(Figure(name, "", note=f"left out: {why}"))
        except TimeoutError:
            figures.append(Figure(name, "", note=f"given up after {PATIENCE:g} s"))
    return figures


async def _against(plan: Plan, product: Server, peer: Peer, goals: Goals) -> AsyncIterator[Figure]:
    name = peer.name
    for figure in await _deltas(plan, product, peer, goals.deltas):
        yield figure
    yield await _talk(plan, product, peer)
    for what, event in (("event", "run_started"), ("text", "content_delta")):
        yield await _first(plan, f"{name}: time to first {what}, p50", product, peer, event)
    for how, script, samples, goal in (
        ("50 tokens a second", FIFTY_A_SECOND, 12, goals.speaking),
        ("a token each 0.5 s", TWICE_A_SECOND, 4, goals.speaking),
        (f"silent for {SILENCE:g} s", SILENT, 1, goals.silent),
    ):
        title = f"{name}: cancel to cancelled, {how}, p50"
        yield await _cancels(plan, title, product, peer, script, samples, goal)
    yield await _memory(plan, product, peer)


def _rounds(plan: Plan) -> range:
    return range(min(plan.rounds, 3))


async def _deltas(plan: Plan, product: Server, peer: Peer, goal: Goal | None) -> list[Figure]:
    name = f"{peer.name}: content deltas, fast producer"
    rate = Series(f"{name}, a second on one stream", "/s", goal)
    cost = Series(f"{name}, server CPU each", "µs", says_less=True)
    few = Script(count=plan.scaled(FEW))
    for _ in _rounds(plan):
        theirs, ours = await _flow(peer, few), await _flow(product, MANY)
        rate.add(ours[0], theirs[0])
        cost.add(ours[1], theirs[1])
    return [rate.figure(), cost.figure()]


async def _flow(side: Side, script: Script) -> tuple[float, float]:
    """Deltas a second, and microseconds of the server's processor for each."""
    before = side.child.cpu()
    followed = await side.caller.run(script).follow()
    assert followed.deltas == script.count, followed
    assert followed.end == "run_completed", followed
    cpu = side.child.cpu() - before
    return followed.deltas / followed.seconds, cpu / followed.deltas * 1e6


async def _talk(plan: Plan, product: Server, peer: Peer) -> Figure:
    title = f"{peer.name}: {TALKERS} streams of 50 tokens a second, server CPU a delta"
    series = Series(title, "µs", says_less=True)
    for _ in _rounds(plan)[:2]:
        theirs = await _talked(peer)
        series.add(await _talked(product), theirs)
    return series.figure()


async def _talked(side: Side) -> float:
    streams = [side.caller.run(TALK) for _ in range(TALKERS)]
    await asyncio.gather(*(stream.until("run_started") for stream in streams))
    before = side.child.cpu()
    followed = await asyncio.gather(*(stream.follow() for stream in streams))
    deltas = sum(each.deltas for each in followed)
    assert deltas == TALKERS * TALK.count, followed
    return (side.child.cpu() - before) / deltas * 1e6


async def _first(plan: Plan, title: str, product: Server, peer: Peer, event: str) -> Figure:
    series = Series(title, "ms", says_less=True)
    for _ in _rounds(plan):
        theirs, ours = [], []
        until = perf_counter() + ROUND
        while len(ours) < plan.scaled(50) and (not ours or perf_counter() < until):
            theirs.append(await _wait(peer, event))
            ours.append(await _wait(product, event))
        series.add(median(ours) * 1e3, median(theirs) * 1e3)
    return series.figure()


async def _wait(side: Side, event: str) -> float:
    started = perf_counter()
    stream = side.caller.run(Script())
    assert await stream.until(event) == event
    seconds = perf_counter() - started
    await stream.follow()
    return seconds


async def _cancels(
    plan: Plan,
    title: str,
    product: Server,
    peer: Peer,
    script: Script,
    samples: int,
    goal: Goal | None,
) -> Figure:
    series = Series(title, "ms", goal, says_less=True)
    for _ in _rounds(plan):
        theirs = await _cancelled(peer, script, samples)
        ours = await _cancelled(product, script, samples)
        series.add(median(ours) * 1e3, median(theirs) * 1e3)
    return series.figure()


async def _cancelled(side: Side, script: Script, samples: int) -> list[float]:
    """Seconds from each cancel to its run's last event, of runs that all speak meanwhile."""
    streams = [side.caller.run(script) for _ in range(samples)]
    seconds = []
    async with asyncio.TaskGroup() as group:
        await asyncio.gather(*(stream.until("content_delta") for stream in streams))
        ends = [group.create_task(_end(stream)) for stream in streams]
        for stream, end in zip(streams, ends, strict=True):
            await asyncio.sleep(random.uniform(0, min(script.pause, 0.1)))
            started = perf_counter()
            group.create_task(side.caller.cancel(stream.run_id))
            seconds.append(await end - started)
    return seconds


async def _end(stream: Stream | PeerStream) -> float:
    """When a run was seen to be cancelled."""
    end = await stream.until("run_cancelled", "run_completed", "run_failed")
    seen = perf_counter()
    assert end == "run_cancelled", end
    await stream.follow()
    return seen


async def _memory(plan: Plan, product: Server, peer: Peer) -> Figure:
    count = plan.scaled(STREAMS)
    series = Series(f"{peer.name}: memory a live stream", "KiB", says_less=True)
    # What a server has once taken it keeps, so that a second round would show nothing.
    theirs = await _weight(peer, count)
    series.add(await _weight(product, count), theirs)
    series.note = f"{count} streams, one round"
    return series.figure()


async def _weight(side: Side, count: int) -> float:
    for stream in await _opened(side, 10):
        stream.leave()
    await asyncio.sleep(0.5)  # until what the warming left is gone
    before = side.child.memory()
    streams = await _opened(side, count)
    grown = side.child.memory() - before
    for stream in streams:
        stream.leave()
    return grown / count / 1024


async def _opened(side: Side, count: int) -> list[Stream | PeerStream]:
    streams = [side.caller.run(HELD) for _ in range(count)]
    came = await asyncio.gather(*(stream.until("content_delta") for stream in streams))
    assert set(came) == {"content_delta"}, came
    return streams
