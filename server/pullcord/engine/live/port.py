"""A live run as its own code and its executor reach it: what they say becomes decisions there.

Each executor that is given the run has a port of its own. One that comes back after the run was
moved to another can neither begin nor end it. Nothing is decided here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pullcord.engine.live import effects as do
from pullcord.engine.live import tree
from pullcord.engine.live.live import LiveRun
from pullcord.engine.live.question import Question
from pullcord.engine.observer import Observer
from pullcord.run.cancel import Cancellation, CancelRequest
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import (
    Payload,
    Source,
    StepCompleted,
    StepStarted,
    ToolCall,
)
from pullcord.run.finish import FinishReason
from pullcord.run.killed import KilledProcess, names_of
from pullcord.run.message import Given
from pullcord.run.model_call import ModelCall
from pullcord.run.port import Began, Execution, Failure
from pullcord.run.record import Decision, Run, RunSpec
from pullcord.run.resumed import HandedOver, Resumed
from pullcord.run.runnable import Runnable, RunnableInfo
from pullcord.run.scope import Scope
from pullcord.run.sink import Child
from pullcord.run.usage import Usage

Data = Mapping[str, Any] | None
StartChild = Callable[[LiveRun, Runnable, RunnableInfo, Given, tuple[str, ...], str], Child]


class LivePort:
    """A `RunPort` to a run in this process. Any thread may call any method."""

    def __init__(
        self,
        live: LiveRun,
        *,
        start_child: StartChild,
        history: Callable[[], list[Run]],
        on_release: Callable[[], None],
        observer: Observer,
        may_begin: Callable[[], bool] | None = None,
    ) -> None:
        """`on_release` is called when the code holds no thread and no task any more. `may_begin` is
        asked before the code begins, and may wait for the store: other processes could take the run
        over meanwhile."""
        self._live = live
        self._machine = live.machine
        self._assignment = live.machine.assignment  # as it is now
        self._start_child = start_child
        self._history = history
        self._on_release = on_release
        self._observer = observer
        self._may_begin = may_begin

    @property
    def may_wait(self) -> bool:
        """Whether `began` may wait for the store."""
        return self._may_begin is not None

    @property
    def run_id(self) -> str:
        """The run's id."""
        return self._live.run_id

    @property
    def scope(self) -> Scope:
        """Whose the run is."""
        return self._live.scope

    @property
    def spec(self) -> RunSpec:
        """What the run was asked to be."""
        return self._live.spec

    @property
    def resumed(self) -> Resumed | None:
        """What the code goes on from; None: it begins."""
        return self._machine.resumed

    # --- what the code makes

    @property
    def write(self) -> Callable[[str], None]:
        """Adds a content delta of the run's own runnable: the hot path, the log's own method if
        nobody else hears it."""
        live = self._live
        return live.log.write if live.lineage.source is None else live.lineage.write

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a delta of the speaker that `source` names."""
        self._live.lineage.write_as(text, source, reasoning)

    def write_all(
        self, text: str, lengths: Sequence[int], source: Source | None, reasoning: bool
    ) -> None:
        """Adds deltas that were merged on their way here, as if each had been written alone."""
        self._live.lineage.write_all(text, lengths, source, reasoning)

    def emit(self, payload: Payload, source: Source | None) -> None:
        """Adds any other event."""
        with self._live.lock:
            self._machine.heard(payload, source)
        self._live.lineage.say(payload, source)
        if isinstance(payload, StepCompleted) and source is not None:
            self._observer.step_ended(*self._live.key, source.path[1:], payload)

    def relay(self, payload: Payload, source: Source | None) -> None:
        """Adds an event of the remote run that does this run's work."""
        self._live.act(lambda _: self._machine.relayed(payload, source))

    def set_output(self, output: str | None, output_data: Data) -> None:
        """Replaces what the deltas came to."""
        with self._live.lock:
            self._machine.set_output(output, output_data)

    def set_finish_reason(self, reason: FinishReason) -> None:
        """How the model's last answer ended."""
        with self._live.lock:
            self._machine.set_finish_reason(reason)

    def use(self, usage: Usage) -> None:
        """Adds to the usage, here and in the parents; stops the run that reaches a limit by it."""
        self._live.act(lambda at: self._machine.use(usage, at))
        self._live.lineage.use(usage)

    def tool_ended(self, call: ToolCall) -> None:
        """Replaces the ledger's entry of the same id, unless the run has ended without it."""
        call = replace(call, end_time=self._live.now().time)
        if not call.start_time and (began := self._machine.ledger.find(call)) is not None:
            call = replace(call, start_time=began.start_time)  # by an execution that is gone
        self._live.act(lambda _: self._machine.tool_ended(call))

    def model_called(self, call: ModelCall) -> None:
        """A call of a model has ended, just now."""
        self._observer.model_called(*self._live.key, call)

    def processes_killed(self, killed: Sequence[KilledProcess]) -> None:
        """Says so in an event; the run bears their names from now on, and so do its parents."""
        self._live.act(lambda _: self._machine.processes_killed(killed))
        self._live.lineage.bear_names(names_of(killed))

    # --- what the engine answers

    def settle(self) -> None:
        """Does nothing, because every call here has done its work when it returns."""

    def stop(self, cancellation: Cancellation) -> None:
        """Accepts a stop that the run's own code asks for."""
        self._live.act(lambda at: self._machine.cancel(CancelRequest(cancellation), at))

    def begin(self, payload: Payload, source: Source | None) -> None:
        """Adds the event that something begins; raises RunCancelledError if the run must stop."""
        self._live.begin(lambda _: self._machine.begin(payload, source))
        if isinstance(payload, StepStarted) and source is not None:
            self._observer.step_began(*self._live.key, source.path[1:], payload)

    def tool_started(self, call: ToolCall) -> ToolCall:
        """Enters a call into the ledger; returns it with its time."""
        call = replace(call, start_time=self._live.now().time)
        self._live.begin(lambda _: self._machine.tool_started(call))
        return call

    async def ask(
        self,
        question: str,
        calls: Sequence[ToolCall],
        continuation: bytes | None,
        above: Sequence[HandedOver] = (),
    ) -> tuple[Decision, ...]:
        """Pauses the run until somebody has decided about these calls."""
        above = above if self._fits(above) else ()
        asked = Question(question, calls, self._if_carried(continuation), above=above)
        while (other := self._pause(asked)) is not None:
            await other.wait()
        try:
            decisions = await asked.wait()
        except BaseException:
            self._live.act(lambda at: self._machine.take_back(asked, at))
            raise
        if decisions is None:
            raise RunCancelledError("the run has ended, and nobody will decide any more")
        return decisions

    def _if_carried(self, continuation: bytes | None) -> bytes | None:
        """The continuation, if another execution could go on from it: what is too large is not
        kept."""
        if continuation is None or len(continuation) > self._live.max_continuation:
            return None
        return continuation

    def _fits(self, handed: Sequence[HandedOver]) -> bool:
        return all(len(one.continuation) <= self._live.max_continuation for one in handed)

    def _pause(self, asked: Question) -> Question | None:
        """Asks, or returns the question that is asked already."""
        standing: Question | None = None
        can = asked.continuation is not None and self._live.is_durable

        def pause(at: do.Moment) -> do.Effects:
            nonlocal standing
            standing = self._machine.question
            if standing is not None:
                return ()
            survives = can and tree.would_wait(self._live, asked.above)
            return self._machine.ask(asked, at, survives=survives)

        self._live.begin(pause)
        return standing

    def hands_over(self, handed: Sequence[HandedOver]) -> None:
        """The code only waits for children again; so do those of all its parents."""
        live = self._live
        if len(handed) == live.lineage.depth + 1 and self._fits(handed):
            live.hands_over(handed)

    def start(
        self,
        runnable: Runnable,
        info: RunnableInfo,
        given: Given,
        path: tuple[str, ...],
        again: str = "",
    ) -> Child:
        """Starts a child run, which is heard in this run's stream."""
        try:
            return self._start_child(self._live, runnable, info, given, path, again)
        except RunCancelledError:
            self._live.lineage.refused()
            raise

    def history(self) -> list[Run]:
        """The session's ended runs of the same runnable, oldest first."""
        return self._history()

    # --- what the executor reports

    def attach(self, execution: Execution) -> None:
        """Attaches the execution that stops are delivered to."""
        self._live.attach(execution)

    def began(self, then: Callable[[Began | None], None]) -> None:
        """The executor is about to call the code; `then` gets None if it must not."""
        if self._may_begin is not None and not self._may_begin():
            then(None)
            return
        effects = self._live.step(lambda at: self._machine.began(at, self._assignment))
        begin = next((effect for effect in effects if isinstance(effect, do.Begin)), None)
        then(None if begin is None else Began(begin.deadline))

    def delivered(self) -> None:
        """A stop was delivered to the code."""
        with self._live.lock:
            self._machine.delivered(self._live.now())

    def stuck(self) -> None:
        """The stop cannot be delivered, because other code blocks the run's event loop."""
        self._live.act(self._machine.abandon)

    def moved(self) -> "LivePort":
        """Another executor gets the run, which has not begun; the port for that one.

        Raises IllegalTransition if it has begun, or has ended.
        """
        with self._live.lock:
            self._machine.moved()
            return LivePort(
                self._live,
                start_child=self._start_child,
                history=self._history,
                on_release=self._on_release,
                observer=self._observer,
                may_begin=self._may_begin,
            )

    def released(self) -> None:
        """The code holds no thread and no task any more."""
        if self._assignment == self._machine.assignment:
            self._on_release()
            self._live.released()

    def ended(self, failure: Failure | None, left: str = "") -> None:
        """The code has ended, by returning or by raising; `left` is what it has left at work."""
        error = None if failure is None else failure.error
        own_cancel = failure is not None and failure.is_cancel
        full = error is None and self._live.log.is_full()
        self._live.act(
            lambda at: self._machine.ended(
                error, at, full=full, own_cancel=own_cancel, assignment=self._assignment
            )
        )
        if left:
            self._live.harbours(left)

    def rest(self) -> bool:
        """Whether the run waits on without this execution, which is gone or about to go."""
        return tree.rest(self._live, self._assignment)

    def died(self, how: str) -> None:
        """The process that executed the code has died; `how`, in words for callers."""
        self._live.act(lambda at: self._machine.died(how, at, self._assignment))

    def killed(self) -> None:
        """The process that the run had for itself was killed, by us."""
        self._live.act(self._machine.killed)
