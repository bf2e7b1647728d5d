"""The life of one run as pure decisions: its state and every rule about it, and nothing else.

A method takes what happened and when, changes the state, and returns what must now be done. There
is no lock, clock, thread, log or callback here: a live run holds the lock, asks, and does it.

Invariants, whatever happens in whatever order:
 1. There is one `Finish`, and no `Append` after it.
 2. The state changes as the table in `run.state` says. An accepted cancel always ends CANCELLED.
 3. Nothing begins once a cancel was accepted, or the run has ended.
 4. No timer is armed once the run has ended.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from pullcord.engine.live.carried import Pause, TimeLeft
from pullcord.engine.live.effects import (
    Abandon,
    Append,
    Begin,
    Drop,
    Effect,
    Effects,
    Ended,
    EndLast,
    Finish,
    GoOn,
    Moment,
    Note,
    Stop,
    StopChildren,
    TimerName,
)
from pullcord.engine.live.facts import RunFacts, Standing
from pullcord.engine.live.question import Question, digest
from pullcord.run.cancel import (
    CancelCause,
    Cancellation,
    CancelMode,
    CancelRequest,
    StopStage,
)
from pullcord.run.errors import RunCancelledError, RunNotPaused
from pullcord.run.events import (
    Custom,
    Payload,
    Progress,
    RunError,
    RunPaused,
    RunStarted,
    Source,
    StepCompleted,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.finish import FinishReason
from pullcord.run.killed import MAX_KILLED, KilledProcess, names_of
from pullcord.run.outcomes import with_ends
from pullcord.run.record import Decision, Run
from pullcord.run.resumed import Resumed
from pullcord.run.state import IllegalTransition, RunState, Transition, advance
from pullcord.run.usage import Usage

_NONE: Mapping[str, Run] = MappingProxyType({})


class RunMachine(RunFacts):
    """Every rule of one run. Its owner calls under a lock, and does what it returns, in order."""

    has_code = False
    """Whether an execution has been let begin, and may be at work."""

    def must_go_on(self) -> None:
        """Raises RunCancelledError if nothing may begin any more."""
        if self.cancellation is not None or self.state.is_terminal:
            raise RunCancelledError("the run must stop, or has ended: nothing more begins")

    # --- the run begins

    def admitted(self, started: RunStarted) -> Effects:
        """The run's first event; from now on it waits to begin, but not for ever."""
        return Append(started), self.timers.arm(TimerName.PENDING, self.rules.longest_wait[0])

    def moved(self) -> int:
        """Another executor gets the run; its assignment, with which it asks to begin.

        Raises:
            IllegalTransition: its code has begun, or the run has ended.
        """
        if self.has_code or self.state.is_terminal:
            raise IllegalTransition(self.state, Transition.START)
        self.assignment += 1
        return self.assignment

    def began(self, at: Moment, assignment: int | None = None) -> Effects:
        """An executor is about to call the code. Without a `Begin` it must not: the run has been
        stopped, or is another executor's by now."""
        stops = self.state.is_terminal or self._ends_last
        if self.has_code or stops or self._is_stale(assignment):
            return ()
        self.has_code = True
        self.standing = None
        if self.state is not RunState.PENDING:  # it goes on
            return (Begin(self.deadline),)
        self.state = advance(self.state, Transition.START)
        self.start_time = at.time
        armed: list[Effect] = [*self.timers.disarm(TimerName.PENDING)]
        if (timeout := self.rules.timeout) is not None:
            self.timeout_ends = ends = at.monotonic + timeout
            self.deadline = ends if self.deadline is None else min(self.deadline, ends)
            armed.append(self.timers.arm(TimerName.TIMEOUT, timeout))
        return (*armed, Begin(self.deadline))

    # --- its code is at work

    def begin(self, payload: Payload, source: Source | None) -> Effects:
        """Something begins. Raises RunCancelledError if nothing may."""
        self.must_go_on()
        self.heard(payload, source)
        return (Append(payload, source),)

    def heard(self, payload: Payload, source: Source | None) -> None:
        """Keeps what the run itself shows of an event, beside the log."""
        if isinstance(payload, Progress) and source is None:
            self.set_progress(payload)
        self.steps.hear(payload, source)

    def relayed(self, payload: Payload, source: Source | None) -> Effects:
        """An event of the remote run that does this run's work; a tool call enters the ledger."""
        if self.state.is_terminal:
            return ()
        self.heard(payload, source)
        effects: Effects = ()
        if isinstance(payload, ToolCallStarted | ToolCallCompleted):
            call = payload.tool_call
            if source is not None and not call.run_id and source.run_id != self.run_id:
                call = replace(call, run_id=source.run_id)
            effects = self.note(call, begins=isinstance(payload, ToolCallStarted))
        elif isinstance(payload, RunPaused):  # there it may survive, here nothing would follow it
            payload = replace(payload, survives=False)
        return (*effects, Append(payload, source))

    def note(self, call: ToolCall, *, begins: bool = False) -> Effects:
        """A tool call, of this run or of a child, enters the ledger as far as it has come."""
        if self.state.is_terminal:
            return ()
        if begins:
            self.ledger.begin(call)
        else:
            self.ledger.enter(call)
        return (Note(call, begins),)

    def tool_started(self, call: ToolCall) -> Effects:
        """A tool call begins. Raises RunCancelledError if nothing may."""
        return (*self.begin(ToolCallStarted(call), None), *self.note(call, begins=True))

    def tool_ended(self, call: ToolCall) -> Effects:
        """A tool call has ended, unless the run has ended without it."""
        if self.state.is_terminal:
            return ()
        return (*self.note(call), Append(ToolCallCompleted(call)))

    def set_output(self, output: str | None, output_data: Mapping[str, Any] | None) -> None:
        """Replaces what the deltas came to; None leaves it as it is."""
        if not self.state.is_terminal:
            self.output = self.output if output is None else output
            self.output_data = self.output_data if output_data is None else output_data

    def set_finish_reason(self, reason: FinishReason) -> None:
        """How the model's last answer ended."""
        if not self.state.is_terminal:
            self.finish_reason = reason

    def set_progress(self, progress: Progress) -> None:
        """How far the run's code says that it has come."""
        if not self.state.is_terminal:
            self.progress = progress

    def processes_killed(self, killed: Sequence[KilledProcess]) -> Effects:
        """Processes that the run's code had started were killed, by its stop or at its end."""
        if self.state.is_terminal:
            return ()
        self.bear_names(names_of(killed))
        named = [
            {"pid": one.pid, "name": one.name, "command": one.command}
            for one in killed[:MAX_KILLED]
        ]
        told = {"processes": named, "count": len(killed)}
        return (Append(Custom("processes_killed", told)),)

    def bear_names(self, killed: tuple[str, ...]) -> None:
        """The names of such processes, of this run or of a child, are told of this run."""
        if not self.state.is_terminal:
            self.killed_processes = (*self.killed_processes, *killed)[:MAX_KILLED]

    def use(self, usage: Usage, at: Moment) -> Effects:
        """Adds to the usage, and stops the run where that reaches a limit."""
        if self.state.is_terminal:
            return ()
        self.usage += usage
        limit = self.rules.limits.reached_by(self.usage)
        return self.reached(limit, at) if limit else ()

    def reached(self, limit: str, at: Moment) -> Effects:
        """A limit of the run's was reached, which stops it."""
        reason = f"the limit {limit} was reached"
        cancellation = Cancellation(CancelCause.BUDGET, reason=reason, limit=limit)
        return self.cancel(CancelRequest(cancellation), at)

    # --- it waits for a decision

    def ask(self, asked: Question, at: Moment, *, survives: bool = False) -> Effects:
        """Pauses the run; only where no `question` stands.

        Raises RunCancelledError if nothing may begin any more.
        """
        self.must_go_on()
        self.state = advance(self.state, Transition.PAUSE)
        return self.pausing.pause(asked, at, survives=survives)

    def question_for(self, decisions: Sequence[Decision]) -> Question:
        """The question that these decisions answer.

        Raises:
            RunNotPaused, InvalidArgument: there is none.
        """
        asked = self.question
        if asked is None:
            repeated = self.decided == digest(decisions)
            raise RunNotPaused(self.run_id, self.state, repeated, self.ledger.waiting_children())
        asked.in_order(decisions)
        return asked

    def decide(self, decisions: Sequence[Decision], actor: str, at: Moment) -> Effects:
        """Lets the run go on, if it waits for just these decisions.

        Raises:
            RunNotPaused, InvalidArgument: nothing was changed.
        """
        asked = self.question_for(decisions)
        effects = self.pausing.decide(asked, decisions, actor, at)
        self.state = advance(self.state, Transition.CONTINUE)
        if self.has_code:
            return effects
        assert asked.continuation is not None
        self.resumed = Resumed(asked.continuation, asked.in_order(decisions), self.usage)
        return (*effects, GoOn())

    def take_back(self, asked: Question, at: Moment) -> Effects:
        """The code waits for this question's answer no longer, but the run continues."""
        if self.question is not asked:
            return ()
        self.state = advance(self.state, Transition.CONTINUE)
        return self.pausing.take_back(asked, at)

    # --- its code goes, and the run waits on

    def rest(self, assignment: int) -> bool:
        """Whether the run can wait on without the execution of this assignment, which is gone or
        about to go; then it does, and whatever that one still says is refused."""
        if self._is_stale(assignment):
            return False
        stands = self.state is RunState.RUNNING and self.standing is not None
        if not stands and not (self.state is RunState.PAUSED and self.pausing.rest()):
            return False
        self.assignment += 1
        self.has_code = False
        self.resumed = None
        return True

    def wake(self) -> bool:
        """Whether a run must be executed anew that waited for children without any code: one of
        them goes on, or has ended."""
        stands = self.standing
        if self.has_code or self.state is not RunState.RUNNING or stands is None:
            return False
        self.resumed = Resumed(stands.continuation, (), self.usage)
        return True

    def time_left(self, at: Moment) -> TimeLeft:
        """How long the run, which is paused, may still take."""
        ends = (self.pausing.ends, self.timeout_ends, self.caller_waits_until)
        return TimeLeft(*(None if end is None else end - at.monotonic for end in ends))

    def take_up(
        self, pause: Pause, waits_for: Question | Standing, left: TimeLeft, at: Moment
    ) -> Effects:
        """A run whose process is gone waits on here, without code, for so long at most: for a
        decision, or for its children."""
        run = pause.run
        self.create_time, self.start_time = run.create_time, run.start_time
        self.usage, self.progress = run.usage, run.progress
        self.output, self.output_data = run.output or None, run.output_data
        self.finish_reason, self.killed_processes = run.finish_reason, run.killed_processes
        for call in run.tool_calls:
            self.ledger.begin(call)
        self.steps.take_up(pause.steps)
        effects: Effects = ()
        if isinstance(waits_for, Standing):
            self.state, self.standing = RunState.RUNNING, waits_for
        else:
            self.state = RunState.PAUSED
            effects = self.pausing.take_up(waits_for, left.pause, at)
        if left.timeout is None:
            return effects
        self.timeout_ends = self.deadline = at.monotonic + left.timeout
        return (*effects, self.timers.arm(TimerName.TIMEOUT, left.timeout))

    # --- it is stopped

    def cancel(
        self, request: CancelRequest, at: Moment, abandon_after: float | None = None
    ) -> Effects:
        """Accepts a stop, or hastens the one that stands; changes nothing where neither is so.

        `abandon_after` is how long after an interrupt the run is abandoned; None: the default.
        """
        if self.state.is_terminal:
            return ()
        first = self.cancellation is None
        effects = self.stopping.accept(request, at, abandon_after, begun=self.has_code)
        if self.state is RunState.PENDING:
            # Accepted, then ended: nothing of it has run, and nothing will.
            return (*effects, *self._finish(Transition.CANCEL, at, None), Drop(), Ended())
        if first:
            self.state = advance(self.state, Transition.CANCEL)
            effects = (*effects, *self.pausing.drop())
        if self.has_code:
            return effects
        # It has waited without any, or is about to go on.
        assert self.cancellation is not None
        self.stopping.reach(StopStage.ASK)
        if self.standing is not None:  # for children, which end before it
            return (*effects, StopChildren(self.cancellation), EndLast())
        return (*effects, *self.childless(at))

    @property
    def _ends_last(self) -> bool:
        """Whether it must stop, and only waits for its children's end, without code."""
        return self.state is RunState.CANCELLING and not self.has_code

    def childless(self, at: Moment, ended: Mapping[str, Run] = _NONE) -> Effects:
        """No child is live of a run that may have to stop without code; then it ends.

        `ended`: those children by run_id that it waited for.
        """
        if not self._ends_last:
            return ()
        cut: Effects = ()
        for call in self.ledger.calls():  # what would have unwound says so here
            if call.state is ToolCallState.RUNNING and not call.run_id:
                call = replace(call, state=ToolCallState.INTERRUPTED, end_time=at.time)
                cut = (*cut, *self.tool_ended(call))
        for step in self.steps.close(ended):
            assert isinstance(step.payload, StepCompleted)
            self.output = step.payload.output or self.output
            cut = (*cut, step)
        if self.output_data is not None:
            self.output_data = with_ends(self.output_data, ended)
        return (*cut, *self._finish(Transition.COMPLETE, at, None), Drop(), Ended())

    def stop_at(self, deadline: float, margin: float, at: Moment) -> Effects:
        """The run must have ended by `deadline` (monotonic); its stop begins `margin` before."""
        if self.state.is_terminal:
            return ()
        stops = deadline - margin
        self.caller_waits_until = deadline
        self.deadline = stops if self.deadline is None else min(self.deadline, stops)
        return (self.stopping.stop_at(deadline, margin, at),)

    def fired(self, timer: TimerName, number: int, at: Moment) -> Effects:
        """An armed timer is due; one that was taken back meanwhile means nothing."""
        if not self.timers.take(timer, number):
            return ()
        match timer:
            case TimerName.PENDING:
                return self.reached(self.rules.longest_wait[1], at)
            case TimerName.TIMEOUT:
                return self.reached("timeout", at)
            case TimerName.PAUSE:
                return self.reached("max_pause", at)
            case TimerName.DEADLINE:
                effects = self.cancel(*self.stopping.deadline_stop(at))
                return effects if self.state.is_terminal else effects + self.stopping.thirds()
            case TimerName.DEADLINE_INTERRUPT:
                return self.cancel(*self.stopping.deadline_interrupt(at))
            case TimerName.GRACE:
                return self.cancel(*self.stopping.grace_over(at))
            case TimerName.KILL:
                return self.stopping.kill()
            case TimerName.DEADLINE_ABANDON | TimerName.ABANDON:
                return self.abandon(at)

    def delivered(self, at: Moment) -> None:
        """A stop was delivered to the code."""
        self.deliver_time = self.deliver_time or at.time

    def abandon(self, at: Moment) -> Effects:
        """A run that is stopping ends without its code."""
        if self.state is not RunState.CANCELLING:
            return ()
        self.abandoned = True
        self.stopping.reach(StopStage.ABANDON)
        *ended, last = self._end(Transition.COMPLETE, at)
        return (*ended, Abandon(), last)

    # --- it ends

    def ended(
        self,
        error: RunError | None,
        at: Moment,
        *,
        full: bool = False,
        own_cancel: bool = False,
        assignment: int | None = None,
    ) -> Effects:
        """The code has returned, or has raised `error`.

        `full`: its text reached the bound. `own_cancel`: the error is one that only a cancel may
        raise. `assignment`: of the executor that reports it, None for the one that has the run.
        """
        if self.state.is_terminal or self._ends_last or self._is_stale(assignment):
            return ()
        stop: Effects = ()
        if error is None and full and self.state is not RunState.PENDING:
            # It was quicker than the stop that is on its way.
            stop = self.reached("output_bytes", at)
        if self.cancellation is not None:
            self.delivered(at)  # the code may have seen the token before it was delivered
        elif error is not None and own_cancel:
            words = f"{error.type} was raised in a run that nobody cancelled"
            error = RunError(RuntimeError.__name__, words)
        return stop + self._end(
            Transition.COMPLETE if error is None else Transition.FAIL, at, error
        )

    def refused(self, error: RunError, at: Moment) -> Effects:
        """The run was not admitted after all."""
        return () if self.state.is_terminal else self._end(Transition.FAIL, at, error)

    def broken_off(self, error: RunError, at: Moment) -> Effects:
        """The run cannot go on. Its code, which is interrupted, is at an end later than the run."""
        if self.state.is_terminal:
            return ()
        if not self.has_code:
            return (*self._end(Transition.FAIL, at, error), Drop())
        stop = Cancellation(CancelCause.SHUTDOWN, reason=error.message, mode=CancelMode.IMMEDIATE)
        return (*self._end(Transition.FAIL, at, error), Stop(stop, None))

    def died(self, how: str, at: Moment, assignment: int | None = None) -> Effects:
        """The process that executed the code has died; `how`, in words for callers.

        A run that had not begun is better `moved`. What its tools did is not known.
        """
        if self.state.is_terminal or self._ends_last or self._is_stale(assignment):
            return ()
        return self._end(Transition.FAIL, at, RunError("WorkerDied", how))

    def killed(self, at: Moment) -> Effects:
        """The process that the run had for itself was killed, by us."""
        if self.state is RunState.CANCELLING:
            self.stopping.reach(StopStage.KILL)
        return self.died("its process was killed by the server", at)

    def overruled(self, stop: Cancellation) -> Finish:
        """The run has ended, but its store knows of a stop that was accepted before, elsewhere.

        Nobody has seen the end, and the store has refused it: the run ends CANCELLED instead.
        """
        self.stopping.cancellation = stop
        self.stopping.reach(StopStage.ASK)
        self.error = None
        self.state_before, self.state = RunState.CANCELLING, RunState.CANCELLED
        return Finish(self.terminal_event(), self.output)

    def _is_stale(self, assignment: int | None) -> bool:
        return assignment is not None and assignment != self.assignment

    def _end(self, transition: Transition, at: Moment, error: RunError | None = None) -> Effects:
        """The one place where a run ends that has begun, or that fails."""
        finish = self._finish(transition, at, error)
        return (*finish, *self.pausing.drop(), Ended())

    def _finish(self, transition: Transition, at: Moment, error: RunError | None) -> Effects:
        paused = self.state is RunState.PAUSED  # a task that the code has left behind asks
        before = advance(self.state, Transition.CONTINUE) if paused else self.state
        state = advance(before, transition)
        closed = [Note(call) for call in self.ledger.close()]
        # Set before the state: a reader who sees that the run has ended finds the rest.
        self.end_time = at.time
        if state is RunState.FAILED:
            self.error = error or RunError("Unknown")
        stops = state is RunState.CANCELLED
        self.state_before = RunState.CANCELLING if stops else before
        self.state = state
        return (*closed, Finish(self.terminal_event(), self.output), *self.timers.disarm_all())
