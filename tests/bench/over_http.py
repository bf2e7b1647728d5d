"""What HTTP costs: server-sent events and a cancel, beside AgentOS's, and what a reader that floods
costs everybody else.

The product and the peer are read by the same least client. Runs are started over gRPC. Where the
peer cannot be installed, its figures are left out, and those of the product stand alone.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter

from tests.bench.caller import TERMINAL, Server, serving
from tests.bench.cost import cost
from tests.bench.figures import Figure, Series, at_least, at_most, percentile
from tests.bench.peers.callers import AgentOS, Peer, serving_peer
from tests.bench.peers.environment import NotInstalled
from tests.bench.peers.sse import Connection, Decoder
from tests.bench.plan import Plan
from tests.bench.script import Script

SPEAKING = Script(count=10**9, burst=1, pause=0.01)


async def measure(plan: Plan) -> list[Figure]:
    async with AsyncExitStack() as stack:
        bare = await stack.enter_async_context(serving("bare"))
        product = await stack.enter_async_context(
            serving("product", http="127.0.0.1:0", http_host="bench")
        )
        peer, note = None, ""
        try:
            peer = await stack.enter_async_context(
                serving_peer("AgentOS", "agentos", AgentOS, {"keeps_runs": False})
            )
        except NotInstalled as error:
            note = f"without AgentOS: {error}"
        figures = await _events(plan, product, peer, note)
        figures += await _cancels(plan, product, peer, note)
        return figures + await _beside_a_flood(plan, bare, product)


async def _events(plan: Plan, product: Server, peer: Peer | None, note: str) -> list[Figure]:
    rate = Series("server-sent events a second, one reader", "/s", at_least(3), note)
    cpu = Series("CPU of an event, in the serving process", "µs", says_less=True)
    count = plan.scaled(20_000)
    theirs = Script(count=plan.scaled(3000))
    for _ in range(plan.rounds):
        run_id = await product.caller.start(Script("voices", count))
        await product.caller.wait(run_id)
        with cost(product.child) as found:
            number, seconds = await _read(product, run_id)
        assert number > count, number  # the log has kept all of it
        if peer is None:
            rate.add(number / seconds)
            cpu.add(found.control / number * 1e6)
            continue
        with cost(peer.child) as spent:
            followed = await peer.caller.run(theirs).follow()
        rate.add(number / seconds, followed.messages / followed.seconds)
        cpu.add(found.control / number * 1e6, spent.control / followed.messages * 1e6)
    return [rate.figure(), cpu.figure()]


async def _read(product: Server, run_id: str) -> tuple[int, float]:
    """The events of a run that has ended, and the seconds that they took."""
    number = 0
    started = perf_counter()
    async with _following(product, run_id) as pieces:
        decoder = Decoder()
        async for piece in pieces:
            number += len(decoder.take(piece))
    return number, perf_counter() - started


@asynccontextmanager
async def _following(product: Server, run_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
    connection = await Connection.open(product.http)
    try:
        await connection.ask("GET", f"/v1/runs/{run_id}/events")
        yield connection.pieces()
    finally:
        connection.drop()


async def _cancels(plan: Plan, product: Server, peer: Peer | None, note: str) -> list[Figure]:
    """From the POST to the last event, on runs that speak each 10 ms."""
    p50 = Series("cancel over HTTP, speaking run, p50", "ms", None, note)
    p99 = Series("cancel over HTTP, speaking run, p99", "ms", None, note)
    line = await Connection.open(product.http)
    for _ in range(plan.rounds):
        ours, theirs = [], []
        for _ in range(plan.scaled(50)):
            ours.append(await _cancel(product, line))
            if peer is not None:
                theirs.append(await _peers_cancel(peer))
        for series, share in ((p50, 0.5), (p99, 0.99)):
            against = percentile(theirs, share) * 1e3 if theirs else None
            series.add(percentile(ours, share) * 1e3, against)
    line.drop()
    return [p50.figure(), p99.figure()]


async def _cancel(product: Server, line: Connection) -> float:
    run_id = await product.caller.start(SPEAKING)
    async with _following(product, run_id) as pieces:
        decoder = Decoder()
        while not any(b"contentDelta" in e.data for e in decoder.take(await anext(pieces))):
            pass
        started = perf_counter()
        await line.ask("POST", f"/v1/runs/{run_id}/cancel")
        await line.body()
        while not any(b"runCancelled" in e.data for e in decoder.take(await anext(pieces))):
            pass
        return perf_counter() - started


async def _peers_cancel(peer: Peer) -> float:
    stream = peer.caller.run(SPEAKING)
    assert await stream.until("content_delta") == "content_delta"
    started = perf_counter()
    await peer.caller.cancel(stream.run_id)
    assert await stream.until(*TERMINAL) == "run_cancelled"
    took = perf_counter() - started
    await stream.follow()
    return took


async def _beside_a_flood(plan: Plan, bare: Server, product: Server) -> list[Figure]:
    """A gRPC unary call while one HTTP reader has a long log replayed as fast as it can."""
    p50 = Series("GetRun over gRPC beside a flooding HTTP reader, p50", "ms", at_most(3))
    stop = Series("CancelRun over gRPC beside it, to its answer, p50", "ms", at_most(5))
    run_id = await product.caller.start(Script("voices", plan.scaled(20_000)))
    await product.caller.wait(run_id)
    stopping = asyncio.Event()

    async def flood() -> None:
        while not stopping.is_set():
            await _read(product, run_id)

    for _ in range(plan.rounds):
        waiting = [await product.caller.start(Script(then="wait")) for _ in range(plan.scaled(20))]
        stopping.clear()
        flooding = asyncio.ensure_future(flood())
        ours, stops, theirs = [], [], []
        for target in waiting:
            for _ in range(5):
                begun = perf_counter()
                await product.caller.get(run_id)
                ours.append(perf_counter() - begun)
            begun = perf_counter()
            await product.caller.cancel(target)
            stops.append(perf_counter() - begun)
        stopping.set()
        await flooding
        for _ in range(len(ours)):
            begun = perf_counter()
            await bare.caller.get(run_id)
            theirs.append(perf_counter() - begun)
        p50.add(percentile(ours, 0.5) * 1e3, percentile(theirs, 0.5) * 1e3)
        stop.add(percentile(stops, 0.5) * 1e3, percentile(theirs, 0.5) * 1e3)
    return [p50.figure(), stop.figure()]
