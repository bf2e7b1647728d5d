"""Which calls wait where, and how many may."""

import asyncio
import threading

import pytest
from pullcord.run.errors import ServerBusy
from pullcord.service.lanes import Lane

from tests.transports.harness import Signal


async def test_a_full_lane_refuses_in_words() -> None:
    """Beyond its bound a lane refuses at once and names itself; a place that is free is taken."""
    gate, lane = Signal(), Lane("lookups", threads=1, most=2)
    calls = [asyncio.create_task(lane.ask(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ServerBusy, match="2 lookups wait already"):
        await lane.ask(gate.wait)
    gate.set()
    await asyncio.gather(*calls)
    assert await lane.ask(lambda: "room again") == "room again"
    lane.close()


async def test_a_caller_that_leaves_gives_up_its_place() -> None:
    """A call that waits for a thread is never made once its caller has left."""
    gate, begun, lane = Signal(), Signal(), Lane("lookups", threads=1, most=2)

    def hold() -> None:
        begun.set()
        gate.wait()

    first = asyncio.create_task(lane.ask(hold))
    await begun.come()
    made = threading.Event()
    second = asyncio.create_task(lane.ask(made.set))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    third = asyncio.create_task(lane.ask(lambda: "in its place"))
    await asyncio.sleep(0)
    gate.set()
    assert await third == "in its place"
    await first
    assert not made.is_set()
    lane.close()
