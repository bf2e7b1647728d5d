"""What an adapter reports of a foreign run, as it happens: text, model calls, tool calls, children.

It counts usage, keeps the ledger, and holds a critical part while tools are at work, so that a
GRACEFUL stop means the same as for our own agents. No method raises because the run must stop: the
framework's task is interrupted instead, where it waits next.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NoReturn

from pullcord.adapters.foreign.children import Children
from pullcord.adapters.foreign.metering import Metering
from pullcord.adapters.foreign.speakers import Speakers
from pullcord.adapters.foreign.tool_calls import ToolCalls, key_of
from pullcord.adapters.foreign.values import data_of, text_of
from pullcord.models.reading.values import reason
from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import (
    Custom,
    ReasoningDelta,
    RunError,
    Source,
    SourceKind,
    StepCompleted,
    StepStarted,
    ToolCall,
    ToolCallState,
    UsageUpdated,
)
from pullcord.run.plain import class_name
from pullcord.run.record import Decision
from pullcord.run.state import RunState
from pullcord.run.usage import Usage


class Report:
    """One foreign run's report. All methods are called on the run's event loop.

    Invariants, whatever the framework does:
     1. A critical part is held exactly while tool calls are open that wait for no child's model,
        unless the stop came before them.
     2. After `close` no call is open that is known to have unwound, and no child is live.
     3. Once `halt` is set, only what ends is added.
    """

    def __init__(self, ctx: RunContext, own_id: str) -> None:
        self._ctx = ctx
        self._own_id = own_id
        self._written: list[str] = []
        self._calls = ToolCalls(ctx)
        self._children = Children(ctx, own_id)
        self._critical = ExitStack()
        self._is_critical = False
        self.interrupt: Callable[[], None] = _nothing
        """Interrupts the framework's run, where it waits next."""
        self._metering = Metering(ctx)
        self.speakers = Speakers()
        self.halt: BaseException | None = None
        """Why the framework's run was interrupted from here."""

    # --- stopping

    def fail(self, error: Exception) -> None:
        """Fails the run with this error; the framework's run is interrupted."""
        self._halt(error)

    def _halt(self, error: BaseException) -> None:
        if self.halt is None:
            self.halt = error
        self.interrupt()

    def _do(self, act: Callable[[], object]) -> bool:
        """Does it unless the run must stop; whether the run continues."""
        if self.halt is not None:
            self.interrupt()  # the framework has lost the first one, or others of its tasks go on
            return False
        try:
            act()
        except RunCancelledError as stop:
            self._halt(stop)
            return False
        return True

    async def never(self) -> NoReturn:
        """Waits, in a task of the framework, until the interrupt arrives there."""
        await asyncio.Event().wait()
        raise AssertionError("nobody sets this event")

    # --- text

    def text(
        self, text: str, source: Source | None = None, *, call: str = "", speaker: str = ""
    ) -> None:
        """A piece of text: of the run's output, or of a child. `call` names its model call, and
        `speaker` who says it, if several do in one run."""
        if not text:
            return

        def act() -> None:
            run_id = "" if source is None else source.run_id
            said = self.speakers.before(speaker, run_id, call) + text
            if source is None:
                self._written.append(said)
                self._ctx.write(said)
            else:
                self._children.said(source, said)
            self._metering.received(call, text)

        self._do(act)

    def reasoning(self, text: str, source: Source | None = None, *, call: str = "") -> None:
        """A piece of a model's reasoning."""
        if not text:
            return

        def act() -> None:
            self._ctx.relay(ReasoningDelta(text), source=source)
            self._metering.received(call, text, reasoning=True)

        self._do(act)

    def requested(self, text: str, *, call: str = "") -> None:
        """A piece of a tool call that a model is asking for, which it is paid for as well."""
        if text:
            self._do(lambda: self._metering.received(call, text))

    @property
    def written(self) -> str:
        """The text of the run's output so far."""
        return "".join(self._written)

    # --- model calls

    def model_began(
        self,
        call: str = "",
        *,
        said: str = "",
        model: str = "",
        provider: str = "",
        source: Source | None = None,
        has_begun: bool = False,
    ) -> bool:
        """A model is asked; `said` is what it reads, as far as that is known. `source`: by a child.

        False: the run must stop, so the model should not be asked; it is, if it `has_begun`.
        """
        self.speakers.asked(call)
        try:
            may = self._may_begin(lambda: self._metering.began(call, said, model, provider))
        except Exception as error:  # nobody knows the price that a limit depends on
            self.fail(error)
            return False
        if not may and not has_begun:
            self._do_always(lambda: self._metering.withdrawn(call))
        # Also if it may not begin: what waits for it then waits in vain.
        self._wait_for_model(call, source)
        return may

    def _wait_for_model(self, call: str, source: Source | None) -> None:
        if source is not None:
            self._calls.wait_for_model(call, self._children.calls_above(source))
            self._hold()

    def _wait_no_longer(self, call: str) -> None:
        self._calls.wait_no_longer(call)
        self._hold()

    def _may_begin(self, count: Callable[[], object]) -> bool:
        """Counts what begins; whether it may. A stop that lets tools finish lets nothing begin."""
        return self._do(count) and not self._ctx.cancel_token.cancelled

    def model_ended(self, usage: Usage | None, call: str = "") -> None:
        """A model's answer has ended, with the provider's own count; None: it gave none."""

        def act() -> None:
            self._metering.ended(call, usage)
            self._ctx.emit(UsageUpdated(self._ctx.usage))

        self._do(act)
        self._wait_no_longer(call)

    def model_failed(self, error_type: str, call: str = "") -> None:
        """A model could not answer, or broke off; by an error of this class."""
        self._do_always(lambda: self._metering.failed(call, error_type))
        self._wait_no_longer(call)

    def model_interrupted(self, call: str = "") -> None:
        """The code that had asked a model has left it, or must."""
        self._do_always(lambda: self._metering.interrupted(call))
        self._wait_no_longer(call)

    def used(self, usage: Usage) -> None:
        """Usage that no model call of this report had."""
        self._do(lambda: self._ctx.use(usage))

    def finish_reason(
        self, word: str | None, source: Source | None = None, *, call: str = ""
    ) -> None:
        """How a model's answer ends, in the provider's word or the framework's; before
        `model_ended`."""
        if not word or (known := reason(word)) is None:
            return
        self._metering.reason(call, known[0])
        if source is None:
            self._ctx.set_finish_reason(known[0])

    # --- tool calls

    def tool_started(
        self,
        id: str,
        name: str,
        arguments: Any = "",
        *,
        is_async: bool | None = None,
        source: Source | None = None,
        has_begun: bool = False,
        holds: bool = True,
    ) -> bool:
        """A tool call begins. False: the run must stop, so it should not, and nothing is entered.

        Args:
            id: the model's id of the call.
            name: the tool.
            arguments: as JSON text, or as data.
            is_async: whether its code unwinds when it is cancelled; None: unknown.
            source: the child whose call it is; None: the run itself.
            has_begun: it begins, whatever this returns, so it is entered in any case.
            holds: whether a GRACEFUL stop lets it finish. Not so for a call of the framework's own
                that only waits for child runs.
        """
        one = Usage(tool_calls=1)
        may = self._may_begin(lambda: self._ctx.use(one, begun=has_begun))
        if may and holds:
            may = self._enter_critical()
        if may or has_begun:
            self._calls.started(ToolCall(id, name, text_of(arguments)), source, is_async, holds)
        return may

    def tool_ended(
        self,
        id: str,
        result: Any = "",
        state: ToolCallState = ToolCallState.COMPLETED,
        *,
        source: Source | None = None,
    ) -> None:
        """A tool call has ended; nothing happens if it is not open."""
        self._calls.ended(key_of(id, source), state, text_of(result))
        self._hold()

    def _do_always(self, act: Callable[[], object]) -> None:
        try:
            act()
        except RunCancelledError as stop:
            self._halt(stop)

    def _hold(self) -> None:
        """Enters or leaves the critical part, after a call or a child has begun or ended."""
        if self._calls.hold:
            self._enter_critical()
        else:
            self._do_always(self._leave_critical)

    def _enter_critical(self) -> bool:
        if not self._is_critical:
            enter = self._critical.enter_context
            self._is_critical = self._do(lambda: enter(self._ctx.critical()))
        return self._is_critical

    def _leave_critical(self) -> None:
        if self._is_critical:
            self._is_critical = False
            self._critical.pop_all().close()

    def error(self, error: Any) -> RunError:
        """What callers may read of an error: an exception, or words of the framework's."""
        if isinstance(error, BaseException):
            return self._ctx.error(error)
        return self._ctx.reported_error("Error", text_of(error))

    async def ask(
        self, question: str, calls: Sequence[ToolCall], continuation: bytes | None = None
    ) -> tuple[Decision, ...]:
        """Pauses the run until somebody has decided about these calls. `continuation`: from what
        another execution can go on, if it can."""
        self._do_always(self._leave_critical)  # what is open waits for the decision, too
        try:
            decisions = await self._ctx.ask(question, calls, continuation=continuation)
        except RunCancelledError as stop:
            self._halt(stop)
            await self.never()
        self._hold()
        return decisions

    # --- steps, children, and events of the framework's own

    def step_source(self, names: tuple[str, ...]) -> Source:
        """The source of an event that happens within these nested steps."""
        return Source(SourceKind.STEP, names[-1], names[-1], "", (self._own_id, *names))

    def step_started(self, id: str, name: str, source: Source | None = None) -> None:
        """A step begins."""
        self._do(lambda: self._ctx.emit(StepStarted(id, name), source=source))

    def step_ended(
        self,
        id: str,
        name: str,
        output: str = "",
        error: RunError | None = None,
        source: Source | None = None,
    ) -> None:
        """A step has ended."""
        state = RunState.COMPLETED if error is None else RunState.FAILED
        step = StepCompleted(id, name, state, output, error)
        self._do(lambda: self._ctx.emit(step, source=source))

    def child_started(
        self,
        run_id: str,
        id: str,
        name: str,
        kind: SourceKind = SourceKind.AGENT,
        parent: Source | None = None,
        *,
        within: str = "",
    ) -> Source:
        """A run within this run begins; the source of what it makes. `within` is the tool call of
        its parent that waits for it; if it is not given, the only one that is open."""
        if (known := self._children.source(run_id)) is not None:
            return known
        key = key_of(within, parent) if within else self._calls.only_one(parent)
        return self._children.started(run_id, id, name, kind, parent, key)

    def child(self, run_id: str) -> Source | None:
        """The source of a child that has not ended."""
        return self._children.source(run_id)

    def child_ended(self, run_id: str, output: str = "", error: RunError | None = None) -> None:
        """A run within this run has ended."""
        self._children.ended(run_id, output, error)

    def child_cancelled(self, run_id: str) -> None:
        """A run within this run was interrupted, and so were the async tools that it had begun."""
        self._calls.child_interrupted(run_id)
        self._children.cancelled(run_id)

    def custom(self, name: str, data: Mapping[str, Any], source: Source | None = None) -> None:
        """An event that only the framework knows the meaning of."""
        self._do(lambda: self._ctx.emit(Custom(name, data), source=source))

    # --- the end

    def output(self, result: Any) -> None:
        """The framework's own result: text, or what becomes data.

        Text that was streamed already changes nothing: what came before it stays in the output.
        """
        if result is None:
            return

        def act() -> None:
            if isinstance(result, str):
                if not self.written.endswith(result):
                    self._ctx.set_output(result)
                return
            data = data_of(result)
            self._ctx.set_output(None if self._written else text_of(result), data)

        self._do(act)

    def keep(self, data: Mapping[str, Any]) -> None:
        """Data that the run has made so far, also if it must stop."""
        self._ctx.set_output(None, data)

    def close(self, error: BaseException | None = None) -> None:
        """The framework's run is over, by this error: closes what it has left open. Never raises.

        A call of a model that it has left open by an error of its own has failed.
        """
        is_stopped = self._ctx.cancel_token.cancelled or self.halt is not None
        failed = isinstance(error, Exception) and not is_stopped
        self._metering.close(class_name(error) if failed else "")
        state = ToolCallState.INTERRUPTED if is_stopped else ToolCallState.FAILED
        self._calls.close(state)
        self._children.close()
        with suppress(RunCancelledError):
            self._leave_critical()


def _nothing() -> None:
    pass
