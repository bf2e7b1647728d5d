"""What every CancelRegistry promises. A new registry passes by being added to `REGISTRIES`."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from pullcord.engine.ports import CancelRegistry, CancelRequest
from pullcord.engine.registry import MemoryRegistry
from pullcord.run.cancel import Cancellation, CancelOutcome
from pullcord.run.errors import ServerBusy
from pullcord.run.record import Receipt
from pullcord.testing import ManualClock

REGISTRIES: dict[str, Callable[[ManualClock, float, int], CancelRegistry]] = {
    "memory": MemoryRegistry
}
DELIVERED = Receipt(CancelOutcome.REQUESTED, accept_time=5.0)


def ask(actor: str) -> CancelRequest:
    return CancelRequest(Cancellation(actor=actor, accept_time=3.0))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=REGISTRIES)
def registry(request: pytest.FixtureRequest, clock: ManualClock) -> CancelRegistry:
    return REGISTRIES[request.param](clock, 60.0, 3)


def test_a_cancel_goes_to_who_claimed_the_run(registry: CancelRegistry) -> None:
    """A request reaches the run's owner and brings back its receipt; nobody else is asked."""
    asked: list[Any] = []

    def deliver(request: CancelRequest) -> Receipt:
        asked.append(request)
        return DELIVERED

    assert registry.claim("r", deliver) is None
    assert registry.claim("other", lambda _: pytest.fail("asked")) is None
    assert registry.request("r", ask("a")) == DELIVERED
    assert registry.record("r", ask("b")) == DELIVERED
    assert asked == [ask("a"), ask("b")]


def test_nobody_is_told_of_a_released_run(registry: CancelRegistry) -> None:
    """After its release a run is unknown; releasing twice harms nothing."""
    registry.claim("r", lambda _: pytest.fail("asked"))
    registry.release("r")
    registry.release("r")
    assert registry.request("r", ask("a")) is None


def test_promise_06_a_cancel_is_kept_for_the_run_to_come(registry: CancelRegistry) -> None:
    """What was recorded is found by the claim, once; the first one recorded stands."""
    assert registry.request("r", ask("a")) is None
    first = registry.record("r", ask("a"))
    assert (first.outcome, first.run, first.accept_time) == (CancelOutcome.RECORDED, None, 3.0)
    assert registry.record("r", ask("b")) == first
    assert registry.claim("r", lambda _: DELIVERED) == ask("a").cancellation
    registry.release("r")
    assert registry.claim("r", lambda _: DELIVERED) is None


def test_promise_06_recorded_cancels_expire(registry: CancelRegistry, clock: ManualClock) -> None:
    """A recorded cancel is forgotten after its time, counted from the first recording."""
    registry.record("r", ask("a"))
    clock.advance(30)
    registry.record("r", ask("b"))
    clock.advance(30)
    assert registry.claim("r", lambda _: DELIVERED) is None


def test_promise_11_recorded_cancels_are_bounded(
    registry: CancelRegistry, clock: ManualClock
) -> None:
    """More than the bound are refused, without dropping any; room comes with time and claims."""
    for n in range(3):
        registry.record(f"r{n}", ask("a"))
    with pytest.raises(ServerBusy):
        registry.record("more", ask("a"))
    assert registry.claim("r0", lambda _: DELIVERED) is not None
    registry.record("more", ask("a"))
    clock.advance(60)
    for n in range(3):
        registry.record(f"s{n}", ask("a"))


def test_promise_06_no_cancel_is_lost_between_claim_and_record(
    registry: CancelRegistry, clock: ManualClock
) -> None:
    """In 2000 races, a cancel is delivered or found by the claim: exactly one of the two."""
    barrier = threading.Barrier(2)
    outcomes = []

    def record() -> None:
        for n in range(2000):
            barrier.wait()
            outcomes.append(registry.record(f"r{n}", ask("a")).outcome)
            barrier.wait()

    thread = threading.Thread(target=record)
    thread.start()
    for n in range(2000):
        delivered: list[CancelRequest] = []

        def deliver(request: CancelRequest, delivered: Any = delivered) -> Receipt:
            delivered.append(request)
            return DELIVERED

        barrier.wait()
        found = registry.claim(f"r{n}", deliver)
        barrier.wait()
        assert (found is None) == bool(delivered)
        assert (outcomes[-1] is CancelOutcome.RECORDED) == (found is not None)
        registry.release(f"r{n}")
    thread.join(30)
