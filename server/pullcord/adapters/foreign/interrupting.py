"""Interrupting a framework's run, also if it loses the interrupt on its way.

A cancel of the task that reads the stream is what every framework understands. Some lose it: before
Python 3.12 `asyncio.wait_for` swallows a cancel that comes together with its result, and a
framework then waits for its own tasks for ever. So what has not ended after a moment is cancelled
as well.
"""

import asyncio
import contextvars

from pullcord.executors.leftovers import tasks_at_work

_AGAIN = 0.1
"""Seconds that a framework has to end its tasks before they are cancelled one by one."""


class Interrupt:
    """The interrupt of one run's pump. All methods are called on its event loop."""

    def __init__(self, pump: "asyncio.Task[None]") -> None:
        """Made in the run's own task, which is never cancelled here."""
        self._pump = pump
        self._own = asyncio.current_task()
        self._context = contextvars.copy_context()  # which says whose tasks these are

    def __call__(self) -> None:
        """Interrupts it; called in the pump, which then has lost an earlier one, once more.

        Otherwise nothing is cancelled twice: that would tear the cleanup of the first.
        """
        is_first = not self._pump.cancelling()
        if is_first or asyncio.current_task() is self._pump:
            self._pump.cancel()
        if is_first:
            self._later()

    def again(self) -> None:
        """Interrupts it once more, whatever that tears: the stop has become IMMEDIATE."""
        self._pump.cancel()

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(_AGAIN, self._insist, context=self._context)

    def _insist(self) -> None:
        if self._pump.done():
            return
        for task in tasks_at_work() - {self._own, self._pump}:
            if not task.cancelling():
                task.cancel()
        self._later()
