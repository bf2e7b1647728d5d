"""The timers of one run, by name. Which to arm, and what a firing means, the machine decides."""

from collections.abc import Callable
from functools import partial
from weakref import WeakMethod

from pullcord.engine.clock import Clock, Timer
from pullcord.engine.live.effects import Arm, TimerName


class Alarms:
    """At most one timer of each name. The run's lock guards them."""

    def __init__(self, clock: Clock, fired: Callable[[TimerName, int], None]) -> None:
        """`fired` is called in a thread of the clock's, with the number that armed the timer."""
        self._clock = clock
        self._fired = WeakMethod(fired)  # of the run that owns this
        self._timers: dict[TimerName, Timer] = {}

    def arm(self, armed: Arm) -> None:
        """Arms a timer; it replaces an earlier one of the same name."""
        self.disarm(armed.timer)
        fired = self._fired()
        assert fired is not None  # an armed timer keeps its run
        fire = partial(fired, armed.timer, armed.number)
        self._timers[armed.timer] = self._clock.call_later(armed.delay, fire)

    def disarm(self, name: TimerName) -> None:
        """It fires no more, unless it is under way."""
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
