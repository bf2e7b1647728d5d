"""The next step of a stream that broke: which events are new, when to reconnect, when to give up.

Both faces of the client ask here what to do next. Nothing here calls a server, sleeps, or
reads a clock of its own.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from pullcord.client.calls import LONGEST_CALL
from pullcord.run.errors import (
    CallFailed,
    ConnectionLost,
    CredentialExpired,
    DeadlineExceeded,
    Draining,
    PullcordError,
    ServerBusy,
    StoreUnavailable,
)
from pullcord.run.events import (
    Event,
    Gap,
    Heartbeat,
    RunCancelled,
    RunCompleted,
    RunFailed,
    Snapshot,
)
from pullcord.run.record import Run

Result = RunCompleted | RunCancelled | RunFailed
"""The end of a run: the payload of its terminal event."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The rules by which a broken stream is resumed. Times are seconds."""

    reconnect_for: float = 60.0
    """Without progress for so long, the client gives up. 0: it never reconnects."""
    first_delay: float = 0.1
    """The longest wait after the first break; it doubles with each further one."""
    max_delay: float = 5.0
    """The longest wait of all."""
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], object] | None = None
    """The blocking client's wait; None: one that `close` cuts short."""
    random: Callable[[], float] = random.random
    """From 0 to 1: waits are between half their length and all of it, so that clients part ways."""


class Resume:
    """One stream's place in its run, over as many connections as it takes.

    1. An event is shown once: what is numbered at most `after_sequence` was seen.
    2. A gap alone does not move the place. The snapshot behind it does, so that a line that breaks
       between the two loses neither.
    3. A break costs patience, a new event restores it. So does a connection that said something and
       lived for `max_delay`, since a run may be silent for longer than that.
    """

    def __init__(
        self,
        run_id: str,
        pace: Pace,
        *,
        after_sequence: int = 0,
        starting: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.run_id = run_id
        self.after_sequence = after_sequence
        """The number of the last event seen: what to come back with."""
        self.begun = not starting
        """Whether the server is known to have the run; otherwise it must be started again."""
        self.result: Result | None = None
        """The terminal event's payload, once it was seen."""
        self.ended = False
        """Whether nothing more will come."""
        self._pace = pace
        self._deadline = None if timeout is None else pace.clock() + timeout
        self._opened = pace.clock()
        self._heard = False
        self._lost_at: float | None = None
        self._attempts = 0

    @property
    def reconnecting(self) -> bool:
        """Whether the connection was lost, and nothing has come since."""
        return self._lost_at is not None and not self._heard and not self.ended

    def opening(self) -> float | None:
        """A connection is about to be made; the seconds it may take (None: any).

        Raises:
            DeadlineExceeded: none are left.
        """
        now = self._pace.clock()
        self._opened, self._heard = now, False
        if self._deadline is None:
            return None
        if now >= self._deadline:
            raise DeadlineExceeded(
                "the deadline of the call has passed before the stream ended", self.run_id
            )
        return min(self._deadline - now, LONGEST_CALL)

    def admit(self, event: Event) -> bool:
        """Takes note of an event that came; whether it is new to the caller."""
        self._heard = self.begun = True
        payload = event.payload
        if isinstance(payload, Heartbeat):
            return True
        if isinstance(payload, Gap):
            return payload.last_sequence > self.after_sequence
        known = event.sequence <= self.after_sequence
        if isinstance(payload, Snapshot):
            known = event.sequence < self.after_sequence
        if known:
            return False
        self.after_sequence = event.sequence
        self._be_patient_again()
        # With a source it is the end of a child run.
        if event.source is None and isinstance(payload, (RunCompleted, RunCancelled, RunFailed)):
            self.result = payload
            self.ended = True
        return True

    def skip(self, sequence: int) -> None:
        """Takes note of an event whose payload is of a newer server, and which nobody is shown."""
        self._heard = self.begun = True
        if sequence > self.after_sequence:
            self.after_sequence = sequence
            self._be_patient_again()

    def learn(self, run: Run) -> None:
        """Takes note of how the run stands, after a stream that ended in peace but without an end.

        That is no break where the caller had seen the terminal event before.
        """
        if run.state.is_terminal and run.last_sequence <= self.after_sequence:
            self.ended = True

    def lost(self, error: PullcordError | None) -> float:
        """The connection has ended before the run did; the seconds to wait before the next one.

        `error` is None if it ended in peace. Raises the error that the caller must see, where
        coming back is of no use or patience is at its end. gRPC's error, of which it was made, is
        not shown with it.
        """
        if error is not None and not self._may_pass(error):
            raise error from None
        pace = self._pace
        now = pace.clock()
        if self._heard and now - self._opened >= pace.max_delay:
            self._be_patient_again()
        self._heard = False
        if self._lost_at is None:
            self._lost_at = now
        left = self._lost_at + pace.reconnect_for - now
        if left <= 0:
            raise self._last_words(error) from None
        longest = min(pace.max_delay, pace.first_delay * 2.0**self._attempts)
        self._attempts = min(self._attempts + 1, 32)
        delay = longest * (1 + pace.random()) / 2
        if isinstance(error, (ServerBusy, Draining)):
            delay = max(delay, error.retry_after)
        if self._deadline is not None:
            left = min(left, max(0.0, self._deadline - now))
        return min(delay, left)

    def _be_patient_again(self) -> None:
        self._lost_at = None
        self._attempts = 0

    def _may_pass(self, error: PullcordError) -> bool:
        if isinstance(error, (Draining, ServerBusy, StoreUnavailable)):
            # Said to a new run it is an answer; said to a watcher of a known run it is a delay.
            return self.begun
        if isinstance(error, CredentialExpired):
            return self.begun  # the next connection has the token of that time
        # A bare CANCELLED that is not ours comes from a server or proxy that shed the call.
        shed = isinstance(error, CallFailed) and error.code == "CANCELLED"
        return shed or isinstance(error, ConnectionLost)

    def _last_words(self, error: PullcordError | None) -> PullcordError:
        known = (ConnectionLost, CredentialExpired, Draining, ServerBusy, StoreUnavailable)
        if isinstance(error, known):
            return error
        words = "the stream ended before the run did" if error is None else str(error)
        return ConnectionLost(words, self.run_id)
