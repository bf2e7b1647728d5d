"""Pullcord beside other servers of agents: AgentOS, and LangGraph's server in memory.

Each peer has a model that does what the product's runs do, by the same script, and both take turns.
The peers' server-sent events are read by the least client there can be, the product's by its
generated stubs: what a client costs is on the product's side. A peer that cannot be installed, or
does not serve here, is left out, in words.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter

from tests.bench.caller import Server, Stream, serving
from tests.bench.figures import Figure, Goal, Series, at_least
from tests.bench.peers.callers import (
    AgentOS,
    LangGraph,
    Peer,
    PeerCaller,
    PeerStream,
    ResumableAgentOS,
    serving_peer,
)
from tests.bench.peers.environment import NotInstalled
from tests.bench.plan import Plan
from tests.bench.script import Script

MANY = Script(count=400_000)
"""The product's fast producer: 1.6 MB, below the default limit of a run's output."""
FEW = 3000
"""Deltas of the peers' fast producer."""
TALKERS = 20
"""Streams at once that bring fifty tokens a second each."""
TALK = Script(count=25, burst=1, pause=0.02, delay=0.5)
"""They begin together, once all are started: starting is not what is measured."""

SILENCE = 3.0
"""Seconds. A peer that looks for a cancel only at the next token takes what is left of them, so
that this bounds what is measured: it would be more of a longer silence."""

STREAMS = 200
"""Live at once, to be weighed."""
HELD = Script(count=10**9, burst=1, pause=600)
ROUND = 0.5
"""Seconds after which a round makes do with the samples it has."""

AT_LEAST = 5
"""Samples of the product, a round, where a peer has time for one only."""
PATIENCE = 120.0
"""Seconds after which a peer's figures are what there is by then."""

Side = Server | Peer


@dataclass(frozen=True, slots=True)
class Cancels:
    """Cancels to be taken of runs that speak once each `pause`."""

    how: str
    pause: float
    samples: int
    """Of the peer, a round."""
    goal: Goal | None = None

    @property
    def script(self) -> Script:
        return Script(count=10**9, burst=1, pause=self.pause)


@dataclass(frozen=True, slots=True)
class Contender:
    """A peer in one of its ways to serve, what is measured of it, and what is to be reached."""

    name: str
    server: str
    caller: type[PeerCaller]
    cancels: tuple[Cancels, ...]
    job: object = None
    deltas: Goal | None = None


FLUENT = Cancels("50 tokens/s", 0.02, 12)
SLOW = Cancels("a token each 0.5 s", 0.5, 3)
SILENT = Cancels(f"silent for {SILENCE:g} s", SILENCE, 1)

CONTENDERS = (
    Contender(
        "AgentOS",
        "agentos",
        AgentOS,
        (
            replace(FLUENT, goal=at_least(10)),
            replace(SLOW, goal=at_least(20)),
            replace(SILENT, goal=at_least(500)),
        ),
        {"keeps_runs": False},
        at_least(200),
    ),
    # Its cancels wait for the next token like all others: once is enough.
    Contender("AgentOS, resumable", "agentos", ResumableAgentOS, (FLUENT,), {"keeps_runs": True}),
    Contender("LangGraph API", "langgraph", LangGraph, (FLUENT, SILENT)),
)


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    for each in CONTENDERS:
        peer_serving = serving_peer(each.name, each.server, each.caller, each.job)
        try:
            async with serving("product") as product, peer_serving as peer:
                async with asyncio.timeout(PATIENCE):
                    async for figure in _against(plan, product, peer, each):
                        figures.append(figure)  # noqa: PERF401 - what there is by then stays
        except NotInstalled as why:
            figures.append(Figure(each.name, "", note=f"left out: {why}"))
        except TimeoutError:
            figures.append(Figure(each.name, "", note=f"given up after {PATIENCE:g} s"))
    return figures


async def _against(
    plan: Plan, product: Server, peer: Peer, contender: Contender
) -> AsyncIterator[Figure]:
    # First, while both servers are fresh: later they would fill memory that they had before.
    yield await _memory(plan, product, peer)
    for figure in await _deltas(plan, product, peer, contender.deltas):
        yield figure
    yield await _talk(plan, product, peer)
    for what, event in (("event", "run_started"), ("text", "content_delta")):
        yield await _first(plan, f"{peer.name}: time to first {what}", product, peer, event)
    for cancels in contender.cancels:
        yield await _cancels(plan, product, peer, cancels)


def _cpu(side: Side) -> float:
    """Of the server and its workers: a peer does all in one process."""
    return side.child.cpu() + side.child.workers_cpu()


def _memory_of(side: Side) -> int:
    return side.child.memory() + side.child.workers_memory()


def _rounds(plan: Plan) -> range:
    return range(min(plan.rounds, 3))


async def _deltas(plan: Plan, product: Server, peer: Peer, goal: Goal | None) -> list[Figure]:
    rate = Series(f"{peer.name}: content deltas a second, one stream", "/s", goal)
    rate.note = "with the time to the first event"
    cost = Series(f"{peer.name}: server CPU a delta, the same", "µs", says_less=True)
    few = Script(count=plan.scaled(FEW))
    for _ in _rounds(plan):
        theirs, ours = await _flow(peer, few), await _flow(product, MANY)
        rate.add(ours[0], theirs[0])
        cost.add(ours[1], theirs[1])
    return [rate.figure(), cost.figure()]


async def _flow(side: Side, script: Script) -> tuple[float, float]:
    """Deltas a second from the request on, and microseconds of the server's processor for each.

    Not from the first event on: a peer may have made most of the run before it sends that."""
    before = _cpu(side)
    followed = await side.caller.run(script).follow()
    assert followed.deltas == script.count, followed
    assert followed.end == "run_completed", followed
    cpu = _cpu(side) - before
    return followed.deltas / followed.seconds, cpu / followed.deltas * 1e6


async def _talk(plan: Plan, product: Server, peer: Peer) -> Figure:
    title = f"{peer.name}: server CPU a delta, {TALKERS} streams of 50 tokens/s"
    series = Series(title, "µs", says_less=True)
    for _ in _rounds(plan)[:2]:
        theirs = await _talked(peer)
        series.add(await _talked(product), theirs)
    return series.figure()


async def _talked(side: Side) -> float:
    streams = [side.caller.run(TALK) for _ in range(TALKERS)]
    await asyncio.gather(*(stream.until("run_started") for stream in streams))
    before = _cpu(side)
    followed = await asyncio.gather(*(stream.follow() for stream in streams))
    deltas = sum(each.deltas for each in followed)
    assert deltas == TALKERS * TALK.count, followed
    return (_cpu(side) - before) / deltas * 1e6


async def _first(plan: Plan, title: str, product: Server, peer: Peer, event: str) -> Figure:
    series = Series(title, "ms", says_less=True)
    for _ in _rounds(plan):
        theirs, ours = [], []
        until = perf_counter() + ROUND
        while len(theirs) < plan.scaled(50) and (not theirs or perf_counter() < until):
            theirs.append(await _wait(peer, event))
            ours += [await _wait(product, event) for _ in range(AT_LEAST)]
        series.add(median(ours) * 1e3, median(theirs) * 1e3)
    return series.figure()


async def _wait(side: Side, event: str) -> float:
    started = perf_counter()
    stream = side.caller.run(Script())
    assert await stream.until(event) == event
    seconds = perf_counter() - started
    await stream.follow()
    return seconds


async def _cancels(plan: Plan, product: Server, peer: Peer, cancels: Cancels) -> Figure:
    title = f"{peer.name}: cancel to cancelled, {cancels.how}"
    series = Series(title, "ms", cancels.goal, says_less=True)
    for _ in _rounds(plan):
        theirs = await _cancelled(peer, cancels, cancels.samples)
        ours = await _cancelled(product, cancels, max(cancels.samples, AT_LEAST))
        series.add(median(ours) * 1e3, median(theirs) * 1e3)
    return series.figure()


async def _cancelled(side: Side, cancels: Cancels, samples: int) -> list[float]:
    """Seconds from each cancel to its run's last event; all runs are read meanwhile."""
    streams = [side.caller.run(cancels.script) for _ in range(samples)]
    seconds = []
    await asyncio.gather(*(stream.until("content_delta") for stream in streams))
    async with asyncio.TaskGroup() as group:
        ends = [group.create_task(_end(stream)) for stream in streams]
        for stream, end in zip(streams, ends, strict=True):
            # Anywhere between two tokens, or early in a silence.
            await asyncio.sleep(random.uniform(0, cancels.pause if cancels.pause < 1 else 0.1))
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
    theirs = await _weight(peer, count)
    series.add(await _weight(product, count), theirs)
    series.note = f"{count} streams, one round"
    return series.figure()


async def _weight(side: Side, count: int) -> float:
    for stream in await _opened(side, 10):
        stream.leave()
    await asyncio.sleep(0.5)  # until what the warming left is gone
    before = _memory_of(side)
    streams = await _opened(side, count)
    grown = _memory_of(side) - before
    for stream in streams:
        stream.leave()
    return grown / count / 1024


async def _opened(side: Side, count: int) -> list[Stream | PeerStream]:
    streams = [side.caller.run(HELD) for _ in range(count)]
    came = await asyncio.gather(*(stream.until("content_delta") for stream in streams))
    assert set(came) == {"content_delta"}, came
    return streams
