"""A run's port in a worker: what its code and its executor say becomes frames.

It fills `RunPort` by the link; the engine at the other end fills it in its own process. Nothing of
a run is decided here.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pullcord.link import frames_pb2 as pb
from pullcord.link.values import (
    data_bytes,
    decisions_of,
    fill_handed,
    fill_happened,
    fill_model_called,
    fill_offer,
    question,
)
from pullcord.run.cancel import ELSEWHERE, CancelCause, Cancellation
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import Payload, Source, ToolCall
from pullcord.run.finish import FinishReason
from pullcord.run.killed import KilledProcess
from pullcord.run.message import Given
from pullcord.run.model_call import ModelCall
from pullcord.run.port import Began, Execution, Failure
from pullcord.run.record import Decision, Run, RunSpec
from pullcord.run.resumed import HandedOver, Resumed
from pullcord.run.runnable import Runnable, RunnableInfo
from pullcord.run.scope import Scope
from pullcord.run.sink import Child
from pullcord.run.state import RunState
from pullcord.run.usage import Usage
from pullcord.wire.enums import FINISH_REASON
from pullcord.wire.message import fill_messages, fill_parts
from pullcord.wire.run import fill_cancellation, fill_error, fill_tool_call, run_of, tool_call_of

if TYPE_CHECKING:
    from pullcord.worker.host import Host
    from pullcord.worker.link import Link

_MAX_KILLED = 1024
"""Killed processes of which is told, at a time."""
_MAX_LEFT = 8192
"""Characters of a report."""


class LinkPort:
    """One assignment of a run to this worker."""

    def __init__(
        self,
        host: "Host",
        link: "Link",
        number: int,
        scope: Scope,
        spec: RunSpec,
        parent: "LinkPort | None",
        resumed: Resumed | None = None,
    ) -> None:
        self._host = host
        self._link = link
        self._outbox = link.outbox
        self.number = number
        """The assignment's number, by which both ends name the run."""
        self.scope = scope
        self.spec = spec
        self.run_id = spec.run_id
        self.resumed = resumed
        self.tree: LinkPort = self if parent is None else parent.tree
        """The root of its tree here, whose runs keep their order among themselves."""
        self.execution: Execution | None = None
        self.cancellation: Cancellation | None = None
        """The stop that was sent, if one was."""

    # --- what the code makes

    def write(self, text: str) -> None:
        """Adds a content delta of the run's own runnable."""
        self._outbox.write(self, text)

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """Adds a content or reasoning delta of `source`."""
        self._outbox.write_as(self, text, source, reasoning)

    def emit(self, payload: Payload, source: Source | None) -> None:
        """Adds an event of the author's."""
        frame = pb.UpFrame()
        frame.emitted.run = self.number
        fill_happened(frame.emitted, payload, source)
        self._outbox.put(self, frame)

    def relay(self, payload: Payload, source: Source | None) -> None:
        """Adds an event of the remote run that does this run's work."""
        frame = pb.UpFrame()
        frame.relayed.run = self.number
        fill_happened(frame.relayed, payload, source)
        self._outbox.put(self, frame)

    def set_output(self, output: str | None, output_data: Mapping[str, Any] | None) -> None:
        """Replaces the run's result."""
        frame = pb.UpFrame()
        frame.output.run = self.number
        if output is not None:
            frame.output.text = output
        if (data := data_bytes(output_data)) is not None:
            frame.output.data = data
        self._outbox.put(self, frame)

    def set_finish_reason(self, reason: FinishReason) -> None:
        """How the model's last answer ended."""
        frame = pb.UpFrame()
        frame.output.run = self.number
        frame.output.finish_reason = FINISH_REASON.numbers[reason]
        self._outbox.put(self, frame)

    def use(self, usage: Usage) -> None:
        """Adds to the usage of the run and of its parents."""
        self._outbox.use(self, usage)

    def tool_ended(self, call: ToolCall) -> None:
        """Replaces the ledger's entry of the same id."""
        frame = pb.UpFrame()
        frame.tool_ended.run = self.number
        fill_tool_call(frame.tool_ended.call, call)
        self._outbox.put(self, frame)

    def model_called(self, call: ModelCall) -> None:
        """A call of a model has ended, just now."""
        frame = pb.UpFrame()
        frame.model_called.run = self.number
        fill_model_called(frame.model_called, call)
        self._outbox.put(self, frame)

    def processes_killed(self, killed: Sequence[KilledProcess]) -> None:
        """Processes that the run's code had started were killed, by its stop or at its end."""
        frame = pb.UpFrame()
        frame.killed.run = self.number
        for one in killed[:_MAX_KILLED]:
            frame.killed.processes.add(pid=one.pid, name=one.name, command=one.command)
        self._outbox.put(self, frame)

    # --- what the engine answers

    def settle(self) -> None:
        """Returns once the engine has taken everything before, and its stop has come."""
        frame = pb.UpFrame()
        frame.ask.settle = True
        self._link.ask(self, frame)

    def stop(self, cancellation: Cancellation) -> None:
        """Accepts a stop that the run's own code asks for; delivered when this returns."""
        frame = pb.UpFrame()
        fill_cancellation(frame.ask.stop, cancellation)
        self._link.ask(self, frame)

    def begin(self, payload: Payload, source: Source | None) -> None:
        """Adds the event that something begins. Raises RunCancelledError if the run must stop."""
        frame = pb.UpFrame()
        fill_happened(frame.ask.begin, payload, source)
        self._link.ask(self, frame)

    def tool_started(self, call: ToolCall) -> ToolCall:
        """Enters a call into the ledger. Raises RunCancelledError if the run must stop."""
        frame = pb.UpFrame()
        fill_tool_call(frame.ask.tool_started, call)
        return tool_call_of(self._link.ask(self, frame).call)

    async def ask(
        self,
        question: str,
        calls: Sequence[ToolCall],
        continuation: bytes | None,
        above: Sequence[HandedOver] = (),
    ) -> tuple[Decision, ...]:
        """Pauses the run until somebody has decided about these calls."""
        frame = pb.UpFrame()
        frame.ask.pause.question = question
        if continuation is not None and len(continuation) <= self._host.max_continuation:
            frame.ask.pause.continuation = continuation
            for handed in above if self._fits(above) else ():
                fill_handed(frame.ask.pause.above.add(), handed)
        for call in calls:
            fill_tool_call(frame.ask.pause.calls.add(), call)
        try:
            answer = await self._link.ask_async(self, frame)
        except asyncio.CancelledError:
            taken_back = pb.UpFrame()
            taken_back.taken_back = frame.ask.id
            self._outbox.put(self, taken_back)
            raise
        return decisions_of(answer.decisions.decisions)

    def _fits(self, handed: Sequence[HandedOver]) -> bool:
        return all(len(one.continuation) <= self._host.max_continuation for one in handed)

    def hands_over(self, handed: Sequence[HandedOver]) -> None:
        """The code only waits for children again; so do those of all its parents."""
        if self._fits(handed):
            frame = pb.UpFrame()
            frame.hands_over.run = self.number
            for one in handed:
                fill_handed(frame.hands_over.handed.add(), one)
            self._outbox.put(self, frame)

    def start(
        self,
        runnable: Runnable,
        info: RunnableInfo,
        given: Given,
        path: tuple[str, ...],
        again: str = "",
    ) -> Child:
        """Starts a child run, beside this one. Raises RunCancelledError if the run must stop."""
        loop = self.execution.loop if self.execution is not None else None
        key = self._host.expect(runnable, given, loop)
        frame = pb.UpFrame()
        child = frame.ask.start_child
        child.key = key
        child.again = again
        fill_offer(child.offer, runnable, info)
        child.input = given.input
        if (serialized := data_bytes(given.data)) is not None:
            child.data = serialized
        fill_parts(child.parts, given.parts)
        fill_messages(child.messages, given.messages)
        child.path.extend(path)
        try:
            answer = self._link.ask(self, frame)
        except BaseException:
            self._host.forget(key)
            raise
        return LinkChild(self._link, self, answer.run.run_id)

    def history(self) -> list[Run]:
        """The session's ended runs of the same runnable, oldest first."""
        runs: list[Run] = []
        while True:
            frame = pb.UpFrame()
            frame.ask.history = len(runs)
            answer = self._link.ask(self, frame)
            runs += map(run_of, answer.runs.runs)
            if not answer.runs.more:
                return runs

    # --- what the executor reports

    def attach(self, execution: Execution) -> None:
        """Attaches the execution that stops are delivered to."""
        self.execution = execution

    may_wait = False
    """The answer comes by the link."""

    def began(self, then: Callable[[Began | None], None]) -> None:
        """Asks to begin the code; calls `then` once, with None if the run must not begin."""
        frame = pb.UpFrame()
        frame.ask.began = True

        def answered(answer: pb.Answer) -> None:
            if not answer.HasField("began"):
                then(None)
                return
            began = answer.began
            then(Began(began.deadline if began.HasField("deadline") else None))

        self._link.ask_then(self, frame, answered)

    def delivered(self) -> None:
        """The code has been told to stop."""
        self._outbox.put(self, pb.UpFrame(delivered=self.number))

    def stuck(self) -> None:
        """The stop cannot be delivered, because other code blocks the run's event loop."""
        self._outbox.put(self, pb.UpFrame(stuck=self.number))

    def released(self) -> None:
        """The code holds no thread and no task any more."""
        self._host.ended(self)
        frame = pb.UpFrame()
        frame.released = self.number
        self._outbox.put(self, frame)

    def ended(self, failure: Failure | None, left: str = "") -> None:
        """The code has ended, by returning or by raising; `left` is what it has left at work."""
        frame = pb.UpFrame()
        frame.ended.run = self.number
        frame.ended.left = left[-_MAX_LEFT:]
        if failure is not None:
            frame.ended.is_cancel = failure.is_cancel
            fill_error(frame.ended.error, failure.error)
        self._outbox.put(self, frame)
        self._outbox.flush()  # somebody may wait for just this, however much went out before it


class LinkChild:
    """A child run, as the code of its parent holds it."""

    def __init__(self, link: "Link", parent: LinkPort, run_id: str) -> None:
        self._link = link
        self._parent = parent
        self.run_id = run_id

    def snapshot(self) -> Run:
        """The child as it is now."""
        frame = question(self._parent.scope)
        frame.ask.get = self.run_id
        return run_of(self._link.ask(self._parent, frame).run)

    async def wait(self) -> Run:
        """Waits until the child has ended, and returns it, in whatever state it ended.

        Raises RunCancelledError if it was stopped because the parent must stop, and CancelledError
        if the waiting task was cancelled; the child is cancelled then, cause PARENT. It has ended
        when this raises.
        """
        frame = question(self._parent.scope)
        frame.ask.wait = self.run_id
        waiting = asyncio.ensure_future(self._link.ask_async(self._parent, frame))
        try:
            answer = await asyncio.shield(waiting)
        except asyncio.CancelledError:
            stop = self._parent.cancellation
            if stop is None:  # else the child is stopped already
                self._stop()
            elif (stop.cause, stop.reason) == (ELSEWHERE.cause, ELSEWHERE.reason):
                waiting.cancel()  # both wait on without their code
                raise
            while not waiting.done():
                try:
                    await asyncio.wait([waiting])
                except asyncio.CancelledError:
                    continue
            waiting.exception()  # seen: the cancellation stands for it
            raise
        run = run_of(answer.run)
        stop = self._parent.cancellation
        if run.state is RunState.CANCELLED and stop is not None:
            raise RunCancelledError(stop.reason or f"cancelled: {stop.cause}")
        return run

    def _stop(self) -> None:
        frame = question(self._parent.scope)
        frame.ask.cancel.run_id = self.run_id
        cancellation = Cancellation(CancelCause.PARENT, reason="what waited for it stopped")
        fill_cancellation(frame.ask.cancel.cancellation, cancellation)
        self._link.ask_then(self._parent, frame, lambda answer: None)
