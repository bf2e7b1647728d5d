"""What a worker's code asks, answered by the engine: one handler for each question.

An answer that must wait (for a decision, an event, an end) is sent when it has come. What may wait
for the store is asked in a thread, so nothing here blocks the loop. What the link carries is
`connection`'s.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Protocol

from pullcord.engine.directory import RunHandle
from pullcord.engine.log.watch import Watcher
from pullcord.executors.workers.execution import RemoteExecution
from pullcord.link import frames_pb2 as pb
from pullcord.link.values import (
    PinnedOffer,
    decisions_of,
    fill_decisions,
    fill_refusal,
    handed_of,
    happened_of,
    offer_of,
    spec_of,
)
from pullcord.run.cancel import CancelRequest
from pullcord.run.errors import PullcordError, RunCancelledError, RunNotFound
from pullcord.run.message import Given
from pullcord.run.place import Runs
from pullcord.run.port import Began
from pullcord.run.record import Run
from pullcord.run.scope import Scope
from pullcord.wire.event import response_bytes
from pullcord.wire.message import fill_parts, messages_of, parts_of
from pullcord.wire.run import (
    cancellation_of,
    fill_tool_call,
    receipt_message,
    run_message,
    runnable_of,
    tool_call_of,
    tool_calls_of,
)
from pullcord.wire.values import StructData

if TYPE_CHECKING:
    from pullcord.executors.workers.connection import Connection

_log = logging.getLogger("pullcord.workers")

_PAGE = 4 * 1024 * 1024
"""Bytes of a session's history in one answer, if it is more than one run."""


class Host(Protocol):
    """The engine, as code in a worker reaches it."""

    blocking: bool
    """Whether calls may wait for the store, so that no loop must make them."""

    def within(self, scope: Scope) -> Runs:
        """What the code of a run of this scope reaches."""

    def find_here(self, run_id: str, *, scope: Scope) -> RunHandle | None:
        """The run of this id, if it is live here. Never waits for the store."""

    def find(self, run_id: str, *, scope: Scope) -> RunHandle:
        """The run of this id, live or ended. Raises RunNotFound."""


class Answers:
    """The open questions and watches of one worker."""

    def __init__(
        self, connection: "Connection", host: Host, cancels: Executor, lookups: Executor
    ) -> None:
        """`cancels` and `lookups` are threads, where what may wait for the store is asked."""
        self._connection = connection
        self._host = host
        self._cancels = cancels
        self._lookups = lookups
        self._loop = asyncio.get_running_loop()
        self._watches: dict[int, Watcher] = {}
        self._ids = itertools.count(1)
        self._asking: dict[int, asyncio.Task[None]] = {}
        self._waits: dict[int, Callable[[], None]] = {}
        """Unsubscribes from the end of runs."""
        self._histories: dict[int, list[Run]] = {}
        """By assignment, of those who have not read all of theirs yet."""
        self._closed = False

    def answer(self, ask: pb.Ask) -> None:
        """Answers now, or arranges that it is answered later."""
        kind = ask.WhichOneof("question")
        if kind is None:
            return
        frame = pb.DownFrame()
        frame.answer.id = ask.id
        try:
            asker: Any = self._connection.runs.get(ask.run)
            if kind not in _OF_RUN:
                asker = Scope(ask.tenant, ask.owner)
            elif asker is None or asker.ended:
                raise RunCancelledError("the run has ended, or is assigned to another worker")
            if kind == "began":
                asker.reached = True
            handler = _OF_RUN.get(kind) or _OF_NONE[kind]
            part = getattr(ask, kind)
            if self._host.blocking and self._may_wait(kind, part, asker):
                threads = self._cancels if kind == "cancel" else self._lookups
                threads.submit(self._handle, handler, asker, part, frame)
                return
        except RunCancelledError:
            frame.answer.must_stop = True
            self._connection.send(frame)
            return
        self._handle(handler, asker, part, frame)

    def _may_wait(self, kind: str, part: Any, asker: Any) -> bool:
        """Whether the question may wait for the store."""
        if kind in {"get", "wait"}:
            return self._host.find_here(part, scope=asker) is None
        if kind == "cancel":
            return self._host.find_here(part.run_id, scope=asker) is None
        if kind == "began":
            may_wait: bool = asker.port.may_wait
            return may_wait
        return kind in {"history", "follow_run", "continue_run"}

    def _handle(self, handler: "Handler", asker: Any, part: Any, frame: pb.DownFrame) -> None:
        """In any thread."""
        try:
            if handler(self, asker, part, frame.answer):
                self._send(frame)
        except RunCancelledError:
            frame.answer.must_stop = True
            self._send(frame)
        except Exception as error:
            self._refuse(frame, error)

    def _send(self, frame: pb.DownFrame) -> None:
        self._connection.post(lambda: self._connection.send(frame))

    def _refuse(self, frame: pb.DownFrame, error: BaseException) -> None:
        if not isinstance(error, PullcordError | ValueError | TypeError):
            _log.error("a question of a worker could not be answered", exc_info=error)
        fill_refusal(frame.answer.refusal, error)
        self._send(frame)

    def close(self) -> None:
        """The worker is gone: its watches end, and nobody waits for an answer."""
        self._closed = True
        for watcher in self._watches.values():
            watcher.close()
        self._watches.clear()
        for unsubscribe in self._waits.values():
            unsubscribe()
        self._waits.clear()
        self._histories.clear()
        for task in self._asking.values():
            task.cancel()

    def take_back(self, ask_id: int) -> None:
        """Nobody waits for this answer any more."""
        task = self._asking.pop(ask_id, None)
        if task is not None:
            task.cancel()

    def close_watch(self, number: int) -> None:
        """The reader has left."""
        watcher = self._watches.pop(number, None)
        if watcher is not None:
            watcher.close()

    # --- of a run. Each returns whether the answer is complete.

    def _began(self, execution: RemoteExecution, _: bool, answer: pb.Answer) -> bool:
        def told(began: Began | None) -> None:
            if began is None:
                answer.must_stop = True
                return
            execution.begun = True
            answer.began.SetInParent()
            if began.deadline is not None:
                answer.began.deadline = began.deadline

        execution.port.began(told)
        return True

    def _settle(self, execution: RemoteExecution, _: bool, answer: pb.Answer) -> bool:
        answer.done = True
        return True

    def _stop(self, execution: RemoteExecution, stop: Any, answer: pb.Answer) -> bool:
        execution.port.stop(cancellation_of(stop))
        answer.done = True
        return True

    def _begin(self, execution: RemoteExecution, event: Any, answer: pb.Answer) -> bool:
        execution.port.begin(*happened_of(event))
        answer.done = True
        return True

    def _tool_started(self, execution: RemoteExecution, call: Any, answer: pb.Answer) -> bool:
        fill_tool_call(answer.call, execution.port.tool_started(tool_call_of(call)))
        return True

    def _pause(self, execution: RemoteExecution, pause: pb.Pause, answer: pb.Answer) -> bool:
        frame = pb.DownFrame(answer=answer)
        question, calls = pause.question, tool_calls_of(pause.calls)
        continuation = pause.continuation if pause.HasField("continuation") else None
        above = handed_of(pause.above)

        async def ask() -> None:
            try:
                decisions = await execution.port.ask(question, calls, continuation, above)
                frame.answer.decisions.SetInParent()
                fill_decisions(frame.answer.decisions.decisions, decisions)
            except RunCancelledError:
                frame.answer.must_stop = True
            except Exception as error:
                self._asking.pop(answer.id, None)
                self._refuse(frame, error)
                return
            self._asking.pop(answer.id, None)
            self._connection.send(frame)

        self._asking[answer.id] = self._loop.create_task(ask())
        self._connection.asked()
        return False

    def _start_child(
        self, execution: RemoteExecution, start: pb.StartChild, answer: pb.Answer
    ) -> bool:
        offer = self._pinned(start.offer, start.key)
        info = runnable_of(start.offer.runnable)
        data = StructData(start.data) if start.HasField("data") else None
        parts, messages = parts_of(start.parts), messages_of(start.messages)
        given = Given(start.input, data, parts, messages)
        child = execution.port.start(offer, info, given, tuple(start.path), start.again)
        answer.run.run_id = child.run_id
        if start.again:  # it may end before it is executed
            here = self._host.find_here(child.run_id, scope=execution.port.scope)
            forget = self._in_loop(lambda: self._forget(offer))
            if here is None:
                forget()
            else:
                here.on_end(forget)
        return True

    def _history(self, execution: RemoteExecution, after: int, answer: pb.Answer) -> bool:
        runs = self._histories.pop(execution.number, None) if after else None
        if runs is None:
            runs = execution.port.history()[after:]
        size = 0
        for number, run in enumerate(runs):
            message = run_message(run)
            del message.parts[:]  # a caller sees them without their data, and a model with it
            fill_parts(message.parts, run.parts)
            size += message.ByteSize()
            if number and size > _PAGE:
                self._histories[execution.number] = runs[number:]
                answer.runs.more = True
                break
            answer.runs.runs.append(message)
        return True

    def left(self, execution: RemoteExecution) -> None:
        """The code of this run asks nothing more."""
        self._histories.pop(execution.number, None)

    # --- of code that may be outside every run: about runs of its scope

    def _follow_run(self, scope: Scope, ask: pb.FollowRun, answer: pb.Answer) -> bool:
        offer = self._pinned(ask.offer, ask.key)
        spec = spec_of(ask.spec, ask.data if ask.HasField("data") else None)
        runs = self._host.within(scope)
        watcher = runs.follow(offer, spec, parent_run_id=ask.parent_run_id)
        if not offer.started:  # it waits for its session, or was started before by another
            runs.on_end(watcher.run_id, self._in_loop(lambda: self._forget(offer)))
        number = next(self._ids)
        self._watches[number] = watcher
        if self._closed:
            watcher.close()
        answer.following.run_id = watcher.run_id
        answer.following.watch = number
        return True

    def _forget(self, offer: PinnedOffer) -> None:
        if not offer.started:
            self._connection.send(pb.DownFrame(forget=offer.key))

    def _pinned(self, message: pb.Offer, key: int) -> PinnedOffer:
        offer = offer_of(message)
        return PinnedOffer(**vars(offer), place=self._connection, key=key)

    def _get(self, scope: Scope, run_id: str, answer: pb.Answer) -> bool:
        answer.run.CopyFrom(run_message(self._host.find(run_id, scope=scope).snapshot()))
        return True

    def _wait(self, scope: Scope, run_id: str, answer: pb.Answer) -> bool:
        frame = pb.DownFrame(answer=answer)

        run = self._host.find(
            run_id, scope=scope
        )  # held, so that it answers also once it is forgotten

        def ended() -> None:
            self._waits.pop(answer.id, None)
            frame.answer.run.CopyFrom(run_message(run.snapshot()))
            self._connection.send(frame)

        self._waits[answer.id] = _nothing
        unsubscribe = run.on_end(self._in_loop(ended))
        self._connection.post(lambda: self._keep_wait(answer.id, unsubscribe))
        return False

    def _keep_wait(self, ask_id: int, unsubscribe: Callable[[], None]) -> None:
        if self._closed:
            unsubscribe()
        elif ask_id in self._waits:  # else the run has ended, and the answer was sent
            self._waits[ask_id] = unsubscribe

    def _in_loop(self, call: Callable[[], None]) -> Callable[[], None]:
        """The same call, made on this loop by whichever thread makes it."""
        return lambda: self._connection.post(call)

    def _take(self, _: object, number: int, answer: pb.Answer) -> bool:
        watcher = self._watches.get(number)
        if watcher is None:
            raise RunNotFound("")
        frame = pb.DownFrame(answer=answer)

        def look() -> None:
            if self._closed or number not in self._watches:
                return
            records = watcher.take()
            while not records and not watcher.ended:
                if watcher.arm(self._in_loop(look)):
                    return
                records = watcher.take()
            responses = [r.wire or response_bytes(watcher.run_id, r) for r in records]
            frame.answer.events.responses.extend(responses)
            frame.answer.events.ended = watcher.ended
            self._connection.send(frame)

        look()
        return False

    def _cancel(self, scope: Scope, cancel: pb.Cancel, answer: pb.Answer) -> bool:
        grace = cancel.grace_period if cancel.HasField("grace_period") else None
        request = CancelRequest(cancellation_of(cancel.cancellation), grace)
        here = self._host.find_here(cancel.run_id, scope=scope)
        if here is None:
            runs = self._host.within(scope)
            receipt = runs.cancel(cancel.run_id, request, before_start=cancel.before_start)
            answer.receipt.CopyFrom(receipt_message(receipt))
            return True
        receipt = here.cancel(request)
        recording = here.recording()
        if recording is None:
            answer.receipt.CopyFrom(receipt_message(receipt))
            return True
        frame = pb.DownFrame(answer=answer)

        async def record() -> None:
            try:
                frame.answer.receipt.CopyFrom(receipt_message(await recording.receipt()))
            except PullcordError as error:
                self._refuse(frame, error)
            else:
                self._connection.send(frame)
            self._asking.pop(answer.id, None)

        self._connection.post(lambda: self._ask_later(answer.id, record()))
        return False

    def _ask_later(self, ask_id: int, asking: Coroutine[Any, Any, None]) -> None:
        if self._closed:
            asking.close()
        else:
            self._asking[ask_id] = self._loop.create_task(asking)

    def _continue(self, scope: Scope, ask: pb.Continue, answer: pb.Answer) -> bool:
        runs = self._host.within(scope)
        run = runs.continue_run(ask.run_id, decisions_of(ask.decisions), ask.actor)
        answer.run.CopyFrom(run_message(run))
        return True


def _nothing() -> None:
    pass


Handler = Callable[[Answers, Any, Any, pb.Answer], bool]

_OF_RUN: dict[str, Handler] = {
    "began": Answers._began,
    "settle": Answers._settle,
    "stop": Answers._stop,
    "begin": Answers._begin,
    "tool_started": Answers._tool_started,
    "pause": Answers._pause,
    "start_child": Answers._start_child,
    "history": Answers._history,
}
_OF_NONE: dict[str, Handler] = {
    "follow_run": Answers._follow_run,
    "get": Answers._get,
    "wait": Answers._wait,
    "take": Answers._take,
    "cancel": Answers._cancel,
    "continue_run": Answers._continue,
}
