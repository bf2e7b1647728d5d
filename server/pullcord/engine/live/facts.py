"""The facts of one run (state, results, times), and how they are shown to others.

The machine changes them, by its rules; nothing is decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pullcord.engine.live.carried import Pause
from pullcord.engine.live.effects import Moment, Timers
from pullcord.engine.live.ledger import Ledger
from pullcord.engine.live.pausing import Pausing
from pullcord.engine.live.question import Question
from pullcord.engine.live.rules import Rules
from pullcord.engine.live.steps import Steps
from pullcord.engine.live.stopping import Stopping
from pullcord.run.cancel import Cancellation, CancelOutcome
from pullcord.run.events import (
    Progress,
    RunCancelled,
    RunCompleted,
    RunError,
    RunFailed,
    TerminalPayload,
)
from pullcord.run.finish import FinishReason
from pullcord.run.record import Receipt, Run, RunSpec
from pullcord.run.resumed import Resumed
from pullcord.run.scope import Scope
from pullcord.run.state import RunState
from pullcord.run.usage import Usage


@dataclass(slots=True)
class Standing:
    """A run whose code only waits for its children, and has handed over from what another execution
    can go on."""

    continuation: bytes
    children: tuple[str, ...]
    """The run_ids of all the children that it waits for."""
    sequence: int
    """Of the last event of the run when it handed this over."""
    holds: bool = False
    """Whether its whole tree waits so, and the store must have this."""

    def is_of(self, pause: Pause) -> bool:
        """Whether the store has this if it has that."""
        return (self.sequence, self.children) == (pause.sequence, pause.children)


class RunFacts:
    """The facts of one run. Its owner reads and changes them under a lock."""

    def __init__(
        self, run_id: str, rules: Rules, at: Moment, deadline: float | None = None
    ) -> None:
        """`deadline` (monotonic) is that of the run's parent."""
        options = rules.options
        self.run_id = run_id
        self.rules = rules
        self.state = RunState.PENDING
        self.state_before = RunState.PENDING
        """Where it stood when its end was decided."""
        self.deadline = deadline
        """When it will be stopped because its time is up (monotonic); None: never."""
        self.timeout_ends: float | None = None
        """When its own timeout is over (monotonic); None: it has none."""
        self.caller_waits_until: float | None = None
        """When its caller's deadline is (monotonic); None: it has none."""
        self.assignment = 0
        """How often it was given to another executor before it began."""
        self.resumed: Resumed | None = None
        """What its code goes on from; None: it has begun here, or it waits."""
        self.standing: Standing | None = None
        """What its code has handed over while it waits for children; it may be out of date."""
        self.usage = Usage()
        self.output: str | None = None
        """What the run's code said its output is."""
        self.output_data: Mapping[str, Any] | None = None
        self.finish_reason: FinishReason | None = None
        self.progress: Progress | None = None
        self.error: RunError | None = None
        self.abandoned = False
        self.killed_processes: tuple[str, ...] = ()
        self.create_time = at.time
        self.start_time = self.end_time = self.deliver_time = 0.0
        self.ledger = Ledger(options.max_ledger)
        self.steps = Steps(run_id)
        self.timers = Timers()
        self.stopping = Stopping(self.timers, options.grace_period, options.abandon_after)
        self.pausing = Pausing(self.ledger, self.timers, options.max_pause)

    @property
    def question(self) -> Question | None:
        """What the run asks; set in state PAUSED, and only then."""
        return self.pausing.question

    @property
    def decided(self) -> str:
        """The digest of the decisions by which it went on last; empty: of none."""
        return self.pausing.decided

    @property
    def cancellation(self) -> Cancellation | None:
        """The stop that was accepted, if one was."""
        return self.stopping.cancellation

    def terminal_event(self) -> TerminalPayload:
        """The last event of a run in this terminal state, without its output."""
        calls = self.ledger.calls()
        if self.state is RunState.COMPLETED:
            return RunCompleted("", self.output_data, self.usage, calls, self.finish_reason)
        if self.state is RunState.FAILED:
            assert self.error is not None
            return RunFailed(
                self.error,
                "",
                self.usage,
                calls,
                output_data=self.output_data,
                finish_reason=self.finish_reason,
            )
        assert self.cancellation is not None
        return RunCancelled(
            self.cancellation,
            output_data=self.output_data,
            usage=self.usage,
            tool_calls=calls,
            abandoned=self.abandoned,
            stage=self.stopping.stage,
            killed_processes=self.killed_processes,
            finish_reason=self.finish_reason,
        )

    def receipt(self, run: Run) -> Receipt:
        """The answer to a canceller, with the run as it is now."""
        if run.state is RunState.CANCELLED:
            outcome = CancelOutcome.STOPPED
        elif run.state.is_terminal:
            outcome = CancelOutcome.ALREADY_FINISHED
        else:
            outcome = CancelOutcome.REQUESTED
        accepted = run.cancellation.accept_time if run.cancellation else 0.0
        return Receipt(outcome, run, accepted, self.deliver_time, run.end_time)

    def before_end(self, run: Run) -> Run:
        """A run that has ended, as those see it who must not see that yet."""
        return replace(
            run,
            state=self.state_before,
            error=None,
            end_time=0.0,
            expire_time=0.0,
            abandoned=False,
        )

    def run(
        self, scope: Scope, spec: RunSpec, parent_run_id: str, output: str, last_sequence: int
    ) -> Run:
        """The run as it is now; its text and the number of its last event are the log's."""
        retention = self.rules.options.retention_for(scope.tenant, spec.runnable)
        return Run(
            run_id=self.run_id,
            runnable=spec.runnable,
            state=self.state,
            session_id=spec.session_id,
            user_id=spec.user_id,
            parent_run_id=parent_run_id,
            input=spec.input,
            cancellation=self.cancellation,
            output=output,
            output_data=self.output_data,
            error=self.error,
            usage=self.usage,
            tool_calls=self.ledger.calls(),
            labels=spec.labels,
            create_time=self.create_time,
            start_time=self.start_time,
            end_time=self.end_time,
            expire_time=self.end_time + retention if self.end_time else 0.0,
            last_sequence=last_sequence,
            abandoned=self.abandoned,
            killed_processes=self.killed_processes,
            finish_reason=self.finish_reason,
            tenant=scope.tenant,
            owner=scope.owner,
            parts=spec.parts,
            retry_of=spec.retry_of,
            limits=spec.limits,
            progress=self.progress,
        )
