"""The run side: everything of a run that its own code touches, in the process where it executes.

It has the cancel token, the depth of critical parts and a mirror of usage and limits, and it checks
what the author says before that leaves the process. It owns no state of the run: the engine does,
behind the `RunPort`.
"""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from pullcord.run import blame, gate
from pullcord.run.cancel import Aside, Cancellation, CancelMode, CancelToken
from pullcord.run.command import Command, Commands, ProcessResult, Running
from pullcord.run.disclosure import Disclosure, Errors
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import ContentDelta, Payload, ReasoningDelta, Source, ToolCall
from pullcord.run.finish import FinishReason
from pullcord.run.message import Message, Part
from pullcord.run.model_call import ModelCall
from pullcord.run.port import RunPort
from pullcord.run.readers import Bounds
from pullcord.run.record import Decision, Run
from pullcord.run.resumed import HandedOver
from pullcord.run.runnable import Runnable
from pullcord.run.sink import Child, HandOver
from pullcord.run.usage import Limits, Usage

_log = logging.getLogger("pullcord.run")

InThread = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a blocking function in a thread that an interrupt can reach."""


class RunSide:
    """A run's `Sink`, and the receiving end of its stop. Any thread may call any method."""

    def __init__(
        self,
        port: RunPort,
        *,
        aside: Aside,
        commands: Commands,
        in_thread: InThread,
        grace_period: float,
        max_output_bytes: int,
        max_data_bytes: int,
        disclosure: Disclosure = Disclosure.FULL,
        parent: "RunSide | None" = None,
    ) -> None:
        """`grace_period` is what a GRACEFUL stop leaves unless it says otherwise, in seconds.

        `aside` calls an author's callbacks in another thread, which a stop does not wait for.
        """
        self._port = port
        self._aside = aside
        self._commands = commands
        self._in_thread = in_thread
        self._grace_period = grace_period
        self._bounds = Bounds(max_data_bytes, max_output_bytes)
        self._parent = parent
        self.errors = Errors(port.run_id, disclosure)
        """The errors of the run, as callers may read them."""
        self.token = CancelToken()
        self._lock = threading.RLock()
        self._critical = 0
        self._counting = threading.Lock()
        self._usage = port.resumed.usage if port.resumed is not None else Usage()
        self._limits = port.spec.limits
        self._hand_over: HandOver = _nothing
        self._asking = 0
        """Children, at any depth, that wait for a decision, as far as is known here."""
        self.on_told: Callable[[], None] = _nothing
        """Called in the run's own task or thread just before RunCancelledError is raised there."""

    # --- the stop arrives

    def deliver(self, cancellation: Cancellation, grace_period: float | None) -> None:
        """Sets the token, or hastens it. Callbacks of authors run in another thread."""
        with self._lock:
            if grace_period is not None:
                self._grace_period = grace_period
            self.token.cancel(cancellation, self._aside)
        self._commands.stop(cancellation.mode)

    @property
    def is_critical(self) -> bool:
        """Whether the code is in a part that a GRACEFUL stop lets finish."""
        return self._critical > 0

    def check(self) -> None:
        """Raises RunCancelledError if the run must stop here and now."""
        token = self.token
        if token.cancelled and not (self._critical and token.mode is CancelMode.GRACEFUL):
            self.on_told()
            token.raise_if_cancelled()

    @contextmanager
    def critical(self) -> Iterator[None]:
        """A part of the run that a GRACEFUL stop does not interrupt."""
        with self._lock:
            self.check()
            self._critical += 1
        try:
            yield
        except Exception as error:
            if self._leave_critical():  # a handler of this error must not go on
                raise RunCancelledError(self.token.reason or "cancelled") from error
            raise
        except BaseException:
            self._leave_critical()
            raise
        if self._leave_critical():
            self.token.raise_if_cancelled()

    def _leave_critical(self) -> bool:
        """Whether the run must stop now that its last critical part has ended."""
        with self._lock:
            self._critical -= 1
            stops = self._critical == 0 and self.token.cancelled
        if stops:
            self.on_told()
        return stops

    # --- what the code makes

    @property
    def write(self) -> Callable[[str], None]:
        """Adds a content delta of the run's own runnable: the port's own method, the hot path."""
        return self._port.write

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a content or reasoning delta of `source`."""
        self._port.write_as(text, gate.source(source), reasoning)

    def emit(self, payload: Payload, source: Source | None) -> None:
        """Adds any other event. Raises TypeError or ValueError for what no author may add."""
        self._port.emit(gate.emitted(payload, self._bounds), gate.source(source))

    def begin(self, payload: Payload, source: Source | None) -> None:
        """Adds the event that something begins. Raises RunCancelledError if the run must stop."""
        self._port.begin(gate.emitted(payload, self._bounds), gate.source(source))

    def relay(self, payload: Payload, source: Source | None) -> None:
        """Adds an event of the remote run that does this run's work."""
        source = gate.source(source)
        payload = gate.relayed(payload, source is None, self._bounds)
        if isinstance(payload, ContentDelta) and source is None:
            self._port.write(payload.text)
        elif isinstance(payload, ContentDelta | ReasoningDelta):
            self._port.write_as(payload.text, source, isinstance(payload, ReasoningDelta))
        else:
            self._port.relay(payload, source)

    def set_output(self, output: str | None, output_data: Mapping[str, Any] | None) -> None:
        """Replaces the run's result. Raises TypeError or ValueError for what cannot be sent."""
        self._port.set_output(
            None if output is None else gate.output(output, self._bounds),
            None if output_data is None else gate.output_data(output_data, self._bounds),
        )

    def set_finish_reason(self, reason: FinishReason) -> None:
        """Sets the end of the model's last answer. Raises TypeError if it is no FinishReason."""
        self._port.set_finish_reason(gate.finish_reason(reason))

    def model_called(self, call: ModelCall) -> None:
        """A call of a model has ended, just now, however it ended."""
        self._port.model_called(gate.model_call(call))

    # --- usage and limits, mirrored here because a whole tree lives in one process

    def use(self, usage: Usage) -> None:
        """Adds to the usage; where that reaches a limit, the stop is delivered on return."""
        usage = gate.usage(usage)
        reached = self._add(usage)
        self._port.use(usage)
        if reached:
            self._port.settle()

    def _add(self, usage: Usage) -> bool:
        """Counts here and in every parent; whether a limit of any of them is reached.

        Steps count where they are made: a workflow's steps are not its agents' model calls.
        """
        with self._counting:
            self._usage += usage
            reached = bool(self._limits.reached_by(self._usage))
        if self._parent is not None:
            reached |= self._parent._add(replace(usage, steps=0))
        return reached

    def usage(self) -> Usage:
        """The run's usage so far."""
        return self._usage

    def limits_left(self) -> Limits:
        """The usage that is left, by the run's own limits and those of its parents."""
        left = replace(self._limits.less(self._usage), timeout=self.token.time_remaining())
        if self._parent is None:
            return left
        return left.within(replace(self._parent.limits_left(), max_steps=None))

    def grace_period(self) -> float:
        """Seconds that the run's GRACEFUL stop leaves, or would leave, to what may finish."""
        return self._grace_period

    # --- what the engine answers

    def stop(self, cancellation: Cancellation) -> None:
        """Accepts a stop that the run's own code asks for."""
        self._port.stop(gate.cancellation(cancellation))

    def tool_started(self, call: ToolCall) -> ToolCall:
        """Enters a call into the ledger; returns it with its time."""
        return self._port.tool_started(gate.tool_call(call))

    def tool_ended(self, call: ToolCall) -> None:
        """Replaces the ledger's entry of the same id."""
        self._port.tool_ended(gate.tool_call(call))

    async def ask(
        self, question: str, calls: Sequence[ToolCall], continuation: bytes | None
    ) -> tuple[Decision, ...]:
        """Pauses the run until somebody has decided about these calls."""
        question = gate.question(question)
        asked = gate.asked_calls(calls)
        continuation = gate.continuation(continuation)
        above: Sequence[HandedOver] = ()
        if continuation is not None and self._parent is not None:
            above = self._parent._handed_over() or ()
        self._count_asking(1)
        try:
            return await self._port.ask(question, asked, continuation, above)
        except RunCancelledError:
            self.check()
            raise
        finally:
            self._count_asking(-1)

    # --- what could go on elsewhere, while it waits for children that wait for a decision

    def can_go_on(self, hand_over: HandOver) -> None:
        """What is asked for a continuation when a child asks for a decision."""
        self._hand_over = hand_over

    def waits_again(self) -> None:
        """The code only waits for children again, some of which may wait for a decision."""
        if self._asking and (handed := self._handed_over()):
            self._port.hands_over(handed)

    def _handed_over(self) -> list[HandedOver] | None:
        """The continuations of this run and its parents; None: one of them has none now."""
        handed: list[HandedOver] = []
        side: RunSide | None = self
        while side is not None:
            try:
                own = side._hand_over()
            except Exception as error:  # of an author's; the pause is held all the same
                blame.log_place(_log, "a run's code could not hand over its continuation", error)
                return None
            if own is None:
                return None
            handed.append(own)
            side = side._parent
        return handed

    def _count_asking(self, more: int) -> None:
        side = self._parent
        while side is not None:
            with side._counting:
                side._asking += more
            side = side._parent

    def start(
        self,
        runnable: Runnable,
        input: str,
        data: Mapping[str, Any] | None,
        path: tuple[str, ...],
        parts: Sequence[Part],
        messages: Sequence[Message],
        again: str,
    ) -> Child:
        """Starts a child run; `again`: goes on with this one, whose code is gone."""
        self.token.raise_if_cancelled()
        child = self._port.start(
            runnable,
            gate.described(runnable),
            gate.given(input, data, parts, messages),
            gate.path(path),
            again,
        )
        if again:  # it may still wait for a decision, without any code
            with self._counting:
                self._asking += 1
        return child

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        """Runs a blocking function in a thread."""
        return await self._in_thread(function)

    def run_process_sync(self, command: Command) -> ProcessResult:
        """Executes a command, blocking this thread."""
        with self.critical():
            return self._prepare(command).run()

    async def run_process(self, command: Command) -> ProcessResult:
        """Executes a command. If the awaiting task is cancelled, it is killed."""
        with self.critical():
            running = self._prepare(command)
            work = asyncio.ensure_future(self._in_thread(running.run))
            try:
                result: ProcessResult = await asyncio.shield(work)
            except asyncio.CancelledError:
                running.kill()
                while not work.done():
                    with suppress(asyncio.CancelledError):
                        await asyncio.wait([work])
                if not work.cancelled():
                    work.exception()  # seen: the cancellation stands for it
                raise
            return result

    def process_environment(self) -> Mapping[str, str]:
        """Variables that mark a process as the run's."""
        return self._commands.environment()

    def _prepare(self, command: Command) -> Running:
        return self._commands.prepare(command, lambda event: self.emit(event, None))

    def history(self) -> list[Run]:
        """The session's ended runs of the same runnable, oldest first."""
        return self._port.history()


def _nothing() -> None:
    pass
