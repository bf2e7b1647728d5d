"""One live run: the lock around its machine, and the doing of what the machine decides.

Each decision is made in one synchronous step under the run's lock, together with what must be one
step with it: what enters the log, and which timers are armed. All else (stopping the code, calling
back) is done after the lock is released, in one function. The rules are the machine's, the code is
the execution's, and who may run is the engine's.

When completion and a cancel race, the one that takes the lock first wins: a cancel that was
accepted makes whatever end comes later CANCELLED; one that comes after the end changes nothing, and
its receipt says ALREADY_FINISHED.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, assert_never
from weakref import WeakSet

from pullcord.engine.aside import each
from pullcord.engine.clock import Clock
from pullcord.engine.live import effects as do
from pullcord.engine.live import tree
from pullcord.engine.live.alarms import Alarms
from pullcord.engine.live.carried import Carried, Pause
from pullcord.engine.live.ending import Ending
from pullcord.engine.live.facts import Standing
from pullcord.engine.live.lineage import Kin, Lineage
from pullcord.engine.live.machine import RunMachine
from pullcord.engine.live.presence import Presence
from pullcord.engine.live.question import Question
from pullcord.engine.live.rules import Rules
from pullcord.engine.live.stopping import PARENT_ENDED
from pullcord.engine.log.log import EventLog
from pullcord.engine.log.numbered import UNBOUNDED
from pullcord.engine.log.watch import Watcher
from pullcord.engine.options import EngineOptions
from pullcord.engine.start import Start
from pullcord.run.cancel import CancelCause, Cancellation, CancelRequest
from pullcord.run.errors import RunCancelledError, RunNotPaused
from pullcord.run.events import (
    RunError,
    RunPaused,
    RunStarted,
    Source,
)
from pullcord.run.outcomes import with_pauses
from pullcord.run.port import Execution
from pullcord.run.record import Decision, DisconnectPolicy, Receipt, Run, RunSpec
from pullcord.run.resumed import HandedOver
from pullcord.run.scope import LOCAL, Scope
from pullcord.run.state import RunState

Key = tuple[Scope, str]
"""What names a run in one process: whose it is, and its id."""


class LiveRun:
    """The one owner of a run's mutable state. Every method may be called from any thread."""

    def __init__(
        self,
        spec: RunSpec,
        *,
        scope: Scope = LOCAL,
        options: EngineOptions,
        clock: Clock,
        policy: DisconnectPolicy,
        on_end: Callable[["LiveRun"], None],
        on_abandon: Callable[["LiveRun", str], None],
        parent: "LiveRun | None" = None,
        source: Source | None = None,
        reserved: int = UNBOUNDED,
        holds_end: bool = False,
        create_time: float = 0.0,
        ask_others: "Callable[[LiveRun, Callable[[], None]], None] | None" = None,
        is_fenced: Callable[[], bool] | None = None,
        go_on: "Callable[[LiveRun], None] | None" = None,
    ) -> None:
        """`source` says who the run is in its parent's stream; None: it is not heard there.

        `reserved`: no event above it is shown, until the log is told of more. `holds_end`: the end
        is shown once `kept` is called. `create_time`: 0 is now. `ask_others` calls back
        if nobody watches the run at other processes either. `is_fenced`: whether other processes
        may end the run now, so that no event of it is shown. `go_on` executes a run anew that has
        waited without code.
        """
        self.scope = scope
        self.spec = spec
        self.run_id = spec.run_id
        self.key: Key = (scope, spec.run_id)
        self.lock = threading.RLock()
        self._options = options
        self._clock = clock
        self._on_end = on_end
        self._on_abandon = on_abandon
        self.log = EventLog(
            options.max_log_bytes,
            options.max_log_records,
            options.max_output_bytes,
            self._output_full,
            visible=reserved,
            holds_end=holds_end,
            is_fenced=is_fenced,
        )
        now = self.now()
        self.machine: RunMachine = RunMachine(
            spec.run_id,
            Rules(spec.limits, options),
            do.Moment(create_time or now.time, now.monotonic),
            None if parent is None else parent.machine.deadline,
        )
        self.ending = Ending(self.lock, self.machine, self.log, is_held=holds_end)
        self.lineage = Lineage(self, parent, source)
        seconds = spec.lease if spec.lease is not None else options.lease
        self.presence = Presence(policy, seconds, clock, self._alone)
        self.execution: Execution | None = None
        """What executes its code; None: nothing yet, or it has ended and nothing is left of it."""
        self._is_released = False
        self._alarms = Alarms(clock, self._fired)
        self.is_durable = holds_end
        """Whether its store outlives the process."""
        self.max_continuation = options.max_continuation_bytes
        self._ask_others = ask_others
        self._go_on = go_on
        self._deciding = 0
        self.start: Start | None = None
        """How it was started; its code is executed so, also when it goes on. None: as a child."""
        self.trace: Mapping[str, str] = {}
        """What carries its trace to a process that goes on with it; empty: it has none."""
        self.rests = False
        """Whether it waits, for a decision or for children, without any code and so without an
        executor."""
        self.is_put_down = False
        """Whether it waits on in its store only."""
        self.beside: Callable[[], None] | None = None
        """Executes it beside its parent's code; None: that has not started it, or not again."""
        self.departed: dict[str, Run] = {}
        """Children that have ended and that its code, which is executed anew, may ask for."""
        self.children_come = False
        """Whether children are still to be taken up here."""
        self._watchers: WeakSet[Watcher] | None = None

    # --- reading

    @property
    def state(self) -> RunState:
        """Where the run is in its life."""
        return self.machine.state

    @property
    def cancellation(self) -> Cancellation | None:
        """The stop that was accepted, if one was."""
        return self.machine.cancellation

    def snapshot(self, *, with_output: bool = True) -> Run:
        """The run as others may see it now."""
        with self.lock:
            if self.ending.stands is not None:
                return self.ending.stands
            if with_output:
                output, sequence = self.log.output()
            else:
                output, sequence = "", self.log.last_shown()
            if with_output and self.ending.said is not None and self.ending.is_shown:
                output = self.ending.said.output
            elif with_output:
                output = output or self.machine.output or ""
            run = self.machine.run(
                self.scope, self.spec, self.lineage.parent_run_id, output, sequence
            )
            run = self.machine.before_end(run) if self.ending.is_held else run
            return run if run.output_data is None else self._with_pauses(run, run.output_data)

    def _with_pauses(self, run: Run, data: Mapping[str, Any]) -> Run:
        """Its code, which lists its children, does not learn that one of them waits."""
        children = self.lineage.children()
        paused = {one.run_id for one in children if one.machine.state is RunState.PAUSED}
        return replace(run, output_data=with_pauses(data, paused)) if paused else run

    def as_decided(self) -> Run:
        """The run as its store and its parent see it: with its end, held or not."""
        with self.lock:
            if (end := self.ending.said) is None or self.ending.is_shown:
                return self.snapshot()
            sequence = self.log.last_sequence
            parent = self.lineage.parent_run_id
            return self.machine.run(self.scope, self.spec, parent, end.output, sequence)

    def receipt(self) -> Receipt:
        """The answer to a canceller as of now."""
        with self.lock:
            return self.machine.receipt(self.snapshot())

    def watch(self, after_sequence: int, *, is_guest: bool = False) -> Watcher:
        """A new watcher; while there is one, the disconnect policy rests.

        A guest may not stop the run, and so its coming and leaving mean nothing.
        """
        if not is_guest:
            self.presence.come()
        watcher = Watcher(
            self.run_id,
            self.log,
            after_sequence,
            self.snapshot,
            _nothing if is_guest else self.presence.leave,
            lambda: self.machine.usage,
        )
        with self.lock:
            self._watchers = self._watchers or WeakSet()
            self._watchers.add(watcher)
        return watcher

    def watch_lag(self) -> int:
        """The number of events that the slowest watcher has not taken; 0: nobody watches."""
        if self._watchers is None:
            return 0
        with self.lock:
            places = [one.after_sequence for one in self._watchers if one.is_open]
        return max(0, self.log.made - min(places)) if places else 0

    # --- the life of a run

    def announce(self, enter: Callable[[], None]) -> None:
        """The run's first event, once `enter` has made it findable: a reader of it finds the run.

        Raises what `enter` does, and what `Lineage.join` does; nothing was changed then.
        """
        options, spec = self._options, self.spec
        started = RunStarted(spec.runnable, spec.session_id, self.lineage.parent_run_id)
        with self.lineage.locked():
            self.lineage.join(enter, options.max_runs_beneath, options.max_depth)
            self._do_at_once(self.machine.admitted(started))
        parent = self.lineage.parent
        if parent is not None and (stop := parent.machine.cancellation) is not None:
            self.stop_with_parent(stop)

    def take_up(self, carried: Carried, enter: Callable[[], None]) -> None:
        """The run waits on here, whose process is gone; it can be found once `enter` returns.

        Raises what `enter` does; nothing was changed then.
        """
        pause, options = carried.pause, self._options
        waits_for: Question | Standing = (
            Question(carried.question, carried.calls, pause.continuation, sequence=pause.sequence)
            if carried.calls
            else Standing(pause.continuation, pause.children, pause.sequence)
        )
        with self.lineage.locked():
            self.lineage.join(enter, options.max_runs_beneath, options.max_depth, again=True)
            self.rests = True
            self.children_come = bool(pause.children)
            self.log.take_up(carried.records, carried.content, pause.sequence)
            left = pause.left.after(carried.elapsed)
            self._do_at_once(self.machine.take_up(pause, waits_for, left, self.now()))

    def rest_alone(self) -> bool:
        """The run waits on without its code, whatever becomes of the others of its tree."""
        with self.lock:
            if not self.rests and not self.machine.rest(self.machine.assignment):
                return False
            self.rests = True
            self.execution = self.beside = None
            return True

    def pause(self) -> Pause | None:
        """What its store must have, so that the pause outlives this process; None: it cannot."""
        with self.lock:
            machine = self.machine
            asked, stands = machine.question, machine.standing
            children: tuple[str, ...] = ()
            if asked is not None:
                if asked.continuation is None:
                    return None
                sequence, continuation = asked.sequence, asked.continuation
            elif stands is not None and stands.holds and machine.state is RunState.RUNNING:
                sequence, continuation = stands.sequence, stands.continuation
                children = stands.children
            else:
                return None
            run = self.snapshot(with_output=False)
            run = replace(run, output=machine.output or "", output_data=machine.output_data)
            left, source = machine.time_left(self.now()), self.lineage.source
            steps = machine.steps.open()
            return Pause(sequence, continuation, run, left, self.trace, children, source, steps)

    def wake(self) -> None:
        """Executes the run anew, if it waits for children without code, and one of them does not
        wait any more."""
        with self.lock:
            if not self.rests or self.is_put_down or not self.machine.wake():
                return
        if self._go_on is not None:
            self._go_on(self)

    def child_ended(self, child: Kin) -> None:
        """A child has ended: if there is no code that waits for it, it must come to life; or end,
        if it must stop."""
        if not self.state.is_terminal and (self.rests or self.machine.resumed):
            run = child.as_decided()  # under its own lock, which is not taken under this one
            with self.lock:
                self.departed[run.run_id] = run
        if self.cancellation is not None:
            self._end_last()
        else:
            self.wake()

    def _end_last(self) -> None:
        if not self.children_come and not self.lineage.children():
            self.act(lambda at: self.machine.childless(at, self.departed))

    def children_came(self) -> None:
        """All of its children wait on here that had not ended."""
        self.children_come = False
        if self.cancellation is not None:
            self._end_last()

    def attach(self, execution: Execution) -> None:
        """Attaches the execution that stops are delivered to."""
        with self.lock:
            self.machine.stopping.kill_after = execution.kill_after
            self.execution = execution
            self.rests = self._is_released = False

    def released(self) -> None:
        """Its code holds nothing any more."""
        with self.lock:
            self._is_released = True
            self._forget_code()

    def _forget_code(self) -> None:
        # The execution holds the run: both would live until somebody looks for garbage.
        if self._is_released and self.state.is_terminal:
            self.execution = None

    def fail(self, error: BaseException) -> None:
        """The run cannot begin."""
        failure = RunError.of(error)
        self.act(lambda at: self.machine.refused(failure, at))

    def refuse(self, error: BaseException) -> None:
        """The run was not admitted after all. Watchers who came meanwhile see that."""
        with self.lock:
            self._on_end = lambda _: None
        self.fail(error)
        self.ending.kept()

    @property
    def is_deciding(self) -> bool:
        """Whether a decision about it is being recorded."""
        return self._deciding > 0

    def put_down(self) -> None:
        """The run waits on in its store, for another process: nothing here stops it any more, or
        lets it go on."""
        with self.lock:
            self.is_put_down = True
            self.machine.pausing.question = None
            self._on_end = lambda _: None
            self.presence.end()
            self._do_at_once(tuple(self.machine.timers.disarm_all()))

    def overrule(self, stop: Cancellation) -> None:
        """The store refused the end that is held: a stop was accepted elsewhere before it."""
        with self.lock:
            self.ending.replace(stop, self.machine.overruled(stop).made)

    def decide(self, decisions: Sequence[Decision], actor: str) -> Run:
        """Lets the run go on, if it waits for just these decisions; returns it as it then is.

        Raises:
            RunNotPaused, InvalidArgument: nothing was changed.
        """
        with self.lineage.locked():
            if self.machine.question is not None:
                try:
                    self.lineage.must_go_on()
                except RunCancelledError:  # a parent must stop, and this is about to hear of it
                    raise RunNotPaused(self.run_id, RunState.CANCELLING) from None
            after = self._do_at_once(self.machine.decide(decisions, actor, self.now()))
            run = self.snapshot()
        self._do_afterwards(after)
        return run

    @contextmanager
    def deciding(self, decisions: Sequence[Decision]) -> Iterator[int]:
        """While a decision is being recorded, the run is not put down; the number of its question.

        Raises as `decide` does.
        """
        with self.lock:
            asked = self.machine.question_for(decisions)
            self._deciding += 1
        try:
            yield asked.sequence
        finally:
            with self.lock:
                self._deciding -= 1

    # --- stopping

    def cancel(self, request: CancelRequest) -> Receipt:
        """Accepts a stop, if the run has not ended; the receipt is true when this returns."""
        self.stop(request)
        return self.receipt()

    def stop(self, request: CancelRequest) -> None:
        """The same without a receipt."""
        self.act(lambda at: self.machine.cancel(request, at))

    def break_off(self, error: RunError) -> None:
        """Fails the run now, whatever its code does, which is interrupted."""
        self.act(lambda at: self.machine.broken_off(error, at))

    def stop_at(self, deadline: float, margin: float) -> None:
        """Sees to it that the run has ended by `deadline` (monotonic), from `margin` before."""
        self.act(lambda at: self.machine.stop_at(deadline, margin, at))

    def stop_with_parent(self, cancellation: Cancellation) -> None:
        """The parent must stop, and so must this, cause PARENT, a little sooner."""
        assert self.lineage.parent is not None
        request, abandon_after = self.lineage.parent.machine.stopping.for_child(cancellation)
        self.act(lambda at: self.machine.cancel(request, at, abandon_after))

    def parent_ended(self) -> None:
        """The parent has ended, and so must this."""
        self.act(lambda at: self.machine.cancel(PARENT_ENDED, at))

    def _alone(self, reason: str) -> None:
        stop = Cancellation(CancelCause.DISCONNECT, reason=reason)

        def cancel() -> None:
            if not self.presence.watchers:
                self.act(lambda at: self.machine.cancel(CancelRequest(stop), at))

        if self._ask_others is None:
            cancel()
        else:
            self._ask_others(self, cancel)

    def _output_full(self) -> None:
        # Called under the log's lock by the writer: the stop must come from outside.
        stop = partial(self.act, lambda at: self.machine.reached("output_bytes", at))
        self._clock.call_later(0, stop)

    # --- deciding, and doing what was decided

    def now(self) -> do.Moment:
        """This moment."""
        return do.Moment(self._clock.time(), self._clock.monotonic())

    def act(self, rule: do.Rule) -> None:
        """Asks the machine, and does what it decides."""
        self._do_afterwards(self.step(rule))

    def step(self, rule: do.Rule) -> list[do.Afterwards]:
        """Asks the machine, and does what must be one step with that; returns the rest."""
        with self.lock:
            return self._do_at_once(rule(self.now()))

    def begin(self, rule: do.Rule) -> None:
        """Something begins, in one step with every parent's consent: the cancel of any of them is
        accepted before it, or after it. Raises RunCancelledError."""
        try:
            with self.lineage.locked():
                self.lineage.must_go_on()
                after = self._do_at_once(rule(self.now()))
        except RunCancelledError:
            self.lineage.refused()
            raise
        self._do_afterwards(after)

    def _do_at_once(self, effects: do.Effects) -> list[do.Afterwards]:
        """Does what must be one step with the decision, under the lock; returns the rest."""
        after: list[do.Afterwards] = []
        for effect in effects:
            match effect:
                case do.Append(payload, source):
                    sequence = self.lineage.say(payload, source)
                    if isinstance(payload, RunPaused) and (asked := self.machine.question):
                        asked.sequence = asked.sequence or sequence
                        self._hand_over(payload, asked)
                case do.Note(call, begins):
                    self.lineage.note(call, begins=begins)
                case do.Arm():
                    self._alarms.arm(effect)
                case do.Disarm(timer):
                    self._alarms.disarm(timer)
                case do.Finish():
                    if (end := self.ending.decide(effect.made)) is not None:
                        self.lineage.hear(end, None)
                    self.presence.end()
                case _:
                    after.append(effect)
        return after

    def _hand_over(self, paused: RunPaused, asked: Question) -> None:
        """Its parents stand with what they have handed over. All are locked."""
        if asked.continuation is not None and (parent := self.lineage.parent) is not None:
            tree.hand_over(parent, asked.above)
            if paused.survives:
                tree.hold(self.lineage.root)

    def hands_over(self, handed: Sequence[HandedOver]) -> None:
        """Its code only waits for children again, and so do those of its parents."""
        root = self.lineage.root
        with self.lineage.locked():
            if self.machine.cancellation is not None or self.state.is_terminal:
                return
            tree.hand_over(self, handed)
            if self.is_durable and tree.waits(root):
                tree.hold(root)

    def _do_afterwards(self, effects: Sequence[do.Afterwards]) -> None:
        """Does all else, without a lock: an execution, a child or a caller may call back."""
        for effect in effects:
            match effect:
                case do.Stop(cancellation, grace_period):
                    if (execution := self.execution) is not None:
                        execution.stop(cancellation, grace_period)
                case do.StopChildren(cancellation):
                    stop = partial(_stop_with_parent, cancellation)
                    each(self.lineage.children(), stop)
                case do.Drop():
                    if (execution := self.execution) is not None:
                        execution.drop()
                case do.Kill():
                    if (execution := self.execution) is not None:
                        execution.kill()
                case do.Abandon():
                    execution = self.execution
                    stack = execution.abandon() if execution is not None else ""
                    self._on_abandon(self, stack)
                case do.Settle(question, decisions):
                    question.settle(decisions)
                case do.GoOn():
                    if self._go_on is not None:
                        self._go_on(self)
                case do.EndLast():
                    self._end_last()
                case do.Ended():
                    self._notify_of_end()
                case do.Begin():
                    pass  # the executor has its answer from `began`
                case _:
                    assert_never(effect)

    def harbours(self, left: str) -> None:
        """Its code has ended and left something at work, which does not end."""
        self._on_abandon(self, left)

    def _fired(self, timer: do.TimerName, number: int) -> None:
        self.act(lambda at: self.machine.fired(timer, number, at))

    def _notify_of_end(self) -> None:
        with self.lock:
            callbacks = self.ending.due()
            children = self.lineage.children()
            self._forget_code()
        self.ending.call([lambda: self._on_end(self), self.lineage.leave, *callbacks])
        if (parent := self.lineage.parent) is not None:
            parent.child_ended(self)
        each(children, lambda child: child.parent_ended())


def _nothing(*, comes_back: bool = False) -> None:
    pass


def _stop_with_parent(cancellation: Cancellation, child: Kin) -> None:
    child.stop_with_parent(cancellation)
