"""Starts that let other calls go ahead of them."""

import asyncio
import itertools

import grpc
import pytest
from pullcord import RunContext, runnable
from pullcord.run.errors import ServerBusy
from pullcord.run.scope import LOCAL, Scope
from pullcord.service.turnstile import _TURNS, Turn, Turnstile

from tests.transports.harness import Serve, Signal, kind_of, until


@pytest.fixture
async def turnstile() -> Turnstile:
    return Turnstile(asyncio.get_running_loop(), 100)


async def turns_of_the_loop(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_start_waits_for_nothing(turnstile: Turnstile) -> None:
    """A start that comes when no other is under way goes on within the same turn of the loop."""
    for _ in range(3):
        entering = turnstile.enter()
        with pytest.raises(StopIteration) as entered:  # a coroutine that never had to wait
            entering.send(None)
        entered.value.value.leave()


async def test_starts_of_a_burst_take_turns_and_leave_room_between(turnstile: Turnstile) -> None:
    """Beside a start that is under way others go on one by one, many turns of the loop apart."""
    await turnstile.enter()
    starts = [asyncio.ensure_future(turnstile.enter()) for _ in range(4)]
    done_after: list[int] = []
    for turn in range(6 * _TURNS):
        await asyncio.sleep(0)
        done_after += [turn] * (sum(start.done() for start in starts) - len(done_after))
        assert [start.done() for start in starts] == [n < len(done_after) for n in range(4)]
    assert len(done_after) == 4
    apart = [later - earlier for earlier, later in itertools.pairwise(done_after)]
    assert apart == [_TURNS] * 3


async def test_more_starts_than_may_wait_are_refused() -> None:
    """A start beyond the bound is refused at once, and holds no place."""
    turnstile = Turnstile(asyncio.get_running_loop(), 2)
    first = await turnstile.enter()
    second = asyncio.ensure_future(turnstile.enter())
    await turns_of_the_loop(1)
    with pytest.raises(ServerBusy, match="2 starts"):
        await turnstile.enter()
    first.leave()
    third = asyncio.ensure_future(turnstile.enter())
    for turn in await asyncio.gather(second, third):
        turn.leave()


async def test_a_start_whose_caller_left_keeps_nobody_waiting(turnstile: Turnstile) -> None:
    """A start that is given up while it waits is passed over, and counts no more."""
    first = await turnstile.enter()
    second = asyncio.ensure_future(turnstile.enter())
    third = asyncio.ensure_future(turnstile.enter())
    await turns_of_the_loop(2)
    second.cancel()
    await turns_of_the_loop(3 * _TURNS)
    assert third.done()
    for turn in (first, third.result()):
        turn.leave()
        turn.leave()  # leaving twice is leaving once
    alone = asyncio.ensure_future(turnstile.enter())
    await asyncio.sleep(0)
    assert alone.done()


def test_every_start_passes_and_leaves_no_turn_behind(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run and StartRun take turns; one that follows, has ended or was refused holds none."""
    made: list[Counting] = []

    def counting(loop: asyncio.AbstractEventLoop, most: int) -> Counting:
        made.append(Counting(loop, most))
        return made[-1]

    monkeypatch.setattr("pullcord.service.lanes.Turnstile", counting)
    release = Signal()

    @runnable
    async def waits(ctx: RunContext):
        await release.come()

    served = serve(waits)
    stream = served.run("waits", run_id="followed")
    assert kind_of(stream.next()) == "run_started"
    served.start("waits", run_id="background")
    with pytest.raises(grpc.RpcError):
        served.start("no-such-thing")
    served.get("followed")
    (turnstile,) = made
    assert turnstile.entered == 3
    until(lambda: turnstile._inside == 0)
    release.set()
    stream.rest()


class Counting(Turnstile):
    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        super().__init__(loop, most)
        self.entered = 0

    async def enter(self, owner: Scope = LOCAL) -> Turn:
        self.entered += 1
        return await super().enter(owner)
