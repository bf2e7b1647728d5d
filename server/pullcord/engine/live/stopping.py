"""The stop of one run, stage by stage: which cancel stands, what is tried next, and when.

Rules only. They say how a stop goes on from here; whether the run is in a state to be stopped, and
what its end is, the machine decides.
"""

from dataclasses import replace

from pullcord.engine.live.effects import (
    Append,
    Arm,
    Effect,
    Effects,
    Kill,
    Moment,
    Stop,
    StopChildren,
    TimerName,
    Timers,
)
from pullcord.run.cancel import (
    CancelCause,
    Cancellation,
    CancelMode,
    CancelRequest,
    StopStage,
)
from pullcord.run.events import CancelRequested

_NEAR_DEADLINE = Cancellation(CancelCause.DEADLINE, reason="the caller's deadline is near")
PARENT_ENDED = CancelRequest(Cancellation(CancelCause.PARENT, reason="its parent run has ended"))
_STAGES = tuple(StopStage)
_SOONER = 0.8
"""A child's last wait is so much of its parent's, so that the tree ends from its leaves up."""


class Stopping:
    """The one stop of a run. The first cause, actor and reason stand; it can only be hastened."""

    def __init__(self, timers: Timers, grace_period: float, abandon_after: float) -> None:
        """`grace_period` and `abandon_after` hold where a cancel says nothing, in seconds."""
        self._timers = timers
        self._grace_period = grace_period
        self._grace_ends = 0.0
        self._third = 0.0
        self.default_abandon_after = abandon_after
        self.abandon_after = abandon_after
        """Seconds after an interrupt until the run is abandoned, as its cancel says."""
        self.kill_after: float | None = None
        """Seconds after an interrupt until the run's own process is killed; None: it has none."""
        self.cancellation: Cancellation | None = None
        """The stop that was accepted, if one was."""
        self.grace: float | None = None
        """The grace period that its cancel asked for; None: the default."""
        self.stage: StopStage | None = None
        """The furthest that was reached; None: no code was asked to stop."""

    def accept(
        self, request: CancelRequest, at: Moment, abandon_after: float | None, *, begun: bool
    ) -> Effects:
        """Lets a cancel stand, or hasten the one that stands; nothing if that changes nothing.

        `begun`: there is code to stop. If not, accepting is all, and the run ends at once.
        """
        cancellation = request.cancellation
        standing = self.cancellation
        if standing is None:
            if not cancellation.accept_time:  # else it was accepted before its run came
                cancellation = replace(cancellation, accept_time=at.time)
            self.grace = request.grace_period
        elif cancellation.mode is CancelMode.GRACEFUL or standing.mode is CancelMode.IMMEDIATE:
            return self._shorten(request, at)
        else:
            cancellation = standing.hastened()
        self.cancellation = cancellation
        self.abandon_after = self.default_abandon_after if abandon_after is None else abandon_after
        accepted = Append(CancelRequested(cancellation))
        if not begun:
            return (accepted,)
        stop = (Stop(cancellation, self.grace), StopChildren(cancellation))
        return (accepted, *self._next_timers(at), *stop)

    def _next_timers(self, at: Moment) -> list[Effect]:
        assert self.cancellation is not None
        if self.cancellation.mode is CancelMode.GRACEFUL:
            self.reach(StopStage.ASK)
            waits = self._grace_period if self.grace is None else self.grace
            self._grace_ends = at.monotonic + waits
            return [self._timers.arm(TimerName.GRACE, waits)]
        self.reach(StopStage.INTERRUPT)
        armed: list[Effect] = list(self._timers.disarm(TimerName.GRACE))
        if self.kill_after is not None:
            armed.append(self._timers.arm(TimerName.KILL, self.kill_after))
        return [*armed, self._timers.arm(TimerName.ABANDON, self.abandon_after)]

    def _shorten(self, request: CancelRequest, at: Moment) -> Effects:
        """A server that stops waits no longer for a stop that stands than it would for its own."""
        asked, standing = request.cancellation, self.cancellation
        assert standing is not None
        if asked.cause is not CancelCause.SHUTDOWN or standing.mode is CancelMode.IMMEDIATE:
            return ()
        waits = self._grace_period if request.grace_period is None else request.grace_period
        if self.stage is None or at.monotonic + waits >= self._grace_ends:
            return ()
        self._grace_ends = at.monotonic + waits
        return (self._timers.arm(TimerName.GRACE, waits),)

    def for_child(self, cancellation: Cancellation) -> tuple[CancelRequest, float]:
        """What a child is asked to do when this stop goes down, and its `abandon_after`."""
        request = CancelRequest(cancellation.for_child(), self.grace)
        return request, self.abandon_after * _SOONER

    def reach(self, stage: StopStage) -> None:
        """The stop has come so far."""
        if self.stage is None or _STAGES.index(stage) > _STAGES.index(self.stage):
            self.stage = stage

    # --- a caller's deadline: a third of the time to stop, one to interrupt, one to end without

    def stop_at(self, deadline: float, margin: float, at: Moment) -> Arm:
        """The run must have ended by `deadline` (monotonic); its stop begins `margin` before."""
        self._third = margin / 3
        return self._timers.arm(TimerName.DEADLINE, deadline - margin - at.monotonic)

    def thirds(self) -> Effects:
        """What is armed once that stop has begun: it counts also where an earlier cancel stands,
        whose waits are longer."""
        return (
            self._timers.arm(TimerName.DEADLINE_INTERRUPT, self._third),
            self._timers.arm(TimerName.DEADLINE_ABANDON, 2 * self._third),
        )

    # --- what a timer asks for: a cancel, when, and how long after an interrupt it abandons

    def deadline_stop(self, at: Moment) -> tuple[CancelRequest, Moment, float]:
        """The stop that a near deadline asks for."""
        return CancelRequest(_NEAR_DEADLINE, self._third), at, self._third

    def deadline_interrupt(self, at: Moment) -> tuple[CancelRequest, Moment, float]:
        """Hastens the stop at a deadline: a third of the time is over."""
        return CancelRequest(_NEAR_DEADLINE.hastened()), at, self._third

    def grace_over(self, at: Moment) -> tuple[CancelRequest, Moment, float]:
        """The stop that stands, hastened."""
        assert self.cancellation is not None
        return CancelRequest(self.cancellation.hastened()), at, self.abandon_after

    def kill(self) -> Effects:
        """The run's own process is killed, because its code outlived the interrupt."""
        self.reach(StopStage.KILL)
        return (Kill(),)
