"""The rules of one run, without anything around them: no lock, clock, thread or log."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pullcord.engine.live.effects import (
    Abandon,
    Append,
    Arm,
    Begin,
    Disarm,
    Drop,
    Effect,
    Effects,
    Ended,
    Finish,
    GoOn,
    Kill,
    Moment,
    Note,
    Settle,
    Stop,
    StopChildren,
    TimerName,
)
from pullcord.engine.live.machine import RunMachine
from pullcord.engine.live.question import Question
from pullcord.engine.live.rules import Rules
from pullcord.engine.options import EngineOptions
from pullcord.run.cancel import (
    CancelCause,
    Cancellation,
    CancelMode,
    CancelRequest,
    StopStage,
)
from pullcord.run.errors import InvalidArgument, RunCancelledError, RunNotPaused
from pullcord.run.events import (
    CancelRequested,
    Custom,
    RunCancelled,
    RunCompleted,
    RunError,
    RunFailed,
    RunStarted,
    ToolCall,
    ToolCallState,
)
from pullcord.run.record import Decision
from pullcord.run.resumed import Resumed
from pullcord.run.state import TRANSITIONS, IllegalTransition, RunState
from pullcord.run.usage import Limits, Usage

GRACEFUL, IMMEDIATE = CancelMode.GRACEFUL, CancelMode.IMMEDIATE
LEDGER = 3


class Play:
    """A machine, and what came of all that it returned. Time is moved by hand."""

    def __init__(self, limits: Limits = Limits(), **options: Any) -> None:
        self.now = 1000.0
        options = {"max_ledger": LEDGER, **options}
        self.machine = RunMachine("r", Rules(limits, EngineOptions(**options)), self.at)
        self.armed: dict[TimerName, tuple[float, int]] = {}
        self.log: list[Any] = []
        self.end: Finish | None = None
        self.last: Effects = ()
        self.states = [self.machine.state]
        self.do(self.machine.admitted(RunStarted("agents/a")))

    @property
    def at(self) -> Moment:
        return Moment(1_800_000_000.0 + self.now, self.now)

    @property
    def state(self) -> RunState:
        return self.machine.state

    def do(self, effects: Effects) -> Effects:
        """Does what was decided, and checks the machine's invariants."""
        self.last = effects
        self.states.append(self.machine.state)
        for effect in effects:
            self._do(effect)
        if self.end is not None:
            assert not self.armed, "no timer is armed once the run has ended"
        assert (self.end is not None) == self.machine.state.is_terminal
        assert len(self.machine.ledger.calls()) <= LEDGER
        assert (self.machine.question is not None) == (self.state is RunState.PAUSED)
        return effects

    def _do(self, effect: Effect) -> None:
        if isinstance(effect, Append | Finish | Arm):
            assert self.end is None, "nothing comes after the terminal event"
        if isinstance(effect, Append):
            self.log.append(effect.payload)
        elif isinstance(effect, Finish):
            self.end = effect
            self.log.append(effect.made("text"))
        elif isinstance(effect, Arm):
            self.armed[effect.timer] = (self.now + effect.delay, effect.number)
        elif isinstance(effect, Disarm):
            del self.armed[effect.timer]

    def advance(self, seconds: float) -> None:
        """Moves the time, and fires what comes due."""
        until = self.now + seconds
        while due := [(when, t, n) for t, (when, n) in self.armed.items() if when <= until]:
            when, timer, number = min(due)
            self.now = max(self.now, when)
            del self.armed[timer]
            self.do(self.machine.fired(timer, number, self.at))
        self.now = until

    def cancel(self, mode: CancelMode = GRACEFUL, grace: float | None = None, **fields: Any) -> Any:
        stop = Cancellation(mode=mode, **{"actor": "ada", **fields})
        return self.do(self.machine.cancel(CancelRequest(stop, grace), self.at))

    def begin(self) -> None:
        begin = self.do(self.machine.began(self.at))[-1]
        assert begin == Begin(self.machine.deadline)

    def kinds(self) -> list[type[Any]]:
        return [type(effect) for effect in self.last]

    def cancelled(self) -> RunCancelled:
        assert isinstance(self.log[-1], RunCancelled)
        return self.log[-1]


def running(limits: Limits = Limits(), **options: Any) -> Play:
    play = Play(limits, **options)
    play.begin()
    return play


# --- anything in any order

Act = Callable[[Play], Any]


def _tool(play: Play, id: str) -> None:
    play.do(play.machine.tool_started(ToolCall(id, "t")))


def _ask(play: Play, id: str) -> None:
    handed_over = b"so far" if id == "a" else None
    if play.machine.question is None:
        play.do(play.machine.ask(Question("?", [ToolCall(id, "mail")], handed_over), play.at))


def _rest(play: Play) -> None:
    if play.machine.rest(play.machine.assignment):
        assert play.state is RunState.PAUSED
        assert play.machine.question is not None


def _decide(play: Play, id: str) -> None:
    play.do(play.machine.decide([Decision(id, approved=True)], "ada", play.at))


def _take_back(play: Play) -> None:
    if (asked := play.machine.question) is not None:
        play.do(play.machine.take_back(asked, play.at))


def _end(play: Play, error: RunError | None, full: bool) -> None:
    play.do(play.machine.ended(error, play.at, full=full, own_cancel=full))


ids = st.sampled_from(["a", "b", "c"])
seconds = st.sampled_from([0.0, 0.01, 0.5, 1.0, 3.0, 10.0, 700.0])
acts: st.SearchStrategy[Act] = st.one_of(
    st.builds(lambda n: lambda p: p.do(p.machine.began(p.at, n)), st.integers(0, 1)),
    st.builds(lambda id: lambda p: _tool(p, id), ids),
    st.builds(
        lambda id, s: lambda p: p.do(p.machine.tool_ended(ToolCall(id, "t", state=s))),
        ids,
        st.sampled_from([ToolCallState.COMPLETED, ToolCallState.INTERRUPTED]),
    ),
    st.builds(
        lambda id, begins: (
            lambda p: p.do(p.machine.note(ToolCall(id, "t", run_id="child"), begins=begins))
        ),
        ids,
        st.booleans(),
    ),
    st.just(lambda p: p.do(p.machine.relayed(Custom("c"), None))),
    st.just(lambda p: p.do(p.machine.begin(Custom("begins"), None))),
    st.builds(lambda n: lambda p: p.do(p.machine.use(Usage(n, steps=1), p.at)), st.integers(0, 9)),
    st.builds(lambda id: lambda p: _ask(p, id), ids),
    st.builds(lambda id: lambda p: _decide(p, id), ids),
    st.just(_rest),
    st.just(_take_back),
    st.builds(
        lambda mode, grace, cause: lambda p: p.cancel(mode, grace, cause=cause),
        st.sampled_from(CancelMode),
        st.none() | seconds,
        st.sampled_from(CancelCause),
    ),
    st.builds(lambda s: lambda p: p.do(p.machine.stop_at(p.now + s, s / 2, p.at)), seconds),
    st.builds(lambda s: lambda p: p.advance(s), seconds),
    st.builds(lambda n: lambda p: p.do(p.machine.died("exit code 9", p.at, n)), st.integers(0, 1)),
    st.just(lambda p: p.do(p.machine.killed(p.at))),
    st.just(lambda p: p.do(p.machine.abandon(p.at))),
    st.just(lambda p: p.machine.moved()),
    st.builds(
        lambda error, full: lambda p: _end(p, error, full),
        st.none() | st.just(RunError("ValueError", "no")),
        st.booleans(),
    ),
    st.just(lambda p: p.do(p.machine.refused(RunError("ServerBusy"), p.at))),
)
WITHIN_THE_RULES = (RunCancelledError, RunNotPaused, InvalidArgument, IllegalTransition)
STEPS = {(before, after) for (before, _), after in TRANSITIONS.items()}
STEPS |= {(a, d) for a, b in STEPS for c, d in STEPS if b is c}  # cancelled, and ended at once


@settings(max_examples=1500)
@given(st.booleans(), st.lists(acts, max_size=30), st.none() | st.just(0.025))
def test_any_sequence_of_events_gives_one_end(
    begun: bool, done: list[Act], kill_after: float | None
) -> None:
    """One terminal event, the last; states follow the table; an accepted cancel ends CANCELLED;
    nothing begins after it; the ledger is bounded; and no timer is left."""
    play = Play(Limits(timeout=20.0, max_tokens=25, max_steps=7), max_pause=30.0)
    play.machine.stopping.kill_after = kill_after
    if begun:
        play.begin()
    first: Cancellation | None = None
    for act in [*done, lambda p: p.advance(1e6), lambda p: _end(p, RunError("late"), False)]:
        before, events = play.state, len(play.log)
        try:
            act(play)
        except WITHIN_THE_RULES:
            assert (play.state, len(play.log)) == (before, events), "nothing was changed"
        if before.is_terminal:
            assert play.state is before
        now = play.machine.cancellation
        if first is not None:
            assert now in (first, first.hastened())
            assert not [p for p in play.log[events:] if p == Custom("begins")]
        first = first or now
    assert play.state.is_terminal
    assert (play.state is RunState.CANCELLED) == (first is not None)
    pairs = zip(play.states, play.states[1:], strict=False)
    assert {(a, b) for a, b in pairs if a is not b} <= STEPS
    ends = [p for p in play.log if isinstance(p, RunCompleted | RunCancelled | RunFailed)]
    assert ends == [play.log[-1]]
    assert isinstance(play.log[0], RunStarted)
    assert play.log[-1].tool_calls == play.machine.ledger.calls()
    open_states = {ToolCallState.RUNNING, ToolCallState.WAITING}
    assert not [c for c in play.log[-1].tool_calls if c.state in open_states]
    assert len([p for p in play.log if isinstance(p, CancelRequested)]) <= 2


# --- beginning


def test_an_older_assignment_cannot_begin_a_run_that_was_moved() -> None:
    """A worker that was frozen and comes back does not begin, or end, what another was given."""
    play = Play()
    assert play.machine.moved() == 1
    assert play.do(play.machine.began(play.at, 0)) == ()
    assert play.do(play.machine.died("exit code 9", play.at, 0)) == ()
    assert play.do(play.machine.ended(RunError("E"), play.at, assignment=0)) == ()
    assert Begin(None) in play.do(play.machine.began(play.at, 1))
    with pytest.raises(IllegalTransition):
        play.machine.moved()
    play.do(play.machine.ended(None, play.at, assignment=1))
    assert play.state is RunState.COMPLETED


@pytest.mark.parametrize(
    ("limits", "options", "waits", "limit"),
    [
        (Limits(), {}, 600.0, "max_pending"),
        (Limits(timeout=7.0), {}, 7.0, "timeout"),
        (Limits(timeout=7.0), {"max_timeout": 3.0}, 3.0, "timeout"),
        (Limits(timeout=900.0), {"max_pending": 60.0}, 60.0, "max_pending"),
    ],
)
def test_a_run_does_not_wait_for_ever_to_begin(
    limits: Limits, options: dict[str, float], waits: float, limit: str
) -> None:
    """A run that has waited too long ends CANCELLED, cause BUDGET, and names what bounded it."""
    play = Play(limits, **options)
    play.advance(waits - 0.1)
    assert play.state is RunState.PENDING
    play.advance(0.2)
    assert play.kinds()[-2:] == [Drop, Ended]
    end = play.cancelled()
    assert (end.cancellation.cause, end.cancellation.limit) == (CancelCause.BUDGET, limit)
    assert end.stage is None


def test_a_timeout_counts_from_the_start_of_the_code() -> None:
    """What a run waited to begin does not shorten its timeout."""
    play = Play(Limits(timeout=5.0))
    play.advance(4.0)
    play.begin()
    assert play.machine.deadline == 1009.0
    play.advance(4.9)
    assert play.state is RunState.RUNNING
    play.advance(0.2)
    assert play.machine.cancellation is not None
    assert play.machine.cancellation.limit == "timeout"


# --- stopping


def test_a_stop_goes_from_asking_to_abandoning() -> None:
    """GRACEFUL asks; after the grace period it interrupts; after that the run ends without its
    code, whose tools in flight are UNKNOWN."""
    play = running()
    _tool(play, "a")
    play.cancel(grace=7.0)
    assert play.kinds() == [Append, Arm, Stop, StopChildren]
    assert play.machine.stopping.stage is StopStage.ASK
    play.advance(6.9)
    assert play.machine.stopping.stage is StopStage.ASK
    play.advance(0.2)
    assert play.machine.stopping.stage is StopStage.INTERRUPT
    assert [e.cancellation.mode for e in play.last if isinstance(e, Stop)] == [IMMEDIATE]
    play.advance(2.0)
    assert play.kinds() == [Note, Finish, Abandon, Ended]
    end = play.cancelled()
    assert (end.abandoned, end.stage, end.output) == (True, StopStage.ABANDON, "text")
    assert [c.state for c in end.tool_calls] == [ToolCallState.UNKNOWN]


def test_a_run_with_a_process_for_itself_is_killed() -> None:
    """After an interrupt the code has a moment; then its process is killed, and the run ends."""
    play = running()
    play.machine.stopping.kill_after = 0.025
    play.cancel(IMMEDIATE)
    play.advance(0.024)
    assert Kill not in play.kinds()
    play.advance(0.002)
    assert play.kinds() == [Kill]
    play.do(play.machine.killed(play.at))
    end = play.cancelled()
    assert (end.stage, end.abandoned) == (StopStage.KILL, False)


@pytest.mark.parametrize(
    ("prepare", "ends_as"),
    [
        (lambda p: None, RunFailed),
        (lambda p: p.begin(), RunFailed),
        (lambda p: (p.begin(), _ask(p, "a")), RunFailed),
        (lambda p: (p.begin(), p.cancel()), RunCancelled),
    ],
    ids=["pending", "running", "paused", "cancelling"],
)
@pytest.mark.parametrize("by_us", [False, True])
def test_the_process_of_a_run_dies(
    prepare: Callable[[Play], Any], ends_as: type[Any], by_us: bool
) -> None:
    """A run whose process dies fails, and says how it died; one that was stopping is CANCELLED."""
    play = Play()
    prepare(play)
    machine = play.machine
    play.do(machine.killed(play.at) if by_us else machine.died("signal SEGV", play.at))
    assert isinstance(play.log[-1], ends_as)
    if ends_as is RunFailed:
        words = "its process was killed by the server" if by_us else "signal SEGV"
        assert play.log[-1].error == RunError("WorkerDied", words)
    else:
        assert play.cancelled().stage is (StopStage.KILL if by_us else StopStage.ASK)


def test_what_a_tool_did_is_unknown_when_its_process_dies() -> None:
    """Tools in flight are UNKNOWN, those that have ended are not."""
    play = running()
    _tool(play, "a")
    play.do(play.machine.tool_ended(ToolCall("a", "t", state=ToolCallState.COMPLETED)))
    _tool(play, "b")
    play.do(play.machine.died("exit code 1", play.at))
    states = [call.state for call in play.log[-1].tool_calls]
    assert states == [ToolCallState.COMPLETED, ToolCallState.UNKNOWN]


@pytest.mark.parametrize("mode", CancelMode)
def test_nothing_begins_once_a_cancel_was_accepted(mode: CancelMode) -> None:
    """No tool call, no step, no question; and a run that has not begun never begins."""
    play = running()
    play.cancel(mode)
    for begin in (
        lambda: _tool(play, "a"),
        lambda: _ask(play, "a"),
        lambda: play.do(play.machine.begin(Custom("begins"), None)),
    ):
        with pytest.raises(RunCancelledError):
            begin()
    assert (len(play.log), play.machine.ledger.calls()) == (2, ())
    pending = Play()
    pending.cancel(mode)
    assert pending.do(pending.machine.began(pending.at)) == ()


def test_the_first_cancel_stands_and_can_be_hastened_once() -> None:
    """Later causes change nothing; IMMEDIATE hastens; after that nothing does."""
    play = running()
    play.cancel(reason="first")
    assert play.cancel(cause=CancelCause.DISCONNECT) == ()
    assert play.cancel(IMMEDIATE, reason="second") != ()
    assert play.cancel(IMMEDIATE) == ()
    stop = play.machine.cancellation
    assert stop is not None
    assert (stop.cause, stop.reason, stop.mode) == (CancelCause.USER, "first", IMMEDIATE)


def test_a_shutdown_shortens_the_grace_of_an_earlier_cancel() -> None:
    """A server that stops waits for no cancel longer than for its own."""
    play = running()
    play.cancel(grace=600.0)
    assert play.cancel(grace=3.0, cause=CancelCause.USER) == ()
    play.cancel(grace=3.0, cause=CancelCause.SHUTDOWN)
    play.advance(3.1)
    assert play.machine.stopping.stage is StopStage.INTERRUPT
    stop = play.machine.cancellation
    assert stop is not None
    assert stop.cause is CancelCause.USER


@pytest.mark.parametrize("earlier", [None, GRACEFUL, IMMEDIATE])
def test_a_deadline_takes_thirds(earlier: CancelMode | None) -> None:
    """A third of the margin to stop, one to interrupt, one without the code: also where an earlier
    cancel stands, whose waits are longer."""
    play = running(abandon_after=500.0)
    play.do(play.machine.stop_at(play.now + 10.0, 3.0, play.at))
    if earlier is not None:
        play.cancel(earlier, 500.0)
    play.advance(7.5)
    assert play.state is RunState.CANCELLING
    asked = StopStage.INTERRUPT if earlier is IMMEDIATE else StopStage.ASK
    assert play.machine.stopping.stage is asked
    play.advance(1.0)
    assert play.machine.stopping.stage is StopStage.INTERRUPT
    play.advance(0.6)
    assert play.cancelled().abandoned
    cause = CancelCause.DEADLINE if earlier is None else CancelCause.USER
    assert play.cancelled().cancellation.cause is cause


def test_a_timer_that_was_replaced_means_nothing() -> None:
    """A timer that fires while it is taken back, or armed anew, changes nothing."""
    play = running()
    play.cancel(grace=5.0)
    _, number = play.armed[TimerName.GRACE]
    play.cancel(grace=1.0, cause=CancelCause.SHUTDOWN)
    assert play.machine.fired(TimerName.GRACE, number, play.at) == ()
    assert play.machine.stopping.stage is StopStage.ASK


# --- results


def test_an_output_that_was_said_counts_where_the_run_completed_or_wrote_nothing() -> None:
    """A run that was stopped keeps its text, not what it said would be the whole of it."""
    for ends, said, text, output in [
        (True, "all", "text", "all"),
        (True, None, "text", "text"),
        (False, "all", "text", "text"),
        (False, "all", "", "all"),
    ]:
        play = running()
        play.machine.set_output(said, None)
        if not ends:
            play.cancel()
        play.do(play.machine.ended(None, play.at))
        assert play.end is not None
        assert play.end.made(text).output == output


def test_a_full_output_ends_the_run_as_a_limit_does() -> None:
    """Code that returns before the stop for a full output came is CANCELLED by that."""
    play = running()
    play.do(play.machine.ended(None, play.at, full=True))
    assert play.cancelled().cancellation.limit == "output_bytes"


def test_an_error_that_only_a_cancel_may_raise_is_the_runs_own() -> None:
    """RunCancelledError without a cancel is a failure, and its words say so."""
    play = running()
    play.do(play.machine.ended(RunError("RunCancelledError", "me"), play.at, own_cancel=True))
    assert play.log[-1].error.type == "RuntimeError"


@given(
    st.lists(
        st.builds(
            Usage,
            *[st.integers(-(2**53), 2**53)] * 4,
            st.floats(allow_nan=False, min_value=-1e308, max_value=1e308),
            st.booleans(),
            *[st.integers(-(2**31), 2**31)] * 2,
        ),
        max_size=12,
    )
)
def test_sums_of_usage_saturate(uses: list[Usage]) -> None:
    """However much is used, and taken back, the sum fits a message."""
    play = running()
    for usage in [*uses, *[Usage(2**62, 2**62, steps=2**31, cost=1e308)] * 3]:
        play.do(play.machine.use(usage, play.at))
        used = play.machine.usage
        assert min(used.input_tokens, used.output_tokens, used.reasoning_tokens) >= 0
        assert max(used.input_tokens, used.output_tokens, used.total_tokens) < 2**63
        assert 0 <= used.steps < 2**31
        assert 0 <= used.tool_calls < 2**31
        assert 0 <= used.cost < float("inf")


# --- pausing


def test_a_pause_expires() -> None:
    """A run that nobody decides about is stopped at last, cause BUDGET, limit `max_pause`."""
    play = running(max_pause=60.0)
    _ask(play, "a")
    play.advance(59.0)
    _decide(play, "a")
    assert TimerName.PAUSE not in play.armed
    _ask(play, "b")
    play.advance(59.0)
    assert play.state is RunState.PAUSED
    play.advance(2.0)
    assert play.state is RunState.CANCELLING
    assert [e.decisions for e in play.last if isinstance(e, Settle)] == [None]
    assert play.machine.cancellation is not None
    assert play.machine.cancellation.limit == "max_pause"
    play.do(play.machine.ended(None, play.at))
    assert [c.state for c in play.cancelled().tool_calls][-1] is ToolCallState.DECLINED


# --- the ledger


def test_ids_that_repeat_past_the_ledgers_limit_drop_the_oldest_calls() -> None:
    """Some models count their calls anew in every turn: the latest of them are those listed."""
    play = running()
    for n in range(10):
        call = ToolCall("1", f"t{n}")
        play.do(play.machine.tool_started(call))
        play.do(play.machine.tool_ended(replace(call, state=ToolCallState.COMPLETED)))
    assert [call.tool_name for call in play.machine.ledger.calls()] == ["t7", "t8", "t9"]


def test_calls_that_are_all_in_flight_are_bounded_too() -> None:
    """Where no call has ended, the oldest makes room: a list of them must fit a message."""
    play = running()
    for n in range(10):
        play.do(play.machine.tool_started(ToolCall(str(n), "t")))
    assert [call.tool_call_id for call in play.machine.ledger.calls()] == ["7", "8", "9"]


def test_a_paused_run_waits_on_without_its_code() -> None:
    """What that code still says is refused. A decision lets another execution begin, which finds
    what was handed over, what was decided and what was used; a run that was given nothing to go on
    from cannot wait so."""
    play = running(Limits(timeout=100.0))
    asked = Question("?", [ToolCall("a", "mail"), ToolCall("b", "mail")], b"so far")
    play.do(play.machine.use(Usage(output_tokens=5), play.at))
    play.do(play.machine.ask(asked, play.at, survives=True))
    old = play.machine.assignment
    assert play.machine.rest(old)
    assert not play.machine.rest(old)
    play.do(play.machine.take_back(asked, play.at))
    play.do(play.machine.ended(None, play.at, assignment=old))
    play.do(play.machine.died("its process", play.at, old))
    assert play.state is RunState.PAUSED
    no, yes = Decision("b", note="no"), Decision("a", approved=True)
    play.do(play.machine.decide([no, yes], "ada", play.at))
    assert play.kinds()[-1] is GoOn
    assert play.machine.resumed == Resumed(b"so far", (yes, no), Usage(output_tokens=5))
    assert play.do(play.machine.began(play.at, old)) == ()
    assert play.machine.moved() == old + 2
    assert play.do(play.machine.began(play.at, old + 2)) == (Begin(play.machine.deadline),)
    play.do(play.machine.ask(Question("?", [ToolCall("c", "mail")]), play.at))
    assert not play.machine.rest(old + 2)


def test_a_run_without_code_is_stopped_at_once() -> None:
    """There is nothing to be interrupted, whether it waits or is about to go on."""
    for decides in (False, True):
        play = running()
        play.do(play.machine.ask(Question("?", [ToolCall("a", "mail")], b"so far"), play.at))
        assert play.machine.rest(play.machine.assignment)
        if decides:
            play.do(play.machine.decide([Decision("a", approved=True)], "ada", play.at))
        play.cancel()
        assert play.cancelled().stage is StopStage.ASK
        assert play.do(play.machine.began(play.at)) == ()
