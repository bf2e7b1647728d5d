"""One live run: its state, its ledger, its timers, and every decision about them.

Each decision is made in one synchronous step under the run's lock, which returns or leaves behind
what is now to be done; the doing (telling the code, calling back) comes after the lock is let go.
How code is executed is `execution`'s, who may run is the engine's.

When completion and a cancel race, the one that takes the lock first wins: a cancel that was
accepted makes whatever end comes later CANCELLED, and one that comes after the end is told so.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from pullcord.engine.clock import Clock, Timer
from pullcord.engine.ledger import Ledger, short
from pullcord.engine.log import EventLog
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import CancelRequest
from pullcord.engine.presence import Presence
from pullcord.engine.question import Question, decided, digest
from pullcord.engine.watch import Watcher
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.context import Child
from pullcord.run.errors import RunCancelledError, RunNotPaused
from pullcord.run.events import (
    CancelRequested,
    Payload,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunError,
    RunFailed,
    RunPaused,
    RunStarted,
    Source,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.port import Began, Execution
from pullcord.run.record import Decision, DisconnectPolicy, Receipt, Run, RunSpec
from pullcord.run.runnable import Runnable, RunnableInfo
from pullcord.run.state import RunState, Transition, advance
from pullcord.run.usage import Usage

_log = logging.getLogger("pullcord.live")

Data = Mapping[str, Any] | None
StartChild = Callable[["LiveRun", Runnable, RunnableInfo, str, Data, tuple[str, ...]], Child]


class Beneath(Protocol):
    """A run beneath another, as that one sees it."""

    def stop_from_above(self, cancellation: Cancellation) -> None:
        """The run above is to stop."""

    def left_behind(self) -> None:
        """The run above has ended."""


class LiveRun:
    """The one owner of a run's mutable state. Every method may be called from any thread."""

    def __init__(
        self,
        spec: RunSpec,
        *,
        options: EngineOptions,
        clock: Clock,
        policy: DisconnectPolicy,
        on_end: Callable[["LiveRun"], None],
        on_abandon: Callable[["LiveRun", str], None],
        history: Callable[[], list[Run]],
        on_release: Callable[[], None],
        start_child: StartChild,
        parent_run_id: str = "",
    ) -> None:
        self.spec = spec
        self.run_id = spec.run_id
        self.deadline: float | None = None
        """When it will be stopped for lack of time, on the clock's monotonic scale."""
        self.log = EventLog(
            options.max_log_bytes,
            options.max_log_records,
            options.max_output_bytes,
            self._output_full,
        )
        self._options = options
        self._clock = clock
        seconds = spec.lease if spec.lease is not None else options.lease
        self.presence = Presence(policy, seconds, clock, self._disconnected)
        self._on_end = on_end
        self._on_abandon = on_abandon
        self._history = history
        self._on_release = on_release
        self._start_child = start_child
        self.grace: float | None = None
        """The grace period that its cancel asked for; None: the default."""
        self.abandon_after = options.abandon_after
        """How long after IMMEDIATE it is abandoned, as its cancel says."""
        self._children: set[Beneath] = set()
        self.beneath = 0
        """Live runs beneath it, at any depth, if it is not beneath another itself."""
        self._parent_run_id = parent_run_id
        self._lock = threading.RLock()
        self._state = RunState.PENDING
        self._cancellation: Cancellation | None = None
        self._error: RunError | None = None
        self._usage = Usage()
        self._output: str | None = None
        self._output_data: Mapping[str, Any] | None = None
        self._question: Question | None = None  # set in state PAUSED, and only then
        self.decided = ""
        """The digest of the decisions by which it went on last; empty: of none."""
        self._ledger = Ledger(options.max_ledger)
        self._create_time = clock.time()
        self._start_time = self._end_time = self._deliver_time = 0.0
        self._abandoned = False
        self._timers: list[Timer] = []
        self._ended = threading.Event()
        self._end_callbacks: list[Callable[[], None]] = []
        self.execution: Execution | None = None
        self._begin(RunStarted(spec.runnable, spec.session_id, parent_run_id), None)

    # --- reading

    @property
    def state(self) -> RunState:
        """Where the run is in its life."""
        return self._state

    @property
    def root(self) -> "LiveRun":
        """The run at the top of its tree."""
        return self

    @property
    def depth(self) -> int:
        """How many runs are above it."""
        return 0

    @property
    def cancellation(self) -> Cancellation | None:
        """The stop that was accepted, if one was."""
        return self._cancellation

    @property
    def deliver_time(self) -> float:
        """When the run's code was told to stop; 0: it was not."""
        return self._deliver_time

    def snapshot(self, *, with_output: bool = True) -> Run:
        """The run as it is now."""
        spec = self.spec
        with self._lock:
            output, sequence = self.log.output() if with_output else ("", self.log.last_sequence)
            if with_output and (self._state.is_terminal or not output):
                output = self._output or ""
            return Run(
                run_id=self.run_id,
                runnable=spec.runnable,
                state=self._state,
                session_id=spec.session_id,
                user_id=spec.user_id,
                parent_run_id=self._parent_run_id,
                input=spec.input,
                cancellation=self._cancellation,
                output=output,
                output_data=self._output_data,
                error=self._error,
                usage=self._usage,
                tool_calls=self._ledger.calls(),
                labels=spec.labels,
                create_time=self._create_time,
                start_time=self._start_time,
                end_time=self._end_time,
                expire_time=self._end_time + self._options.retention if self._end_time else 0.0,
                last_sequence=sequence,
                abandoned=self._abandoned,
            )

    def adopt(self, child: Beneath) -> None:
        """From now on a stop of this run, or its end, is told to that one; at once, if it is past.

        Not by the token's callbacks, which are an author's and may take their time.
        """
        with self._lock:
            standing, over = self._cancellation, self._state.is_terminal
            self._children.add(child)
        if standing is not None:
            child.stop_from_above(standing)
        if over:
            child.left_behind()

    def let_go(self, child: Beneath) -> None:
        """Takes back `adopt`: the run beneath has ended."""
        with self._lock:
            self._children.discard(child)

    def on_end(self, callback: Callable[[], None]) -> None:
        """Calls back once the run has ended, in any thread; at once if it has."""
        with self._lock:
            if not self._state.is_terminal:
                self._end_callbacks.append(callback)
                return
        callback()

    def forget_end(self, callback: Callable[[], None]) -> None:
        """Takes back `on_end`: who waited has gone."""
        with self._lock:
            if callback in self._end_callbacks:
                self._end_callbacks.remove(callback)

    # --- the life of a run

    def attach(self, execution: Execution) -> None:
        """From now on stops go to this execution."""
        self.execution = execution

    def began(self, then: Callable[[Began | None], None]) -> None:
        """The executor is about to call the run's code; None if the run has been stopped."""
        then(Began(self.deadline) if self._began() else None)

    def _began(self) -> bool:
        with self._lock:
            if self._state is not RunState.PENDING:
                return False
            self._state = advance(self._state, Transition.START)
            self._start_time = self._clock.time()
            timeout = self.spec.limits.timeout
            if self._options.max_timeout is not None:
                timeout = min(timeout or self._options.max_timeout, self._options.max_timeout)
            if timeout is not None:
                ends = self._clock.monotonic() + timeout
                self.deadline = min(self.deadline or ends, ends)
                self._timers.append(
                    self._clock.call_later(timeout, lambda: self._budget("timeout"))
                )
        return True

    def stop_at(self, deadline: float, margin: float) -> None:
        """Sees to it that the run has ended by `deadline` (monotonic), from `margin` before."""
        third = margin / 3
        stop = Cancellation(CancelCause.DEADLINE, reason="the caller's deadline is near")

        def begin() -> None:
            self._cancel(CancelRequest(stop, third), third)
            # Also where an earlier cancel stands, whose waits are longer.
            self._later(third, lambda: self._cancel(CancelRequest(stop.hastened()), third))
            self._later(2 * third, self._abandon)

        self.deadline = deadline - margin
        self._later(max(0.0, deadline - margin - self._clock.monotonic()), begin)

    def cancel(self, request: CancelRequest) -> Receipt:
        """Accepts a stop, if the run has not ended; the receipt is true when this returns."""
        self._cancel(request, self._options.abandon_after)
        return self.receipt()

    def receipt(self) -> Receipt:
        """What a canceller can be told now."""
        with self._lock:
            run = self.snapshot()
            if run.state is RunState.CANCELLED:
                outcome = CancelOutcome.STOPPED
            elif run.state.is_terminal:
                outcome = CancelOutcome.ALREADY_FINISHED
            else:
                outcome = CancelOutcome.REQUESTED
            accepted = run.cancellation.accept_time if run.cancellation else 0.0
            return Receipt(outcome, run, accepted, self._deliver_time, self._end_time)

    def delivered(self) -> None:
        """The run's code has been told to stop."""
        if not self._deliver_time:
            self._deliver_time = self._clock.time()

    def ended(self, error: BaseException | None) -> None:
        """The run's code has ended, by returning or by raising."""
        # Not under the lock: an exception's words may be code of an author's.
        failure = None if error is None else RunError.of(error)
        nobodys = error is not None and issubclass(type(error), (RunCancelledError, StopIteration))
        if error is None and self.log.is_full():
            self._budget("output_bytes")  # it was quicker than the stop that is on its way
        with self._lock:
            cancelled = self._state is RunState.CANCELLING
            if cancelled:
                self.delivered()  # the code may have seen the token before anybody told it
            if failure is not None and nobodys and not cancelled:
                words = f"{failure.type} was raised in a run that nobody cancelled"
                failure = RunError(RuntimeError.__name__, words)
            asked = self._drop_question()
            if asked is not None:  # a task that the code has left behind asks
                self._state = advance(self._state, Transition.CONTINUE)
            self._finish(Transition.COMPLETE if error is None else Transition.FAIL, failure)
        self._after_end()
        if asked is not None:
            asked.settle(None)

    def refuse(self, error: BaseException) -> None:
        """The run was not admitted after all. Who has come to follow it meanwhile is told."""
        failure = RunError.of(error)
        with self._lock:
            self._on_end = lambda _: None
            self._finish(Transition.FAIL, failure)
        self._after_end()

    # --- the run's code speaks (Sink)

    @property
    def write(self) -> Callable[[str], None]:
        """Adds a content delta of the run's own runnable: the log's own method, the hot path."""
        return self.log.write

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a delta of whoever `source` says."""
        self.log.write_as(text, source, reasoning)

    def emit(self, payload: Payload, source: Source | None) -> None:
        """Adds any other event."""
        self._append(payload, source)

    def relay(self, payload: Payload, source: Source | None) -> None:
        """Adds what the run elsewhere tells that does this run's work."""
        with self._lock:
            if isinstance(payload, ToolCallStarted | ToolCallCompleted):
                call = payload.tool_call
                if source is not None and not call.run_id and source.run_id != self.run_id:
                    call = replace(call, run_id=source.run_id)
                self._enter(call, begins=isinstance(payload, ToolCallStarted))
            self._append(payload, source)

    def begin(self, payload: Payload, source: Source | None) -> None:
        """Adds the event that something begins; raises RunCancelledError if the run is to stop.

        One step under the lock, as is the acceptance of a cancel: nothing begins after that.
        """
        try:
            self._begin(payload, source)
        except RunCancelledError:
            self._refused()
            raise

    def _begin(self, payload: Payload, source: Source | None) -> None:
        with self._lock:
            self._must_go_on()
            self._append(payload, source)

    def _refused(self) -> None:
        """Something could not begin. No lock is held."""

    def set_output(self, output: str | None, output_data: Mapping[str, Any] | None) -> None:
        """Replaces what the deltas came to."""
        with self._lock:
            if not self._state.is_terminal:
                self._output = self._output if output is None else output
                self._output_data = self._output_data if output_data is None else output_data

    def usage(self) -> Usage:
        """What the run has used so far."""
        return self._usage

    def use(self, usage: Usage) -> None:
        """Adds to the usage, and stops the run where that reaches a limit."""
        with self._lock:
            if self._state.is_terminal:
                return
            self._usage += usage
            limit = self.spec.limits.reached_by(self._usage)
        if limit:
            self._budget(limit)

    def settle(self) -> None:
        """Nothing: every call here has done its work when it returns."""

    def stop(self, cancellation: Cancellation) -> None:
        """Accepts a stop that the run's own code asks for."""
        self._cancel(CancelRequest(cancellation), self._options.abandon_after)

    def tool_started(self, call: ToolCall) -> ToolCall:
        """Enters a call into the ledger; returns it with its time."""
        call = replace(call, start_time=self._clock.time())
        try:
            with self._lock:
                self._begin(ToolCallStarted(call), None)
                self._enter(call, begins=True)
        except RunCancelledError:
            self._refused()
            raise
        return call

    def tool_ended(self, call: ToolCall) -> None:
        """Replaces the ledger's entry of the same id, unless the run has ended without it."""
        call = replace(call, end_time=self._clock.time())
        with self._lock:
            if self._state.is_terminal:
                return
            self._enter(call)
            self._append(ToolCallCompleted(call))

    async def ask(self, question: str, calls: Sequence[ToolCall]) -> tuple[Decision, ...]:
        """Pauses the run until somebody has decided about these calls."""
        asked = Question(question, calls)
        try:
            while (other := self._pause(asked)) is not None:
                await other.wait()
        except RunCancelledError:
            self._refused()
            raise
        try:
            decisions = await asked.wait()
        except BaseException:
            self._take_back(asked)
            raise
        if decisions is None:
            raise RunCancelledError("the run has ended, and nobody will decide any more")
        return decisions

    def _pause(self, asked: Question) -> Question | None:
        """Asks, or returns the question that is asked already."""
        with self._lock:
            self._must_go_on()
            if self._question is not None:
                return self._question
            now = self._clock.time()
            waiting = tuple(
                replace(call, state=ToolCallState.WAITING, start_time=now) for call in asked.calls
            )
            self._begin(RunPaused(asked.words, waiting), None)
            self._state = advance(self._state, Transition.PAUSE)
            self._question = asked
            for call in waiting:
                self._enter(call, begins=True)
        return None

    def decide(self, decisions: Sequence[Decision], actor: str) -> Run:
        """Lets the run go on, if it waits for just these decisions; returns it as it then is.

        Raises:
            RunNotPaused, InvalidArgument: nothing was changed.
        """
        with self._lock:
            asked = self._question
            if asked is None or self._state is not RunState.PAUSED:
                raise RunNotPaused(self.run_id, self._state, self.decided == digest(decisions))
            made = asked.in_order(decisions)
            try:
                self._begin(RunContinued(actor), None)
            except RunCancelledError:  # something above is to stop, and this run is about to hear
                raise RunNotPaused(self.run_id, RunState.CANCELLING) from None
            self.decided = digest(decisions)
            self._go_on(asked, made)
            run = self.snapshot()
        asked.settle(made)
        return run

    def _take_back(self, asked: Question) -> None:
        """Whoever asked waits no longer, though the run may go on: a time-out of the author's."""
        with self._lock:
            if self._question is not asked:
                return
            self._append(RunContinued())
            self._go_on(asked, [Decision(call.tool_call_id) for call in asked.calls])
        asked.settle(None)

    def _go_on(self, asked: Question, made: Sequence[Decision]) -> None:
        self._state = advance(self._state, Transition.CONTINUE)
        self._question = None
        now = self._clock.time()
        for asked_for, decision in zip(asked.calls, made, strict=True):
            waiting = self._ledger.find(asked_for) or asked_for
            call = short(decided(waiting, decision, now))
            self._enter(call)
            if call.state is not ToolCallState.WAITING:
                self._append(ToolCallCompleted(call))

    def _drop_question(self) -> Question | None:
        """Nobody may decide any more; what is returned is to be settled."""
        asked, self._question = self._question, None
        return asked

    def start(
        self,
        runnable: Runnable,
        info: RunnableInfo,
        input: str,
        data: Data,
        path: tuple[str, ...],
    ) -> Child:
        """Starts a run beneath this one."""
        try:
            return self._start_child(self, runnable, info, input, data, path)
        except RunCancelledError:
            self._refused()
            raise

    def history(self) -> list[Run]:
        """The session's ended runs of the same runnable, oldest first."""
        return self._history()

    def watch(self, after_sequence: int) -> Watcher:
        """A new watcher; while there is one, the disconnect policy rests."""
        self.presence.come()
        return Watcher(self.run_id, self.log, after_sequence, self.snapshot, self.presence.leave)

    # --- stopping

    def _disconnected(self, reason: str) -> None:
        self.cancel(CancelRequest(Cancellation(CancelCause.DISCONNECT, reason=reason)))

    def _budget(self, limit: str) -> None:
        reason = f"the limit {limit} was reached"
        self.cancel(CancelRequest(Cancellation(CancelCause.BUDGET, reason=reason, limit=limit)))

    def _output_full(self) -> None:
        # Called under the log's lock by whoever wrote: the cancel must come from outside.
        self._clock.call_later(0, lambda: self._budget("output_bytes"))

    def _cancel(self, request: CancelRequest, abandon_after: float) -> None:
        cancellation = request.cancellation
        if not cancellation.accept_time:  # else it was accepted before its run came
            cancellation = replace(cancellation, accept_time=self._clock.time())
        immediate = cancellation.mode is CancelMode.IMMEDIATE
        with self._lock:
            if self._state.is_terminal:
                return
            pending = self._state is RunState.PENDING
            standing = self._cancellation
            if standing is not None:
                if not immediate or standing.mode is CancelMode.IMMEDIATE:
                    return  # the first one stands, and there is nothing to hasten
                self._cancellation = standing.hastened()
            else:
                self._cancellation = cancellation
                self.grace = request.grace_period
            self.abandon_after = abandon_after
            asked = self._drop_question()
            self._append(CancelRequested(self._cancellation))
            children = list(self._children)
            if pending:
                self._finish(Transition.CANCEL, None)
            else:
                self._state = advance(self._state, Transition.CANCEL)
                if immediate:
                    next_step = self._clock.call_later(abandon_after, self._abandon)
                else:
                    default = self._options.grace_period
                    waits = default if self.grace is None else self.grace
                    hasten = CancelRequest(self._cancellation.hastened())
                    next_step = self._clock.call_later(
                        waits, lambda: self._cancel(hasten, abandon_after)
                    )
                self._timers.append(next_step)
            told = self._cancellation
        # After the lock is released: an execution may call back.
        execution, grace = self.execution, self.grace
        if execution is not None and not pending:
            execution.stop(told, grace)
        for child in children:
            child.stop_from_above(told)
        if asked is not None:
            asked.settle(None)
        if pending:
            if execution is not None:
                execution.drop()
            self._after_end()

    def stuck(self) -> None:
        """The stop cannot be delivered, because other code blocks the run's event loop."""
        self._abandon()

    def released(self) -> None:
        """The code holds no thread and no task any more."""
        self._on_release()

    def _later(self, delay: float, callback: Callable[[], None]) -> None:
        """A timer of this run's; once the run has ended, none is left."""
        with self._lock:
            if not self._state.is_terminal:
                self._timers.append(self._clock.call_later(delay, callback))

    def _abandon(self) -> None:
        with self._lock:
            if self._state is not RunState.CANCELLING:
                return
            self._abandoned = True
            self._finish(Transition.COMPLETE, None)
        self._on_abandon(self, self.execution.abandon() if self.execution is not None else "")
        self._after_end()

    def _finish(self, transition: Transition, error: RunError | None) -> None:
        """The one place where a run ends. Under the lock; a second end changes nothing."""
        if self._state.is_terminal:
            return
        state = advance(self._state, transition)
        for call in self._ledger.close():
            self._enter(call)
        text, _ = self.log.output()
        if self._output is not None and (state is RunState.COMPLETED or not text):
            output = self._output
        else:
            output = text  # what was said to be the result was not all of it
        self._output = output
        calls = self._ledger.calls()
        payload: Payload
        if state is RunState.CANCELLED:
            assert self._cancellation is not None
            payload = RunCancelled(
                self._cancellation, output, self._output_data, self._usage, calls, self._abandoned
            )
        elif state is RunState.FAILED:
            self._error = error or RunError("Unknown")
            payload = RunFailed(
                self._error, output, self._usage, calls, output_data=self._output_data
            )
        else:
            payload = RunCompleted(output, self._output_data, self._usage, calls)
        # The time is set before the event: whoever has seen the event finds the time.
        self._end_time = self._clock.time()
        self._state = state
        self._append(payload, last=True)
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.presence.end()

    def _must_go_on(self) -> None:
        if self._cancellation is not None or self._state.is_terminal:
            raise RunCancelledError("the run is to stop, or has ended: nothing more begins")

    def _append(
        self, payload: Payload, source: Source | None = None, *, last: bool = False
    ) -> bool:
        """The one place where events enter the log; deltas go their own, quicker way."""
        return self.log.append(payload, source, last=last)

    def _enter(self, call: ToolCall, *, begins: bool = False) -> None:
        """Enters a call into the ledger, or what has become of it."""
        with self._lock:
            if not self._state.is_terminal:
                if begins:
                    self._ledger.begin(call)
                else:
                    self._ledger.enter(call)

    def _after_end(self) -> None:
        with self._lock:
            if self._ended.is_set() or not self._state.is_terminal:
                return
            self._ended.set()
            callbacks, self._end_callbacks = self._end_callbacks, []
            left = [child.left_behind for child in self._children]
        for callback in (lambda: self._on_end(self), *callbacks, *left):
            try:
                callback()
            except Exception:
                _log.exception("a callback at the end of run %s raised", self.run_id)
