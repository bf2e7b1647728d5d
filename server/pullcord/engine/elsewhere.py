"""The handle of a run that another process executes: what callers here see and ask of it.

All of it goes through the store that both share. How a run is stopped or continued is its owner's
business.
"""

import time
from collections.abc import Callable, Sequence

from pullcord.engine.live.question import Question, digest
from pullcord.engine.log.watch import Watcher
from pullcord.engine.recording import Recording
from pullcord.engine.sharing import Asked, Elsewhere, Sharing
from pullcord.run.cancel import CancelOutcome, CancelRequest
from pullcord.run.errors import (
    InvalidArgument,
    RunNotPaused,
    StoreUnavailable,
    Violation,
)
from pullcord.run.events import RunPaused, ToolCallState
from pullcord.run.record import Decision, Receipt, Run
from pullcord.run.scope import Scope
from pullcord.run.state import RunState
from pullcord.run.usage import Usage

_CATCH_UP = 3.0
"""Seconds in which the store must get what a watcher has seen at the run's owner."""
_CONTINUES = 2.0
"""Seconds that an answer waits for the owner to let the run go on."""

Cancel = Callable[[CancelRequest], Receipt]


class ElsewhereHandle:
    """A run that was live at another process when it was found."""

    def __init__(
        self,
        scope: Scope,
        run: Elsewhere,
        sharing: Sharing,
        cancel: Cancel,
        look: Callable[[], Run],
    ) -> None:
        """`look` finds the run as it is now, wherever it is."""
        self._scope = scope
        self._run = run
        self._sharing = sharing
        self._look = look
        self.cancel = cancel
        self.snapshot = run.snapshot
        self.on_end = run.on_end

    def usage(self) -> Usage:
        """The run's usage so far, as far as the store knows."""
        return self._run.snapshot().usage

    def watch(self, after_sequence: int = 0, *, is_guest: bool = False) -> Watcher:
        """A new watcher. Waits for a moment if the store lacks what was seen at the owner.

        Raises StoreUnavailable where it still does.
        """
        run = self._run
        run.come(is_guest=is_guest)

        def leave(*, comes_back: bool = False) -> None:
            run.leave(is_guest=is_guest, comes_back=comes_back)

        try:
            if not is_guest:
                self._sharing.attend(self._scope, run.spec.run_id)
            most = max(run.reserved, run.log.last_sequence)
            if not 0 <= after_sequence <= most:
                made = f"the run has made {run.log.last_sequence} events so far"
                raise InvalidArgument(Violation("after_sequence", made))
            if not run.wait_for(after_sequence, _CATCH_UP):
                raise StoreUnavailable(
                    f"the store does not have event {after_sequence} of the run yet; ask again"
                )
        except BaseException:
            leave()
            raise
        return Watcher(run.spec.run_id, run.log, after_sequence, run.snapshot, leave)

    def recording(self) -> Recording | None:
        """None: the receipt of `cancel` says what was recorded."""
        return None

    def question(self) -> str:
        """The words of the question that stands, as far as the store knows."""
        if self._run.snapshot().state is not RunState.PAUSED:
            return ""
        for record in reversed(self._run.log.records()):
            if isinstance(record.payload, RunPaused) and record.source is None:
                return record.payload.question
        return ""

    def receipt(self) -> Receipt:
        """The receipt that a cancel would get now."""
        ended = self._run.ended
        run = self._run.snapshot()
        accepted = run.cancellation.accept_time if run.cancellation is not None else 0.0
        if ended is None:
            return Receipt(CancelOutcome.REQUESTED, run, accepted)
        stopped = run.state is RunState.CANCELLED
        outcome = CancelOutcome.STOPPED if stopped else CancelOutcome.ALREADY_FINISHED
        return Receipt(outcome, run, accepted, ended.deliver_time, run.end_time)

    def decide(self, decisions: Sequence[Decision], actor: str) -> Run:
        """Records decisions for the owner, and waits for a moment until the run goes on.

        Raises RunNotPaused, InvalidArgument, StoreUnavailable.
        """
        made = digest(decisions)
        run = self._run.snapshot()
        if run.state is not RunState.PAUSED:
            raise RunNotPaused(run.run_id, run.state, self._run.decided() == made)
        waiting = [call for call in run.tool_calls if call.state is ToolCallState.WAITING]
        Question("", waiting).in_order(decisions)
        last = self._run.log.last_sequence
        if not self._sharing.decide(self._scope, run.run_id, Asked(tuple(decisions), actor)):
            raise RunNotPaused(run.run_id, self._look().state)
        ends = time.monotonic() + _CONTINUES
        self._run.come(is_guest=True)
        try:
            self._run.wait_for(last + 1, max(0.0, ends - time.monotonic()))
        finally:
            self._run.leave(is_guest=True)
        return self._run.snapshot()
