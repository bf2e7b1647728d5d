"""The end of one live run, as others see it: since when, and who is called back.

Where a store outlives the process, an end that was decided is *held*: others see it, and are called
back, once the store has it. The run's executor, its parent and its children learn of it at once.
"""

import logging
import threading
from collections.abc import Callable, Sequence

from pullcord.engine.live.machine import RunMachine
from pullcord.engine.log.log import EventLog
from pullcord.engine.log.record import Record
from pullcord.run.cancel import Cancellation
from pullcord.run.events import CancelRequested, TerminalPayload
from pullcord.run.record import Run

_log = logging.getLogger("pullcord.live")

Callback = Callable[[], None]


class Ending:
    """The end of one run. Any thread may call; `lock` is the run's."""

    def __init__(
        self,
        lock: threading.RLock,
        machine: RunMachine,
        log: EventLog,
        *,
        is_held: bool,
    ) -> None:
        """`is_held`: the end is shown once `kept` is called."""
        self._lock = lock
        self._machine = machine
        self._log = log
        self._is_held = is_held
        self.said: TerminalPayload | None = None
        """What was decided; None: nothing yet."""
        self.stands: Run | None = None
        """The run as others have ended it, or continued and ended it; None: they have not."""
        self._callbacks: list[Callback] = []
        self._own_callbacks: list[Callback] = []

    # --- reading

    @property
    def is_held(self) -> bool:
        """Whether it was decided, and its store may not have it yet."""
        return self._is_held and self._machine.state.is_terminal

    @property
    def is_shown(self) -> bool:
        """Whether it was decided, and others see it."""
        return self.said is not None and not self._is_held

    @property
    def waiting(self) -> int:
        """Callers who wait for it."""
        return len(self._callbacks)

    # --- who wants to know

    def call_back(self, callback: Callback) -> None:
        """Calls back once others see it, in any thread; at once if they do."""
        with self._lock:
            if self._is_held or not self._machine.state.is_terminal:
                self._callbacks.append(callback)
                return
        callback()

    def call_own_back(self, callback: Callback) -> None:
        """The same without waiting for the store: for the parent's code."""
        with self._lock:
            if not self._machine.state.is_terminal:
                self._own_callbacks.append(callback)
                return
        callback()

    def forget(self, callback: Callback) -> None:
        """Takes back `call_back`: who waited has gone."""
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

    def due(self) -> list[Callback]:
        """Those who are called back now that it was decided. The lock is held."""
        callbacks, self._own_callbacks = self._own_callbacks, []
        if not self._is_held:
            callbacks += self._take()
        return callbacks

    def decide(self, make: Callable[[str], TerminalPayload]) -> TerminalPayload | None:
        """The run ends so; None: its log has an end already. The lock is held."""
        if (said := self._log.finish(make)) is not None:
            self.said = said
        return said

    # --- what the store says of it

    def kept(self) -> None:
        """The store has it, and others see it from now on."""
        with self._lock:
            if not self._is_held:
                return
            self._is_held = False
            self._log.show_end()
            callbacks = self._take()
        self.call(callbacks)

    def give_way(self, ended: Run, end: Record) -> None:
        """Others took this process for dead and have ended the run so: that is its end."""
        with self._lock:
            self._log.give_way(end)
        self.stand_as(ended)

    def stand_as(self, run: Run) -> None:
        """The run has ended elsewhere, as this: those who wait hear of it."""
        with self._lock:
            self.stands = run
            self._is_held = False
            callbacks = self._take()
        self.call(callbacks)

    def replace(self, stop: Cancellation, make: Callable[[str], TerminalPayload]) -> None:
        """The store refused it: a stop was accepted elsewhere before it. The lock is held."""
        self.said = self._log.replace_end(CancelRequested(stop), make)

    # --- calling back

    def _take(self) -> list[Callback]:
        callbacks, self._callbacks = self._callbacks, []
        return callbacks

    def call(self, callbacks: Sequence[Callback]) -> None:
        """Calls each, whatever another one raises."""
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _log.exception("a callback at the end of run %s raised", self._machine.run_id)
