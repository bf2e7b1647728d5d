"""An agent as A2A defines it, over the verbs: messages in, tasks and updates out, for all bindings.

No binding is known here. Every method raises the errors of `run.errors`, or A2A's own where only
A2A has a word.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace

from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    ListTasksResponse,
    SendMessageRequest,
    SendMessageResponse,
    StreamResponse,
    SubscribeToTaskRequest,
    Task,
    TaskNotCancelableError,
    TaskState,
    UnsupportedOperationError,
)
from a2a.utils.proto_utils import validate_proto_required_fields

from pullcord.engine.log.record import Record
from pullcord.run.caller import Caller
from pullcord.run.cancel import CancelOutcome
from pullcord.run.errors import (
    InvalidArgument,
    RunnableNotFound,
    RunNotFound,
    RunNotPaused,
    Violation,
)
from pullcord.run.events import Heartbeat
from pullcord.run.record import Run, RunFilter
from pullcord.run.requests import ContinueRequest, GetRequest, ListRequest, WatchRequest
from pullcord.run.runnable import RunnableInfo
from pullcord.run.state import RunState
from pullcord.service.following import Check, Following
from pullcord.transports.a2a import tasks
from pullcord.transports.a2a.asked import (
    Bounds,
    check_message,
    read_cancel,
    read_decisions,
    read_start,
)
from pullcord.transports.a2a.updates import Updates
from pullcord.transports.front import Front
from pullcord.wire.json import to_json
from pullcord.wire.run import receipt_message
from pullcord.wire.values import time_of

_STOP = 10.0
"""Seconds that a cancel waits for the stop, unless it says otherwise."""
_PAGE, _MAX_PAGE = 50, 100


@dataclass(frozen=True, slots=True)
class Call:
    """The caller and the runnable of a request."""

    caller: Caller
    runnable: str
    still: Check | None = None
    """Asks whether the caller's credential is still valid; None: it has none."""


class Flow:
    """A stream of one task. Close it."""

    def __init__(
        self,
        records: AsyncIterator[Record],
        following: Following,
        updates: Updates,
        first: StreamResponse,
        *,
        to_pause: bool,
    ) -> None:
        """`to_pause`: whether it ends when the run waits for a decision."""
        self._records = records
        self._following = following
        self._updates = updates
        self._first = first
        self._to_pause = to_pause
        self.run_id = following.run_id
        self.close = following.close

    async def responses(self) -> AsyncIterator[StreamResponse | None]:
        """The next update; None: nothing came for a while."""
        yield self._first
        async for record in self._records:
            if isinstance(record.payload, Heartbeat):
                yield None
                continue
            for told in self._updates.of(record):
                yield told
            if self._to_pause and self._updates.state is RunState.PAUSED:
                return


class Agent:
    """The agents of one server, each named by its call."""

    def __init__(self, front: Front, records: Callable[[Following], AsyncIterator[Record]]) -> None:
        """`records` are those of a following, as the binding's transport takes them."""
        self._front, self._verbs = front, front.verbs
        self._records = records
        options = front.engine.options
        self._bounds = Bounds(options.max_input_bytes, options.part_bounds)

    async def info(self, call: Call) -> RunnableInfo:
        """The runnable that is called. Raises RunnableNotFound."""
        for info in await self._verbs.runnables(call.caller):
            if info.name == call.runnable:
                return info
        raise RunnableNotFound(call.runnable)

    # --- messages

    async def send(self, call: Call, request: SendMessageRequest) -> SendMessageResponse:
        """Starts a task, or brings a paused one what it waits for; the task, in the end."""
        configuration = request.configuration
        wanted = _history(configuration)
        if configuration.return_immediately and not request.message.task_id:
            spec = read_start(request, await self._checked(call, request), self._bounds)
            run = await self._front.start(call.caller, spec)
            return SendMessageResponse(task=tasks.task(run, history_length=wanted))
        following, run = await self._begin(call, request)
        updates = Updates(run)
        try:
            if not configuration.return_immediately:
                async for record in self._records(following):
                    for _ in updates.of(record):
                        pass
                    if updates.state is RunState.PAUSED:
                        break
        finally:
            following.close()
        run = await self._verbs.get(call.caller, GetRequest(run.run_id))
        told = tasks.task(run, question=updates.question, history_length=wanted)
        return SendMessageResponse(task=told)

    async def stream(self, call: Call, request: SendMessageRequest) -> Flow:
        """The same as it comes, to the end of the task, or to its next pause."""
        following, run = await self._begin(call, request)
        return self._flow(following, run, _history(request.configuration), to_pause=True)

    async def _checked(self, call: Call, request: SendMessageRequest) -> RunnableInfo:
        info = await self.info(call)
        check_message(request)
        return info

    async def _begin(self, call: Call, request: SendMessageRequest) -> tuple[Following, Run]:
        """The following that a message starts, and the run as it was before."""
        info = await self._checked(call, request)
        if request.message.task_id:
            return await self._go_on(call, request)
        spec = read_start(request, info, self._bounds)
        following = await self._front.run(call.caller, spec)
        self._hold(call, following)
        try:
            run = await self._verbs.get(call.caller, GetRequest(following.run_id))
        except BaseException:
            following.close()
            raise
        return following, _unbegun(run)

    async def _go_on(self, call: Call, request: SendMessageRequest) -> tuple[Following, Run]:
        message = request.message
        before = await self._run(call, message.task_id)
        if message.context_id and message.context_id != before.session_id:
            words = "must be the context of the task"
            raise InvalidArgument(Violation("message.contextId", words))
        if before.state is not RunState.PAUSED and not _is_data(request):
            raise UnsupportedOperationError(
                f"task {before.run_id!r} takes no message: it is {before.state.value}"
            )
        waiting = tasks.waiting_calls(before)
        decisions = read_decisions(message, waiting, self._bounds.input_bytes)
        # It is followed first, so that at no time nobody does.
        watched = WatchRequest(before.run_id, before.last_sequence)
        following = await self._verbs.watch(call.caller, watched)
        self._hold(call, following)
        try:
            asked = ContinueRequest(before.run_id, decisions)
            run = await self._verbs.continue_run(call.caller, asked)
        except RunNotPaused as error:
            if error.repeated:  # the same message once more
                return following, before
            following.close()
            raise
        except BaseException:
            following.close()
            raise
        return following, replace(before, state=run.state, tool_calls=run.tool_calls)

    def _hold(self, call: Call, following: Following) -> None:
        """From now on the following ends when the caller's credential does."""
        if call.still is not None:
            following.check_by(call.still)

    def _flow(self, following: Following, run: Run, history: int | None, *, to_pause: bool) -> Flow:
        updates = Updates(run)
        first = updates.first(history)
        return Flow(self._records(following), following, updates, first, to_pause=to_pause)

    # --- tasks

    async def _run(self, call: Call, task_id: str) -> Run:
        """The run of a task. Raises RunNotFound, also where it is another runnable's."""
        run = await self._verbs.get(call.caller, GetRequest(task_id))
        if run.runnable != call.runnable:
            raise RunNotFound(task_id)
        return run

    async def get(self, call: Call, request: GetTaskRequest) -> Task:
        """A task as it is now."""
        validate_proto_required_fields(request)
        run = await self._run(call, request.id)
        return tasks.task(run, history_length=_history(request))

    async def list(self, call: Call, request: ListTasksRequest) -> ListTasksResponse:
        """One page of an agent's tasks, the newest first."""
        history = _history(request)
        size = request.page_size if request.HasField("page_size") else _PAGE
        if not 1 <= size <= _MAX_PAGE:
            raise InvalidArgument(Violation("pageSize", f"must be 1 to {_MAX_PAGE}"))
        states = frozenset(own for own, word in tasks.STATES.items() if word == request.status)
        told = ListTasksResponse(page_size=size)
        if request.status != TaskState.TASK_STATE_UNSPECIFIED and not states:
            return told  # no run is ever there
        which = RunFilter(runnable=call.runnable, session_id=request.context_id, states=states)
        asked = ListRequest(which, page_size=size, page_token=request.page_token)
        page = await self._verbs.list(call.caller, asked)
        since = time_of(request.status_timestamp_after)
        for run in page.runs:
            if run.parent_run_id or tasks.changed_at(run) < since:
                continue
            if request.include_artifacts and not run.state.is_terminal:
                run = await self._verbs.get(call.caller, GetRequest(run.run_id))
            told.tasks.append(
                tasks.task(run, history_length=history, artifacts=request.include_artifacts)
            )
        told.next_page_token = page.next_page_token
        # Runs are not counted: it says whether there are more than these.
        told.total_size = len(told.tasks) + bool(page.next_page_token)
        return told

    async def cancel(self, call: Call, request: CancelTaskRequest) -> Task:
        """Stops a task; the receipt is in its metadata."""
        validate_proto_required_fields(request)
        asked = read_cancel(request, _STOP)
        before = await self._run(call, request.id)
        if before.state.is_terminal:
            raise _not_cancelable(before)
        receipt = await self._verbs.cancel(call.caller, asked)
        run = receipt.run or await self._verbs.get(call.caller, GetRequest(request.id))
        if receipt.outcome is CancelOutcome.ALREADY_FINISHED:
            raise _not_cancelable(run)
        said = json.loads(to_json(receipt_message(receipt)))
        said.pop("run", None)
        return tasks.task(run, more={"receipt": said})

    async def subscribe(self, call: Call, request: SubscribeToTaskRequest) -> Flow:
        """The task as it is now, and what comes, to its end."""
        validate_proto_required_fields(request)
        run = await self._run(call, request.id)
        if run.state.is_terminal:
            raise UnsupportedOperationError(f"task {run.run_id!r} has ended: get it")
        watched = WatchRequest(run.run_id, run.last_sequence)
        following = await self._verbs.watch(call.caller, watched)
        self._hold(call, following)
        return self._flow(following, run, None, to_pause=False)


def _not_cancelable(run: Run) -> TaskNotCancelableError:
    return TaskNotCancelableError(f"task {run.run_id!r} has ended: it is {run.state.value}")


def _unbegun(run: Run) -> Run:
    """A run as it was before its first event."""
    return replace(
        run,
        state=RunState.PENDING,
        output="",
        output_data=None,
        tool_calls=(),
        cancellation=None,
        error=None,
        start_time=0.0,
        end_time=0.0,
        last_sequence=0,
    )


def _is_data(request: SendMessageRequest) -> bool:
    return any(part.WhichOneof("content") == "data" for part in request.message.parts)


def _history(asked: object) -> int | None:
    """The number of messages that are wanted of a task's history; None: all."""
    has: bool = asked.HasField("history_length")  # type: ignore[attr-defined]  # three messages have it
    if not has:
        return None
    length: int = asked.history_length  # type: ignore[attr-defined]
    if length < 0:
        raise InvalidArgument(Violation("historyLength", "must be at least 0"))
    return length
