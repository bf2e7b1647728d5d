"""Acts at a given event of a run: between that event and whatever the run's code does next.

The log of the run under test calls back as an event is put in. A thread of the test's then pulls
the cord, and the run's own thread is held at that event until the cancel was accepted. Where it
holds the very lock that the cancel needs, it is let go once the cancel waits for that lock, and
held again at its next event.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pullcord.engine.live.live import LiveRun
from pullcord.engine.log.log import EventLog
from pullcord.run.cancel import CancelToken

_PATIENCE = 30.0
"""Seconds that a run is held at most."""
_LOCKED = 0.2
"""Likewise where it holds its own lock: what is to bring the cancel may wait for that."""
_RPC_THREAD = "pullcord-server"
"""It admits runs and brings cancels too, so it is never held."""


class Moment:
    """The nth event of the one run without a parent that is started meanwhile."""

    def __init__(self, number: int, act: Callable[[], Any]) -> None:
        self._number = number
        self._act = act
        self._live: LiveRun | None = None
        self._lock = threading.Lock()
        self._at_the_lock = threading.Event()
        self._accepted = threading.Event()
        self._thread = threading.Thread(target=self._run, name="the cord")
        self.count = 0
        """Events so far."""
        self.answer: Any = None
        """What acting returned; None where the run was not so long."""

    def finish(self) -> Any:
        """Waits until it has acted, if it has begun; returns the answer."""
        if self._thread.ident is not None:
            self._thread.join()
        return self.answer

    def watch(self, live: LiveRun) -> None:
        self._live = live

    def arrived(self, live: LiveRun) -> None:
        """A cancel is about to take the run's lock."""
        if live is self._live:
            self._at_the_lock.set()

    def accepted(self, token: CancelToken) -> None:
        """A token was set; the run's own is set before anything beneath is told."""
        execution = self._live.execution if self._live is not None else None
        if execution is not None and token is execution.side.token:  # type: ignore[attr-defined]
            self._accepted.set()

    def answered(self, live: LiveRun) -> None:
        """A cancel has done its work; a run that had not begun has no token to be set."""
        if live is self._live:
            self._accepted.set()

    def _run(self) -> None:
        try:
            self.answer = self._act()
        finally:
            self._at_the_lock.set()
            self._accepted.set()

    def told(self, log: EventLog) -> None:
        live = self._live
        if live is None or log is not live.log:
            return
        with self._lock:
            self.count += 1
            count = self.count
        if count == self._number:
            self._thread.start()
        if 0 < self._number <= count and threading.current_thread().name != _RPC_THREAD:
            locked = live.lock._is_owned()  # type: ignore[attr-defined]
            if not locked:
                self._accepted.wait(_PATIENCE)
            elif count == self._number:
                self._at_the_lock.wait(_LOCKED)


@contextmanager
def at_event(number: int, act: Callable[[], Any]) -> Iterator[Moment]:
    """Acts at the nth event of the run that is started in the block."""
    moment = Moment(number, act)
    patch = pytest.MonkeyPatch()
    append, write, write_as = EventLog.append, EventLog.write, EventLog.write_as
    finish = EventLog.finish
    init, cancel, set_token = LiveRun.__init__, LiveRun.cancel, CancelToken.cancel

    def appended(log: EventLog, payload: Any, *args: Any, **kwargs: Any) -> bool:
        made = append(log, payload, *args, **kwargs)
        if made:
            moment.told(log)
        return made

    def finished(log: EventLog, make: Any) -> Any:
        made = finish(log, make)
        if made is not None:
            moment.told(log)
        return made

    def written(log: EventLog, text: str) -> None:
        write(log, text)
        moment.told(log)

    def written_as(log: EventLog, *args: Any) -> None:
        write_as(log, *args)
        moment.told(log)

    def made(live: LiveRun, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("parent") is None:
            moment.watch(live)
        init(live, *args, **kwargs)

    def cancelled(live: LiveRun, request: Any) -> Any:
        moment.arrived(live)
        receipt = cancel(live, request)
        moment.answered(live)
        return receipt

    def token_set(token: CancelToken, *args: Any) -> bool:
        changed = set_token(token, *args)
        moment.accepted(token)
        return changed

    patch.setattr(CancelToken, "cancel", token_set)
    patch.setattr(LiveRun, "cancel", cancelled)
    patch.setattr(EventLog, "append", appended)
    patch.setattr(EventLog, "finish", finished)
    patch.setattr(EventLog, "write", written)
    patch.setattr(EventLog, "write_as", written_as)
    patch.setattr(LiveRun, "__init__", made)
    try:
        yield moment
    finally:
        moment.finish()
        patch.undo()
