"""Running things in-process: `run`, `arun` and `cancel_run`, for agents, teams and workflows alike.

A face of the local engine, which is where runs live: nothing is started, stopped or remembered
here. Events become chunks with the names that in-process programs use.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import aclosing, closing, suppress
from enum import StrEnum
from typing import Any, Literal, NamedTuple, TypedDict, Unpack, overload

from pullcord.local import local_engine
from pullcord.run import events, gate, place
from pullcord.run.agent import RunEvent
from pullcord.run.base import RunOutput, RunOutputEvent, RunStatus
from pullcord.run.cancel import Cancellation, CancelMode, CancelOutcome, CancelRequest
from pullcord.run.context import RunContext
from pullcord.run.errors import RunNotFound
from pullcord.run.message import Message, Part
from pullcord.run.place import Place, Runs, at_work
from pullcord.run.record import Decision, DisconnectPolicy, Run, RunSpec, SessionPolicy
from pullcord.run.team import TeamRunEvent
from pullcord.run.usage import Limits, Usage
from pullcord.run.workflow import WorkflowRunEvent


class RunOptions(TypedDict, total=False):
    """Options of a run, beside its input."""

    input_data: Mapping[str, Any] | None
    run_id: str
    """Minted where none is given."""
    session_id: str
    user_id: str
    limits: Limits
    labels: Mapping[str, str]
    on_disconnect: DisconnectPolicy | None
    """The effect of leaving the stream early; CANCEL if unset."""
    session_policy: SessionPolicy | None
    """The rule if its session is busy with another run; None: they may overlap."""
    parts: Sequence[Part | str]
    """The rest of the user's turn, after the input: files, and more text."""
    messages: Sequence[Message]
    """The messages before this turn; they replace the session's own turns."""
    retry_of: str
    """A run of the same session whose turn this one replaces."""


class _Told(NamedTuple):
    """An event, and what the run had used when it was read."""

    event: events.Event
    usage: Usage


class Native:
    """A runnable of ours. A subclass says what it is and fills `execute`."""

    kind: events.SourceKind
    id: str
    name: str
    description: str
    members: tuple[str, ...]
    is_async: bool

    def execute(self, ctx: RunContext) -> Coroutine[Any, Any, None] | None:
        """Does one run; see `Runnable`."""
        raise NotImplementedError

    @overload
    def run(
        self, input: str = "", *, stream: Literal[False] = False, **options: Unpack[RunOptions]
    ) -> RunOutput: ...

    @overload
    def run(
        self, input: str = "", *, stream: Literal[True], **options: Unpack[RunOptions]
    ) -> Generator[RunOutputEvent, None, None]: ...

    def run(
        self, input: str = "", *, stream: bool = False, **options: Unpack[RunOptions]
    ) -> RunOutput | Generator[RunOutputEvent, None, None]:
        """Runs it, blocking this thread.

        With `stream`, a generator of chunks, the last one terminal; closing it early cancels the
        run, which keeps what it has made. Otherwise the result. A run that fails or is cancelled
        raises nothing: its status says so.

        Called in the code of another run, such as a tool, it is a child of that one: it is stopped
        with it, cause PARENT, and its usage and tool calls count there; its events are heard here
        only.

        Raises:
            PullcordError: the run was refused, such as InvalidArgument or ServerBusy.
            RunCancelledError: called in code that a run left behind, and that run has ended.
            RuntimeError: called in async code of another run, which must await `arun`.
        """
        spec = self._spec(input, options)
        return self._stream(spec) if stream else self._result(spec)

    @overload
    def arun(
        self, input: str = "", *, stream: Literal[False] = False, **options: Unpack[RunOptions]
    ) -> Coroutine[Any, Any, RunOutput]: ...

    @overload
    def arun(
        self, input: str = "", *, stream: Literal[True], **options: Unpack[RunOptions]
    ) -> AsyncGenerator[RunOutputEvent, None]: ...

    def arun(
        self, input: str = "", *, stream: bool = False, **options: Unpack[RunOptions]
    ) -> Coroutine[Any, Any, RunOutput] | AsyncGenerator[RunOutputEvent, None]:
        """Runs it on this event loop: `await arun(…)`, or `async for … in arun(…, stream=True)`.

        As `run`. Cancelling the task that waits, as asyncio.timeout does, cancels the run and
        returns once it has stopped, so that nothing of it is left behind.
        """
        spec = self._spec(input, options)
        return self._astream(spec) if stream else self._aresult(spec)

    @staticmethod
    def cancel_run(
        run_id: str,
        reason: str = "",
        *,
        mode: CancelMode = CancelMode.GRACEFUL,
        grace_period: float | None = None,
        actor: str = "",
    ) -> bool:
        """Cancels a run, from any thread; True if it was live.

        A run that has not begun yet will end cancelled as soon as it does, and this returns False.
        """
        asked = time.time()
        cancellation = gate.cancellation(Cancellation(actor=actor, reason=reason, mode=mode))
        request = CancelRequest(cancellation, grace_period)
        receipt = _place().runs.cancel(run_id, request, before_start=True)
        if receipt.outcome is CancelOutcome.STOPPED:
            return receipt.accept_time >= asked  # it was waiting for its start: this stopped it
        return receipt.outcome is CancelOutcome.REQUESTED

    @staticmethod
    def continue_run(run_id: str, decisions: Iterable[Decision], *, actor: str = "") -> Run:
        """Brings a paused run the decision on every call that waits, from any thread.

        Raises:
            RunNotFound, InvalidArgument, or RunNotPaused where it does not wait (any longer).
        """
        return _place().runs.continue_run(run_id, gate.decisions(tuple(decisions)), actor)

    @staticmethod
    async def acontinue_run(run_id: str, decisions: Iterable[Decision], *, actor: str = "") -> Run:
        """The same as `continue_run`, which does not block either."""
        return Native.continue_run(run_id, decisions, actor=actor)

    @staticmethod
    async def acancel_run(
        run_id: str,
        reason: str = "",
        *,
        mode: CancelMode = CancelMode.GRACEFUL,
        grace_period: float | None = None,
        actor: str = "",
    ) -> bool:
        """The same as `cancel_run`, which does not block either."""
        return Native.cancel_run(run_id, reason, mode=mode, grace_period=grace_period, actor=actor)

    def _spec(self, input: str, options: RunOptions) -> RunSpec:
        made: Any = options  # a text among the parts is a part once it has passed the gate
        return gate.spec(RunSpec(gate.described(self).name, input, **made))

    def _follow(self, spec: RunSpec) -> Generator[_Told, None, None]:
        here = _place()
        engine, parent = here.runs, here.run_id
        _must_not_block(engine)
        with closing(engine.follow(self, spec, parent_run_id=parent)) as watcher:
            for event in watcher:
                yield _Told(event, watcher.usage())

    async def _afollow(self, spec: RunSpec) -> AsyncGenerator[_Told, None]:
        here = _place()
        engine, parent = here.runs, here.run_id
        # On the caller's own loop, where the context and the connections of its tools live.
        loop = asyncio.get_running_loop()
        watcher = engine.follow(self, spec, loop=loop, parent_run_id=parent)
        try:
            with closing(watcher):
                async with aclosing(aiter(watcher)) as following:
                    async for event in following:
                        yield _Told(event, watcher.usage())
        finally:
            policy = spec.on_disconnect or DisconnectPolicy.CANCEL
            if policy is DisconnectPolicy.CANCEL and not watcher.ended:
                await _until_ended(engine, watcher.run_id)

    def _stream(self, spec: RunSpec) -> Generator[RunOutputEvent, None, None]:
        with closing(self._follow(spec)) as following:
            for told in following:
                if (chunk := _chunk(told, spec, self.kind)) is not None:
                    yield chunk

    async def _astream(self, spec: RunSpec) -> AsyncGenerator[RunOutputEvent, None]:
        async with aclosing(self._afollow(spec)) as following:
            async for told in following:
                if (chunk := _chunk(told, spec, self.kind)) is not None:
                    yield chunk

    def _result(self, spec: RunSpec) -> RunOutput:
        for told in self._follow(spec):
            last = told
        return _output(last, spec)

    async def _aresult(self, spec: RunSpec) -> RunOutput:
        async with aclosing(self._afollow(spec)) as following:
            async for told in following:
                last = told
        return _output(last, spec)


def _chunk(told: _Told, spec: RunSpec, own_kind: events.SourceKind) -> RunOutputEvent | None:
    event, payload = told.event, told.event.payload
    kind = event.source.kind if event.source is not None else own_kind
    name = _NAMES.get(kind, _NAMES[events.SourceKind.AGENT]).get(type(payload))
    if name is None:  # a heartbeat
        return None
    cancellation = getattr(payload, "cancellation", None)
    return RunOutputEvent(
        event=name,
        run_id=event.source.run_id if event.source is not None else event.run_id,
        sequence=event.sequence,
        content=_content(payload),
        metrics=getattr(payload, "usage", told.usage),
        status=_STATUSES.get(type(payload), RunStatus.running),
        reason=cancellation.reason if cancellation is not None else "",
        cause=cancellation.cause if cancellation is not None else None,
        session_id=spec.session_id,
        tool=getattr(payload, "tool_call", None),
        tools=getattr(payload, "tool_calls", ()),
        source=event.source,
        output_data=getattr(payload, "output_data", None),
        finish_reason=getattr(payload, "finish_reason", None),
        killed_processes=getattr(payload, "killed_processes", ()),
    )


def _content(payload: events.Payload) -> Any:
    match payload:
        case events.ContentDelta(text) | events.ReasoningDelta(text):
            return text
        case events.RunCompleted() | events.RunCancelled():
            return payload.output or payload.output_data or ""
        case events.RunFailed():
            return payload.error.message or payload.error.type
        case events.StepCompleted():
            return payload.output
        case events.Snapshot():
            return payload.run.output
        case events.RunPaused():
            return payload.question
        case events.Custom() | events.Progress():
            return payload  # with all of its fields
        case _:
            return None


def _output(last: _Told, spec: RunSpec) -> RunOutput:
    payload = last.event.payload
    assert isinstance(payload, events.TERMINAL_PAYLOADS)  # promise 1: it is the last one
    cancellation = None if isinstance(payload, events.RunCompleted) else payload.cancellation
    failed = isinstance(payload, events.RunFailed)
    words = _content(payload)
    return RunOutput(
        run_id=last.event.run_id,
        status=_STATUSES[type(payload)],
        content=(payload.output or words) if failed else words,
        metrics=payload.usage,
        reason=cancellation.reason if cancellation is not None else "",
        cause=cancellation.cause if cancellation is not None else None,
        session_id=spec.session_id,
        tools=payload.tool_calls,
        error=words if failed else "",
        output_data=getattr(payload, "output_data", None),
        finish_reason=getattr(payload, "finish_reason", None),
        killed_processes=getattr(payload, "killed_processes", ()),
    )


def _place() -> Place:
    """The engine of the calling code's runs, and the run that becomes their parent, if any."""
    return at_work.get() or Place(place.default or local_engine(), "")


def _must_not_block(engine: Runs) -> None:
    """An async tool that waits so for a run may wait for one that its own loop must execute."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return  # no loop runs in this thread
    if engine.owns_loop(loop):
        raise RuntimeError("run() would block the loop of async runs: await arun() instead")


async def _until_ended(engine: Runs, run_id: str) -> None:
    """Waits for a run that is stopping or has stopped; it takes its grace period at most."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(ended.set)

    with suppress(RunNotFound):
        forget = engine.on_end(run_id, wake)
        try:
            await ended.wait()
        finally:
            forget()


def _names(names: type[StrEnum]) -> dict[type[object], StrEnum]:
    """The names of chunks by payload, for one kind of runnable."""
    said = names.__members__
    return {
        payload: said.get(member) or said[member.replace("run_", "workflow_")]
        for payload, member in _MEMBERS.items()
    }


_MEMBERS: dict[type[object], str] = {
    events.RunStarted: "run_started",
    events.ContentDelta: "run_content",
    events.ReasoningDelta: "reasoning_content",
    events.ToolCallStarted: "tool_call_started",
    events.ToolCallCompleted: "tool_call_completed",
    events.StepStarted: "step_started",
    events.StepCompleted: "step_completed",
    events.UsageUpdated: "usage_updated",
    events.CancelRequested: "cancel_requested",
    events.RunPaused: "run_paused",
    events.RunContinued: "run_continued",
    events.Gap: "gap",
    events.Snapshot: "snapshot",
    events.Custom: "custom_event",
    events.Progress: "progress",
    events.RunCompleted: "run_completed",
    events.RunCancelled: "run_cancelled",
    events.RunFailed: "run_error",
}

# One line a kind of runnable; what no line is for bears an agent's names.
_NAMES: dict[events.SourceKind, dict[type[object], StrEnum]] = {
    events.SourceKind.AGENT: _names(RunEvent),
    events.SourceKind.TEAM: _names(TeamRunEvent),
    events.SourceKind.WORKFLOW: _names(WorkflowRunEvent),
    events.SourceKind.STEP: _names(WorkflowRunEvent),
}

_STATUSES: dict[type[object], RunStatus] = {
    events.RunPaused: RunStatus.paused,
    events.RunCompleted: RunStatus.completed,
    events.RunCancelled: RunStatus.cancelled,
    events.RunFailed: RunStatus.error,
}
