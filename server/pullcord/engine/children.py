"""Runs beneath runs: a cancel above reaches them, and what a child says is heard above.

A child is a live run like any other, with a log, watchers and an id of its own. A cancel goes down,
never up: the parent learns of a child's end by waiting for it, and decides by itself. Its usage and
its tool calls count above as well. It lives no longer than its parent.

Whatever a child says enters its own log and those above in one step under its lock, so that all of
them tell it in one order; locks are taken from the leaf to the root, never the other way.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pullcord.engine.live import LiveRun
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import Payload, RunPaused, Source, ToolCall
from pullcord.run.record import Run, RunSpec
from pullcord.run.state import RunState
from pullcord.run.usage import Usage

_SOONER = 0.8
"""A child's last wait is so much of its parent's, so that the tree ends from its leaves up."""


class RunBeneath(LiveRun):
    """A run beneath another, which may have its own place to be heard."""

    def __init__(self, parent: LiveRun, spec: RunSpec, **settings: Any) -> None:
        self._parent = parent
        super().__init__(spec, parent_run_id=parent.run_id, **settings)
        self.deadline = parent.deadline

    @property
    def root(self) -> LiveRun:
        """The run at the top of its tree."""
        return self._parent.root

    @property
    def depth(self) -> int:
        """How many runs are above it."""
        return self._parent.depth + 1

    def hang_on(self) -> None:
        """From now on the parent's cancel, or its end, reaches this run; at once, if it is past."""
        root = self.root
        with root._lock:
            root.beneath += 1
        self._parent.adopt(self)

        def let_go() -> None:
            self._parent.let_go(self)
            with root._lock:
                root.beneath -= 1

        self.on_end(let_go)

    def use(self, usage: Usage) -> None:
        """Adds to the usage, here and above; a limit above stops the parent, and so this.

        Steps are counted where they are: a workflow's are not its agents' model calls.
        """
        super().use(usage)
        self._parent.use(replace(usage, steps=0))

    def _enter(self, call: ToolCall, *, begins: bool = False) -> None:
        with self._lock:
            super()._enter(call, begins=begins)
            told = replace(call, run_id=call.run_id or self.run_id)
            self._parent._enter(told, begins=begins)

    def stop_from_above(self, cancellation: Cancellation) -> None:
        """The parent is to stop, and so is this, cause PARENT, a little sooner."""
        request = CancelRequest(cancellation.for_child(), self._parent.grace)
        self._cancel(request, self._parent.abandon_after * _SOONER)

    def left_behind(self) -> None:
        """The parent has ended, and so must this."""
        reason = "the run above it has ended"
        self.cancel(CancelRequest(Cancellation(CancelCause.PARENT, reason=reason)))


class ChildRun(RunBeneath):
    """A run beneath another, in whose stream it is heard."""

    def __init__(self, parent: LiveRun, source: Source, spec: RunSpec, **settings: Any) -> None:
        """Raises RunCancelledError if the parent is to stop, or something above it."""
        # Before anything is said: what is said is heard above.
        self._source = source
        super().__init__(parent, spec, **settings)

    def write(self, text: str) -> None:
        """Adds a content delta, here and above."""
        with self._lock:
            if not self._state.is_terminal:
                self.log.write(text)
                self._parent.write_as(text, self._source, False)

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a delta of whoever `source` says, here and above."""
        with self._lock:
            if not self._state.is_terminal:
                self.log.write_as(text, source, reasoning)
                self._parent.write_as(text, self._as_heard_above(source), reasoning)

    def _begin(self, payload: Payload, source: Source | None) -> None:
        # The cancel of a run far above may be accepted while it has not come down here yet; what
        # would begin in between is refused by the run that was cancelled, under its lock.
        with self._lock:
            self._must_go_on()
            self._parent._begin(self._as_told_above(payload), self._as_heard_above(source))
            self.log.append(payload, source)

    def _refused(self) -> None:
        """What refused it may be on its way here: it is made to come before the code is told."""
        self._parent._refused()
        if (cancellation := self._parent.cancellation) is not None:
            self.stop_from_above(cancellation)
        elif self._parent.state.is_terminal:
            self.left_behind()

    def _append(
        self, payload: Payload, source: Source | None = None, *, last: bool = False
    ) -> bool:
        with self._lock:
            added = super()._append(payload, source, last=last)
            if added:
                self._parent._append(self._as_told_above(payload), self._as_heard_above(source))
        return added

    def _as_told_above(self, payload: Payload) -> Payload:
        """A question says there whose calls wait, so that the decision comes to the right run."""
        if not isinstance(payload, RunPaused):
            return payload
        calls = (replace(call, run_id=call.run_id or self.run_id) for call in payload.tool_calls)
        return replace(payload, tool_calls=tuple(calls))

    def _as_heard_above(self, source: Source | None) -> Source:
        if source is None:
            return self._source
        return replace(source, path=(*self._source.path, *source.path[1:]))


class ChildHandle:
    """A child, as the code of its parent holds it."""

    def __init__(self, live: LiveRun, parent: LiveRun) -> None:
        self._live = live
        self._parent = parent
        self.run_id = live.run_id

    def snapshot(self) -> Run:
        """The child as it is now."""
        return self._live.snapshot()

    async def wait(self) -> Run:
        """Waits until the child has ended, and returns it, in whatever state it ended.

        Raises RunCancelledError if it was stopped because the parent is to stop, and CancelledError
        if the waiting task was cancelled; the child is cancelled then, cause PARENT. It has ended
        when this raises.
        """
        ended = asyncio.Event()
        self._live.on_end(_in_loop(asyncio.get_running_loop(), ended.set))
        try:
            await ended.wait()
        except asyncio.CancelledError:
            if self._parent.cancellation is None:  # else the child is stopped already
                cancellation = Cancellation(CancelCause.PARENT, reason="what waited for it stopped")
                self._live.cancel(CancelRequest(cancellation))
            while not ended.is_set():
                with suppress(asyncio.CancelledError):
                    await ended.wait()
            raise
        run = self._live.snapshot()
        if run.state is RunState.CANCELLED:
            stop = self._parent.cancellation
            if stop is not None:
                raise RunCancelledError(stop.reason or f"cancelled: {stop.cause}")
        return run


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[], None]:
    def pass_on() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(call)

    return pass_on
