"""The context of one run: its input, its cancel token, and every way to emit something.

The context is the only object of ours that an author's function or tool holds. It decides
nothing; every call goes on to a `Sink`, which the run side fills.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote

from pullcord.run import plain
from pullcord.run.cancel import Cancellation, CancelToken
from pullcord.run.command import MAX_OUTPUT, Command, OnLine, ProcessResult
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import (
    ContentDelta,
    Custom,
    Payload,
    Progress,
    ReasoningDelta,
    RunError,
    Source,
    ToolCall,
    ToolCallState,
)
from pullcord.run.finish import FinishReason
from pullcord.run.message import Message, Part
from pullcord.run.model_call import ModelCall
from pullcord.run.record import Decision, Run
from pullcord.run.resumed import Resumed
from pullcord.run.scope import LOCAL, Scope
from pullcord.run.sink import Child, HandOver, Sink
from pullcord.run.usage import Limits, Usage

if TYPE_CHECKING:
    from pullcord.run.runnable import Runnable

T = TypeVar("T")


class RunContext:
    """One run, as its own code sees it."""

    __slots__ = (
        "_input_data",
        "_sink",
        "_write",
        "cancel_token",
        "input",
        "labels",
        "messages",
        "parts",
        "resumed",
        "run_id",
        "runnable",
        "scope",
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
        parts: tuple[Part, ...] = (),
        messages: tuple[Message, ...] = (),
        scope: Scope = LOCAL,
        resumed: Resumed | None = None,
    ) -> None:
        self.run_id = run_id
        self.scope = scope
        """Whose the run is: `tenant` and `owner`, both verified where the server verifies callers.
        What tools may do for whom is decided by this, never by `user_id` or a label."""
        self.runnable = runnable
        self.input = input
        self._input_data = input_data
        self.parts = parts
        """The rest of the user's turn, after the input."""
        self.messages = messages
        """The messages before this turn, if the caller sent any."""
        self.resumed = resumed
        """The state to resume from, if the run has paused in an execution that is gone. None: the
        run begins, which is the only case for code that hands no `continuation` to `ask`."""
        self.session_id = session_id
        self.user_id = user_id
        self.labels = labels
        self.cancel_token = cancel_token
        self._sink = sink
        self._write = sink.write  # looked up once: this is the hot path

    @property
    def session_key(self) -> str:
        """A name of the session, or of the run if it has none, that no other caller has, and none
        of his other users: for what keeps conversations by name, such as a framework's store. Two
        may use the same session_id, and mean two sessions. Where nobody is verified and no user is
        named it is the id itself."""
        id = self.session_id or self.run_id
        return self._key(*(part for part in (self.user_id, id) if part))

    @property
    def user_key(self) -> str:
        """Likewise of the user, for what keeps memories by user; empty: nobody is named."""
        if self.scope == LOCAL:
            return self.user_id
        return self._key(self.user_id or self.scope.owner)

    def _key(self, *parts: str) -> str:
        parts = parts if self.scope == LOCAL else (*self.scope, *parts)
        return parts[0] if len(parts) == 1 else "/".join(quote(part, safe="") for part in parts)

    @property
    def input_data(self) -> Mapping[str, Any] | None:
        """The run's input as data, parsed on first access; None: there is none."""
        data = self._input_data
        if isinstance(data, plain.UnreadData):
            data = self._input_data = data.plain()
        return data

    def write(self, text: str) -> None:
        """Streams a piece of the output. Raises RunCancelledError if the run must stop.

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

        `source` is the event's source, if that is not the run's own runnable. `always`: also when
        the run must stop, for events that must not be lost.

        Raises TypeError or ValueError that names the field, if the event cannot be sent.
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

    def progress(self, done: float, total: float | None = None, note: str = "") -> None:
        """Says how far the work has come, such as `ctx.progress(3, 40, "reading page 3")`.

        `done` and `total` are in whatever unit you count; None: how much there is to do is not
        known. Watchers see the latest. Raises RunCancelledError if the run must stop, and TypeError
        or ValueError for what is no finite number of 0 or more.
        """
        self.emit(Progress(done, 0.0 if total is None else total, note))

    def begin(
        self, event: Payload, *, source: Source | None = None, counts: Usage | None = None
    ) -> None:
        """Adds an event that says that something begins, such as a step.

        `counts` is what it adds to the usage, such as one step. Raises RunCancelledError if the run
        must stop, in whatever mode, or if that ends the run: nothing begins then, not even inside
        `critical`, nothing counts, and a watcher sees nothing begin after `cancel_requested`.
        """
        with self._counting(counts or Usage()):
            self._sink.begin(event, source)

    def relay(self, event: Payload, *, source: Source | None = None) -> None:
        """For adapters: adds an event of the remote run that does this run's work.

        It is added also when this run must stop, because it has happened there. Text becomes this
        run's text, and a tool call enters its ledger. `source` is given for events of child runs
        and steps. The engine makes this run's own first and last event.
        """
        self._sink.relay(event, source)

    def set_output(self, output: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        """Sets the result, if that is not simply all the text that was written.

        Raises TypeError for output that is no text or data that is no mapping, and ValueError for
        either if it is too large.
        """
        self._sink.set_output(output, data)

    def set_finish_reason(self, reason: FinishReason) -> None:
        """Says how the model's last answer ended, for the run's terminal event.

        Raises TypeError for what is no FinishReason.
        """
        self._sink.set_finish_reason(reason)

    def model_called(self, call: ModelCall) -> None:
        """Tells the operator's traces and metrics of a call of a model that has just ended.

        Agents do so by themselves. Never raises for a run that must stop: the call was made. Raises
        TypeError for a field of another type.
        """
        self._sink.model_called(call)

    @property
    def usage(self) -> Usage:
        """The run's usage so far."""
        return self._sink.usage()

    def use(self, usage: Usage, *, begun: bool = False) -> None:
        """Counts tokens, cost, steps, tool calls. Raises RunCancelledError if that ends the run.

        A step or tool call that is counted before it begins must not begin if this raises, and then
        does not count. `begun`: it has begun already, and counts in any case.
        """
        if begun:
            self._sink.use(usage)
            self._sink.check()
        else:
            with self._counting(usage):
                pass

    @contextmanager
    def _counting(self, usage: Usage) -> Iterator[None]:
        """Counts what begins in the block; what does not begin is no step and no tool call."""
        self._sink.use(usage)
        try:
            self._sink.check()
            yield
        except BaseException:
            if usage.steps > 0 or usage.tool_calls > 0:
                self._sink.use(Usage(steps=-usage.steps, tool_calls=-usage.tool_calls))
            raise

    @property
    def limits_left(self) -> Limits:
        """The usage that is left, by the run's own limits and those of its parents.

        `timeout` is the seconds until the run is stopped for lack of time.
        """
        return self._sink.limits_left()

    @property
    def grace_period(self) -> float:
        """Seconds that a critical part may take after a GRACEFUL cancel."""
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
        parts: Sequence[Part] = (),
        messages: Sequence[Message] = (),
        again: str = "",
    ) -> Child:
        """Starts another runnable as a child run, and returns at once.

        Its events join this run's stream, with their own `source`; its usage and tool calls count
        here too. A cancel of this run reaches it; its own cancel ends it alone. `path` names the
        steps between the two. `parts` and `messages` are this run's only if they are passed on.
        `again` is the run_id of a child that was started by an execution which is gone: that one
        goes on, with its numbers and from its own continuation, or has ended.

        Raises:
            RunCancelledError: this run must stop.
            PullcordError: it was refused, such as InvalidArgument or ServerBusy.
        """
        several = tuple(parts), tuple(messages)
        return self._sink.start(runnable, input, data, path, *several, again)

    def can_go_on(self, hand_over: HandOver) -> None:
        """Lets the wait for children outlive the process, if they wait for decisions themselves.

        `hand_over` is called whenever a child asks, in any thread: it returns the continuation and
        the run_ids of all the children that are waited for, or None if more than that wait is at
        work just now. If the process is gone when a decision comes, the run is executed anew, finds
        the continuation in `resumed`, and starts each of these children `again`.
        """
        self._sink.can_go_on(hand_over)

    def waits_again(self) -> None:
        """Says that the code only waits for children again, after it has done something else while
        one of them may have been waiting for a decision."""
        self._sink.waits_again()

    def ask(
        self,
        question: str,
        calls: Sequence[ToolCall],
        *,
        continuation: bytes | None = None,
    ) -> Coroutine[Any, Any, tuple[Decision, ...]]:
        """Pauses the run until somebody has decided about these calls; the decisions in that order.

        None of them has been executed. Those that get an answer or are declined are entered into
        the ledger as such; the author executes the others, by `tool_call` with the same ids. While
        it waits the run holds no thread; its timeout and deadline go on counting. Other parts of
        the run that ask meanwhile wait for their turn.

        With a `continuation` the wait outlives the process: if that is gone when the decision
        comes, the run is executed anew, and finds these bytes and the decisions in `resumed`. They
        must say all that is needed to go on, so nothing else of the run may be at work when it
        asks. Without one, and for a child run, the run then ends FAILED, cause LOST; so it does if
        they are more than the server takes (`max_continuation_bytes`). The event `run_paused` says
        which of the two holds, as `survives`.

        Raises:
            RunCancelledError: the run must stop, also while it waits.
            ValueError: no calls, too many, or not each with an id of its own.
            TypeError: the continuation is not bytes; or, at once, the code is not async.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise TypeError(
                "only async code can ask, as `await ctx.ask(…)`: make the function `async def`"
            ) from None
        return self._sink.ask(question, calls, continuation)

    async def in_thread(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Runs a blocking function in a worker thread, with the caller's context variables.

        If the run is cancelled meanwhile, RunInterrupted is raised in the thread, and this returns
        (raising CancelledError) once the thread has finished the call.
        """
        result: T = await self._sink.in_thread(partial(function, *args, **kwargs))
        return result

    async def run_process(
        self,
        command: str | Sequence[str],
        *,
        shell: bool = False,
        input: str | bytes | None = None,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        on_line: OnLine | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> ProcessResult:
        """Executes a command that ends with this call, and never outlives the run.

        Its output is streamed as events named `process_output`, with the `stream` (`stdout` or
        `stderr`), the `text` and the `pid`; text that comes fast is merged. A GRACEFUL stop sends
        SIGTERM at once, and the command may finish within the grace period; an IMMEDIATE stop, or a
        cancel of this call, kills it. What it leaves running when it ends is killed, and what it
        has detached (`setsid`, `nohup`) is killed when the run has ended.

        Args:
            command: a list of the program and its arguments; with `shell` one text.
            shell: whether a shell reads it.
            input: what it reads from stdin.
            cwd: the directory it runs in.
            env: all of its environment; None: that of this process.
            on_line: is called with the stream's name and each line, in another thread.
            max_output: bytes that the result keeps of each stream: the beginning and the end.

        Returns:
            Its exit code, whatever that is, and its output.

        Raises:
            OSError: it cannot be started.
            RunCancelledError: the run must stop.
            TypeError: `command` does not suit `shell`.
        """
        wanted = Command(command, shell, input, cwd, env, on_line, max_output)
        return await self._sink.run_process(wanted)

    def run_process_sync(
        self,
        command: str | Sequence[str],
        *,
        shell: bool = False,
        input: str | bytes | None = None,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        on_line: OnLine | None = None,
        max_output: int = MAX_OUTPUT,
    ) -> ProcessResult:
        """The same as `run_process`, for sync code; `on_line` is called in this thread."""
        wanted = Command(command, shell, input, cwd, env, on_line, max_output)
        return self._sink.run_process_sync(wanted)

    @property
    def process_environment(self) -> Mapping[str, str]:
        """Environment variables for a process that your code starts without `run_process`, such as
        a server that it talks to. On Linux a process that has them never outlives the run.
        """
        return self._sink.process_environment()

    def history(self) -> list[Run]:
        """The session's last 1000 ended runs of this runnable, oldest first.

        None without a session. Asks the store, which may wait for a disk or a network. In async
        code: `await ctx.in_thread(ctx.history)`.
        """
        return self._sink.history()

    def error(self, error: BaseException) -> RunError:
        """The part of an exception that callers may read, for an event; the log has the rest.

        An error that leaves the run's code, or a `tool_call`, is read so without this.
        """
        return self._sink.errors.told(error)

    def reported_error(self, kind: str, words: str) -> RunError:
        """Likewise, of an error that is known by its words only, such as a framework's."""
        return self._sink.errors.reported(RunError(kind, words))

    def reported_result(self, text: str) -> str:
        """Likewise, of what a failed tool call of a framework came to."""
        return self._sink.errors.reported_result(text)

    @contextmanager
    def tool_call(
        self, tool_call_id: str, tool_name: str, arguments: str = "", *, again: bool = False
    ) -> Iterator[Callable[[str], None]]:
        """`with ctx.tool_call(...) as returned:` does a tool call, and enters it into the ledger.

        Call `returned(text)` with the result. If an exception leaves the block, the call is FAILED;
        if a cancel does, it is INTERRUPTED. Raises like `use` if the run's limit of tool calls is
        reached, before anything is done. `again`: it began in an execution that is gone.
        """
        result: list[str] = []
        state, text = ToolCallState.COMPLETED, ""
        with self.critical():
            call = ToolCall(tool_call_id, tool_name, arguments)
            if not again:
                # Raises if the run must stop: no call begins, not even beside one that may finish.
                with self._counting(Usage(tool_calls=1)):
                    call = self._sink.tool_started(call)
            try:
                yield lambda text: result.append(plain.text(text, "result"))
            except Exception as error:
                state = ToolCallState.FAILED
                told = self._sink.errors.told(error, tool_name)
                text = f"{told.type}: {told.message}"
                raise
            except BaseException:
                state = ToolCallState.INTERRUPTED
                raise
            finally:
                self._sink.tool_ended(replace(call, state=state, result=text or "".join(result)))
