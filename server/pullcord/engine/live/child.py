"""A child run, as the code of its parent holds it: its id, its state, and the wait for its end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from pullcord.engine.live.live import LiveRun
from pullcord.run.cancel import CancelCause, Cancellation, CancelRequest
from pullcord.run.errors import RunCancelledError
from pullcord.run.record import Run
from pullcord.run.state import RunState


class ChildHandle:
    """A child, as the code of its parent holds it."""

    def __init__(self, live: LiveRun, parent: LiveRun) -> None:
        self._live = live
        self._parent = parent
        self.run_id = live.run_id

    def snapshot(self) -> Run:
        """The child as it is now."""
        return self._live.as_decided()

    async def wait(self) -> Run:
        """Waits until the child has ended, and returns it, in whatever state it ended.

        Raises RunCancelledError if it was stopped because the parent must stop, and CancelledError
        if the waiting task was cancelled; the child is cancelled then, cause PARENT. It has ended
        when this raises.
        """
        ended = asyncio.Event()
        self._live.ending.call_own_back(_in_loop(asyncio.get_running_loop(), ended.set))
        try:
            await ended.wait()
        except asyncio.CancelledError:
            if self._parent.rests:  # both wait on without their code
                raise
            if self._parent.cancellation is None:  # else the child is stopped already
                cancellation = Cancellation(CancelCause.PARENT, reason="what waited for it stopped")
                self._live.cancel(CancelRequest(cancellation))
            while not ended.is_set():
                with suppress(asyncio.CancelledError):
                    await ended.wait()
            raise
        run = self._live.as_decided()
        if run.state is RunState.CANCELLED:
            stop = self._parent.cancellation
            if stop is not None:
                raise RunCancelledError(stop.reason or f"cancelled: {stop.cause}")
        return run


class EndedChild:
    """A child that had ended when the code of its parent, executed anew, asked for it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.run_id = run.run_id

    def snapshot(self) -> Run:
        """The child as it ended."""
        return self._run

    async def wait(self) -> Run:
        """The child as it ended."""
        return self._run


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[], None]:
    def pass_on() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(call)

    return pass_on
