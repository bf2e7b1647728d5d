"""Another attempt for a test that must meet real time, where the machine itself was late.

A sentinel beside each attempt measures how late threads are woken. On a machine that was on time a
failure is real, and is raised at once; what is not measured in real time has no business here.
"""

import functools
import inspect
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Self

import pytest

PATIENCE = 60.0
"""Seconds after which a test believes that nothing will come. No test measures by it."""

LATE = 0.03
"""Seconds that a thread may be woken late on a machine that is called on time."""

ATTEMPTS = 5
"""After so many failures it is no longer the machine's fault."""

_TICK = 0.005
_log = logging.getLogger("tests.steady")
_now = time.monotonic


class Sentinel:
    """Measures, within its block, by how much it was woken late, at worst."""

    def __init__(self) -> None:
        self.late = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure, name="sentinel", daemon=True)

    def __enter__(self) -> Self:
        self._begun = _now()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A stall that has just ended counts, also if this thread was woken before the sentinel.
        self._over.set()
        self._thread.join()

    def _measure(self) -> None:
        begun, over = self._begun, False
        while not over:
            over = self._over.wait(_TICK)
            woken = _now()
            self.late = max(self.late, woken - begun - _TICK)
            begun = woken


def steady(test: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a test, or a part of one, that may be begun anew if the machine stalled."""
    return _steady(test, Sentinel)


def _steady(test: Callable[..., Any], sentinel: Callable[[], Sentinel]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(test):

        @functools.wraps(test)
        async def attempt_async(*args: Any, **kwargs: Any) -> Any:
            attempt = 0
            while True:
                attempt += 1
                try:
                    with sentinel() as machine:
                        return await test(*args, **kwargs)
                except (Exception, pytest.fail.Exception) as failure:
                    _judge(failure, attempt, machine.late)

        return attempt_async

    @functools.wraps(test)
    def attempt_sync(*args: Any, **kwargs: Any) -> Any:
        attempt = 0
        while True:
            attempt += 1
            try:
                with sentinel() as machine:
                    return test(*args, **kwargs)
            except (Exception, pytest.fail.Exception) as failure:
                _judge(failure, attempt, machine.late)

    return attempt_sync


def _judge(failure: BaseException, attempt: int, late: float) -> None:
    """Raises a failure that is real; returns where the attempt is to be repeated."""
    if late <= LATE or attempt == ATTEMPTS:
        failure.add_note(f"attempt {attempt} of {ATTEMPTS}: the machine was late by {late:.3f} s")
        raise failure
    _log.warning("repeated, for the machine was late by %.3f s: %r", late, failure)
