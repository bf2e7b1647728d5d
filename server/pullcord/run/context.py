"""What a run's code can see and do: its input, its token, and the ways to say something.

The context is the only object of ours that an author's function or tool holds. It decides
nothing; what it is told goes to a `Sink`, which the engine fills.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

from pullcord.run import plain
from pullcord.run.cancel import Cancellation, CancelToken
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import (
    ContentDelta,
    Custom,
    Payload,
    ReasoningDelta,
    Source,
    ToolCall,
    ToolCallState,
)
from pullcord.run.record import Decision, Run
from pullcord.run.usage import Limits, Usage

if TYPE_CHECKING:
    from pullcord.run.runnable import Runnable

T = TypeVar("T")


class Child(Protocol):
    """A run beneath another, as the code of its parent holds it."""

    run_id: str

    async def wait(self) -> Run:
        """Waits until it has ended, and returns it, in whatever state it ended.

        Raises RunCancelledError if it was stopped because the parent is to stop, and CancelledError
        if the waiting task was cancelled; either way it has been cancelled, cause PARENT, and has
        ended.
        """

    def snapshot(self) -> Run:
        """It as it is now."""


class Sink(Protocol):
    """Where a run's code puts what it makes. Every method may be called from any thread."""

    def write(self, text: str) -> None:
        """Adds a content delta of the run's own runnable."""

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a content or reasoning delta of whoever `source` says."""

    def emit(self, payload: Payload, source: Source | None) -> None:
        """Adds any other event."""

    def begin(self, payload: Payload, source: Source | None) -> None:
        """Adds the event that something begins; raises RunCancelledError if the run is to stop."""

    def relay(self, payload: Payload, source: Source | None) -> None:
        """Adds what the run elsewhere tells that does this run's work."""

    def set_output(self, output: str | None, output_data: Mapping[str, Any] | None) -> None:
        """Replaces what the deltas came to."""

    def use(self, usage: Usage) -> None:
        """Adds to the usage, and stops the run where that reaches a limit."""

    def usage(self) -> Usage:
        """What the run has used so far."""

    def limits_left(self) -> Limits:
        """What it may still take, by its own limits and by those of the runs above it."""

    def grace_period(self) -> float:
        """Seconds that its GRACEFUL stop leaves, or would leave, to what may finish."""

    def stop(self, cancellation: Cancellation) -> None:
        """Accepts a stop, as if somebody had asked for it."""

    def tool_started(self, call: ToolCall) -> ToolCall:
        """Enters a call into the ledger; returns it with its time."""

    def tool_ended(self, call: ToolCall) -> None:
        """Replaces the ledger's entry of the same id."""

    def critical(self) -> AbstractContextManager[None]:
        """A part of the run that a GRACEFUL cancel does not interrupt."""

    def check(self) -> None:
        """Raises RunCancelledError if the run is to stop here and now."""

    async def ask(self, question: str, calls: Sequence[ToolCall]) -> tuple[Decision, ...]:
        """Pauses the run until somebody has decided about these calls."""

    def start(
        self,
        runnable: "Runnable",
        input: str,
        data: Mapping[str, Any] | None,
        path: tuple[str, ...],
    ) -> Child:
        """Starts a run beneath this one."""

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        """Runs a blocking function in a worker thread."""

    def history(self) -> list[Run]:
        """The session's ended runs of the same runnable, oldest first."""


class RunContext:
    """One run, as its own code sees it."""

    __slots__ = (
        "_sink",
        "_write",
        "cancel_token",
        "input",
        "input_data",
        "labels",
        "run_id",
        "runnable",
        "session_id",
        "user_id",
    )

    def __init__(
        self,
        *,
        run_id: str,
        runnable: str,
        input: str,
        input_data: Mapping[str, Any] | None,
        session_id: str,
        user_id: str,
        labels: Mapping[str, str],
        cancel_token: CancelToken,
        sink: Sink,
    ) -> None:
        self.run_id = run_id
        self.runnable = runnable
        self.input = input
        self.input_data = input_data
        self.session_id = session_id
        self.user_id = user_id
        self.labels = labels
        self.cancel_token = cancel_token
        self._sink = sink
        self._write = sink.write  # looked up once: this is the hot path

    def write(self, text: str) -> None:
        """Streams a piece of the output. Raises RunCancelledError if the run is to stop.

        Inside `critical` it raises only once the stop is IMMEDIATE; so do the other methods.
        """
        if self.cancel_token.cancelled:
            self._sink.check()
        if type(text) is not str:
            text = plain.text(text, "text")
        self._write(text)

    def think(self, text: str) -> None:
        """Streams a piece of reasoning, which is not part of the output."""
        self._sink.check()
        self._sink.write_as(plain.text(text, "text"), None, True)

    def emit(
        self,
        event: Payload | str,
        data: Mapping[str, Any] | None = None,
        *,
        source: Source | None = None,
        always: bool = False,
    ) -> None:
        """Adds an event: a payload of ours, or one of your own by name and JSON-like data.

        `source` says who speaks, where that is not the run's own runnable. `always`: also when the
        run is to stop, for what must be told all the same.

        Raises TypeError for what is no event of an author's, ValueError for one that is too large.
        """
        if not always:
            self._sink.check()
        payload = Custom(event, {} if data is None else data) if isinstance(event, str) else event
        if isinstance(payload, ContentDelta):
            self.write(payload.text)
        elif isinstance(payload, ReasoningDelta):
            self.think(payload.text)
        else:
            self._sink.emit(payload, source)

    def begin(self, event: Payload, *, source: Source | None = None) -> None:
        """Adds an event that says that something begins, such as a step.

        Raises RunCancelledError if the run is to stop, in whatever way: nothing begins then, also
        inside `critical`, and whoever follows the run sees nothing begin after `cancel_requested`.
        """
        self._sink.begin(event, source)

    def relay(self, event: Payload, *, source: Source | None = None) -> None:
        """For adapters: adds an event of the run elsewhere that does this run's work.

        As it is, also when this run is to stop: what happened there has happened. Text becomes
        this run's text, a tool call enters its ledger. `source` says whose it is, where it is of
        a run or step beneath; this run's own first and last event are the engine's to make.
        """
        self._sink.relay(event, source)

    def set_output(self, output: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Says what the result is, where that is not simply all the text that was written.

        Raises TypeError for what is neither text nor a mapping, ValueError for what is too large.
        """
        self._sink.set_output(output, data)

    @property
    def usage(self) -> Usage:
        """What the run has used so far."""
        return self._sink.usage()

    def use(self, usage: Usage) -> None:
        """Counts tokens, cost, steps, tool calls. Raises RunCancelledError if that ends the run."""
        self._sink.use(usage)
        self._sink.check()

    @property
    def limits_left(self) -> Limits:
        """What the run may still take, by its own limits and those of the runs above it.

        `timeout` is the seconds until it is stopped for lack of time.
        """
        return self._sink.limits_left()

    @property
    def grace_period(self) -> float:
        """Seconds that a critical part may take once the run is stopped gracefully."""
        return self._sink.grace_period()

    def cancel(self, cancellation: Cancellation) -> NoReturn:
        """Ends the run CANCELLED from its own code; a stop that was accepted before stands.

        Raises RunCancelledError, always.
        """
        self._sink.stop(cancellation)
        raise RunCancelledError(cancellation.reason or f"cancelled: {cancellation.cause}")

    def critical(self) -> AbstractContextManager[None]:
        """`with ctx.critical():` a part with side effects, which a GRACEFUL cancel lets finish.

        It may take the grace period and no longer. Leaving it raises RunCancelledError (in async
        code: CancelledError) if the run was cancelled meanwhile.
        """
        return self._sink.critical()

    def start(
        self,
        runnable: "Runnable",
        input: str = "",
        data: Mapping[str, Any] | None = None,
        *,
        path: tuple[str, ...] = (),
    ) -> Child:
        """Starts another runnable as a run beneath this one, and returns at once.

        Its events join this run's stream, with their own `source`; its usage and tool calls count
        here too. A cancel of this run reaches it; its own cancel ends it alone. `path` names the
        steps between the two.

        Raises:
            RunCancelledError: this run is to stop.
            PullcordError: it was refused, such as InvalidArgument or ServerBusy.
        """
        return self._sink.start(runnable, input, data, path)

    async def ask(self, question: str, calls: Sequence[ToolCall]) -> tuple[Decision, ...]:
        """Pauses the run until somebody has decided about these calls; the decisions in that order.

        None of them has been executed. Those that get an answer or are declined are entered into
        the ledger as such; the author executes the others, by `tool_call` with the same ids. While
        it waits the run holds no thread; its timeout and deadline go on counting. Other parts of
        the run that ask meanwhile wait for their turn.

        Raises:
            RunCancelledError: the run is to stop, also while it waits.
            ValueError: no calls, too many, or not each with an id of its own.
        """
        return await self._sink.ask(question, calls)

    async def in_thread(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Runs a blocking function in a worker thread, with the caller's context variables.

        If the run is cancelled meanwhile, RunInterrupted is raised in the thread, and this returns
        (raising CancelledError) once the thread has let go.
        """
        result: T = await self._sink.in_thread(partial(function, *args, **kwargs))
        return result

    def history(self) -> list[Run]:
        """The session's ended runs of this runnable, oldest first; none without a session."""
        return self._sink.history()

    @contextmanager
    def tool_call(
        self, tool_call_id: str, tool_name: str, arguments: str = ""
    ) -> Iterator[Callable[[str], None]]:
        """`with ctx.tool_call(...) as returned:` does a tool call, and keeps the ledger of it.

        Call `returned(text)` with the result. An exception that leaves says that the call failed;
        a cancel that leaves says that it was interrupted. Raises like `use` where the run's limit
        of tool calls is reached, before anything was done.
        """
        self.use(Usage(tool_calls=1))
        result: list[str] = []
        state, text = ToolCallState.COMPLETED, ""
        with self.critical():
            # Raises if the run is to stop: nothing new begins, also beside a call that may finish.
            call = self._sink.tool_started(ToolCall(tool_call_id, tool_name, arguments))
            try:
                yield lambda text: result.append(plain.text(text, "result"))
            except Exception as error:
                state = ToolCallState.FAILED
                text = f"{plain.class_name(error)}: {plain.words(error)}"
                raise
            except BaseException:
                state = ToolCallState.INTERRUPTED
                raise
            finally:
                self._sink.tool_ended(replace(call, state=state, result=text or "".join(result)))
