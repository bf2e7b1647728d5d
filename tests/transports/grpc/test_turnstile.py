"""Starts that let other calls go ahead of them."""

import asyncio
from types import SimpleNamespace

import pytest
from pullcord.transports.grpc.turnstile import _QUIET, _SHARE, Turnstile


class Clock:
    """A loop's time, moved by hand."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.now = 0.0
        self.loop = SimpleNamespace(
            time=lambda: self.now, create_future=loop.create_future, call_soon=loop.call_soon
        )


@pytest.fixture
async def clock() -> Clock:
    return Clock()


@pytest.fixture
def turnstile(clock: Clock) -> Turnstile:
    return Turnstile(clock.loop)  # type: ignore[arg-type]  # as much of a loop as it uses


async def turns_of_the_loop(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_start_waits_for_nothing(turnstile: Turnstile) -> None:
    """A start that comes when no other is under way goes on within the same turn of the loop."""
    for _ in range(3):
        entering = turnstile.enter()
        with pytest.raises(StopIteration) as entered:  # a coroutine that never had to wait
            entering.send(None)
        entered.value.value.leave()


async def test_starts_wait_until_what_came_is_taken(turnstile: Turnstile, clock: Clock) -> None:
    """Beside a start that is under way the next goes on when no call has come for a moment."""
    await turnstile.enter()
    second = asyncio.ensure_future(turnstile.enter())
    third = asyncio.ensure_future(turnstile.enter())
    await turns_of_the_loop()
    clock.now += _QUIET * 0.9
    turnstile.came()
    await turns_of_the_loop()
    clock.now += _QUIET * 0.9
    await turns_of_the_loop()
    assert not second.done()
    clock.now += _QUIET * 0.2
    await turns_of_the_loop()
    assert second.done()
    assert not third.done()
    clock.now += _QUIET
    await turns_of_the_loop()
    assert third.done()


async def test_starts_come_to_their_turn_under_a_steady_load(turnstile: Turnstile) -> None:
    """No more than a few calls go ahead of a start, however close they follow one another."""
    await turnstile.enter()
    starts = [asyncio.ensure_future(turnstile.enter()) for _ in range(3)]
    await turns_of_the_loop()
    passed = []
    for _ in range(3 * _SHARE):
        turnstile.came()
        await turns_of_the_loop()
        passed.append(sum(start.done() for start in starts))
    assert passed == [number // _SHARE for number in range(1, 3 * _SHARE + 1)]


async def test_a_start_whose_caller_left_keeps_nobody_waiting(
    turnstile: Turnstile, clock: Clock
) -> None:
    """A start that is given up while it waits is passed over, and counts no more."""
    first = await turnstile.enter()
    second = asyncio.ensure_future(turnstile.enter())
    third = asyncio.ensure_future(turnstile.enter())
    await turns_of_the_loop()
    second.cancel()
    for _ in range(2):
        clock.now += _QUIET
        await turns_of_the_loop()
    assert third.done()
    for turn in (first, third.result()):
        turn.leave()
        turn.leave()  # leaving twice is leaving once
    alone = asyncio.ensure_future(turnstile.enter())
    await asyncio.sleep(0)
    assert alone.done()
