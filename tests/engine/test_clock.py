"""The clocks: the real one's thread, and the one that tests move."""

import gc
import threading
import weakref

import pytest
from pullcord.engine.clock import ThreadClock
from pullcord.testing import ManualClock


def test_timers_fire_in_order_of_their_time(real_clock: ThreadClock) -> None:
    """A timer asked for later but due sooner fires first."""
    fired, done = [], threading.Event()
    real_clock.call_later(0.05, done.set)
    real_clock.call_later(0.02, lambda: fired.append(2))
    real_clock.call_later(0.0, lambda: fired.append(1))
    assert done.wait(30)
    assert fired == [1, 2]


def test_a_cancelled_timer_does_not_fire(real_clock: ThreadClock) -> None:
    """What was taken back, even twice, does not come."""
    done = threading.Event()
    timer = real_clock.call_later(0.01, lambda: pytest.fail("fired"))
    timer.cancel()
    timer.cancel()
    real_clock.call_later(0.02, done.set)
    assert done.wait(30)


def test_a_raising_timer_stops_no_other(
    real_clock: ThreadClock, caplog: pytest.LogCaptureFixture
) -> None:
    """What a callback raises is logged; the next timers fire."""
    done = threading.Event()
    real_clock.call_later(0.0, lambda: 1 // 0)
    real_clock.call_later(0.01, done.set)
    assert done.wait(30)
    assert "ZeroDivisionError" in caplog.text


def test_promise_12_a_timer_that_has_fired_is_forgotten(real_clock: ThreadClock) -> None:
    """The waiting clock keeps nothing of the timer it fired last, nor of cancelled ones."""

    class Witness:
        pass

    refs, done = [], threading.Event()
    for cancelled in (True, False):
        witness = Witness()
        refs.append(weakref.ref(witness))
        timer = real_clock.call_later(0.0 if not cancelled else 60.0, lambda w=witness: done.set())
        if cancelled:
            timer.cancel()
        del witness, timer
    assert done.wait(30)
    for _ in range(10_000):  # the callback returns after it has set the event
        gc.collect(0)
        if [ref() for ref in refs] == [None, None]:
            break
    assert [ref() for ref in refs] == [None, None]


def test_promise_12_cancelled_timers_do_not_pile_up(real_clock: ThreadClock) -> None:
    """Long timers of short runs are cleared away."""
    real_clock.call_later(60, lambda: None)
    for _ in range(20_000):
        real_clock.call_later(3600, lambda: None).cancel()
    assert len(real_clock._heap) < 3000


def test_a_closed_clock_fires_nothing() -> None:
    """After close no timer fires and no thread is left."""
    clock = ThreadClock()
    clock.call_later(0.05, lambda: pytest.fail("fired"))
    thread = clock._thread
    assert thread is not None
    clock.close()
    assert not thread.is_alive()
    clock.call_later(0, lambda: pytest.fail("fired")).cancel()


def test_the_manual_clock_moves_by_hand() -> None:
    """Time stands still between moves; what is due fires in order, at its own time, in the move."""
    clock, seen = ManualClock(), []
    begun = clock.time()

    def chain() -> None:
        seen.append(("chain", clock.time() - begun))
        clock.call_later(1.0, lambda: seen.append(("link", clock.time() - begun)))

    clock.call_later(5.0, lambda: seen.append(("five", clock.time() - begun)))
    clock.call_later(2.0, chain)
    clock.call_later(1.0, lambda: seen.append(("never", 0.0))).cancel()
    clock.call_later(50.0, lambda: seen.append(("later", 0.0)))
    assert clock.advance(10.0) == 3
    assert seen == [("chain", 2.0), ("link", 3.0), ("five", 5.0)]
    assert clock.time() - begun == 10.0
    assert clock.timers() == [40.0]
    clock.wait_for_timer(40.0)
    with pytest.raises(TimeoutError):
        clock.wait_for_timer(1.0, timeout=0.0)
    clock.close()
    assert clock.advance(100.0) == 0
