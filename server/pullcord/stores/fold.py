"""What a run came to, from what a durable store has of it: its terms and its events.

Used where the process that executed it cannot be asked: it is gone, or another one. One function
reads the events; nothing here knows a table.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from pullcord.engine.live.ledger import Ledger
from pullcord.engine.log.log import EventLog
from pullcord.engine.log.record import Record
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import CancelRequest, Carried, EndedRun, Pause, Terms, Waiting
from pullcord.engine.sharing import Key
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, StopStage
from pullcord.run.events import (
    CancelRequested,
    Gap,
    Progress,
    RunCancelled,
    RunContinued,
    RunError,
    RunFailed,
    RunPaused,
    RunStarted,
    Snapshot,
    Source,
    TerminalPayload,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    UsageUpdated,
)
from pullcord.run.record import Run, RunSpec
from pullcord.run.scope import Scope
from pullcord.run.state import RunState

_WORDS = "the server process that executed the run is gone"
_LOST = RunError("RunLost", _WORDS)


@dataclass(frozen=True, slots=True)
class Left:
    """What a store has of a run that has not ended."""

    scope: Scope
    spec: RunSpec
    terms: Terms
    create_time: float
    begun: bool
    reserved: int
    records: Sequence[Record]
    """Its events, those after `base` where there is one."""
    base: Run | None = None
    """The run at its last event before these records, without those that came before it."""
    stop: CancelRequest | None = None
    """The stop that is recorded."""


def fold(left: Left, max_ledger: int) -> Run:
    """The run as of the last event that the store has."""
    return _fold(left, max_ledger)[0]


def lost(left: Left, now: float, options: EngineOptions) -> tuple[EndedRun, Record]:
    """The end of a run whose process is gone, and its terminal event.

    FAILED with cause LOST; CANCELLED where a stop had been accepted, since it was stopped by that.
    What its tools did that had not ended is not known.
    """
    run, ledger = _fold(left, options.max_ledger)
    ledger.close()
    run = replace(
        run,
        tool_calls=ledger.calls(),
        end_time=now,
        expire_time=now + options.retention_for(left.scope.tenant, left.spec.runnable),
        last_sequence=max(left.reserved, run.last_sequence) + 1,
    )
    payload: TerminalPayload
    if (stop := run.cancellation) is not None:
        run = replace(run, state=RunState.CANCELLED)
        payload = RunCancelled(
            stop,
            run.output,
            run.output_data,
            run.usage,
            run.tool_calls,
            stage=StopStage.ASK if left.begun else None,
            finish_reason=run.finish_reason,
        )
    else:
        cause = Cancellation(CancelCause.LOST, reason=_WORDS)
        run = replace(run, state=RunState.FAILED, cancellation=cause, error=_LOST)
        payload = RunFailed(
            _LOST,
            run.output,
            run.usage,
            run.tool_calls,
            cause,
            run.output_data,
            run.finish_reason,
        )
    return EndedRun(left.spec, run), Record(run.last_sequence, 1, now, payload)


def carried(left: Left, pause: Pause, elapsed: float) -> Carried | None:
    """What a process that is gone had asked last in the run; None: something came after it."""
    asks = left.records[-1] if left.records else None
    if asks is None or asks.sequence != pause.sequence:
        return None
    texts = [record.text for record in left.records if record.is_content]
    if left.base is not None:
        texts.insert(0, left.base.output)
    question = ""
    calls: tuple[ToolCall, ...] = ()
    if not pause.children:
        if not isinstance(asks.payload, RunPaused):
            return None
        question, calls = asks.payload.question, asks.payload.tool_calls
    return Carried(pause, question, calls, elapsed, left.records, "".join(texts))


def trees(
    found: Iterable[Waiting], ended: Mapping[Key, Run] = MappingProxyType({})
) -> tuple[list[Waiting], list[Waiting]]:
    """The runs that wait, those of a tree within its root; and those that can only be lost, because
    something of their tree was at work. `ended`: children that were stopped while they waited in
    the store only."""
    all_found = {(one.scope, one.spec.run_id): one for one in found}
    taken: set[Key] = set()

    def whole(key: Key) -> Waiting | None:
        one = all_found.get(key)
        if one is None or one.carried is None or not one.carried.pause.children:
            return one
        children, gone = [], []
        for run_id in one.carried.pause.children:
            if (run := ended.get((one.scope, run_id))) is not None:
                gone.append(run)
                continue
            child = whole((one.scope, run_id))
            if child is None or child.terms.parent_run_id != one.spec.run_id:
                return None
            children.append(child)
        return replace(one, children=tuple(children), ended=tuple(gone))

    def take(one: Waiting) -> None:
        taken.add((one.scope, one.spec.run_id))
        for child in one.children:
            take(child)

    kept = []
    for key, one in all_found.items():
        if one.carried is not None and one.terms.parent_run_id:
            continue  # with its root, or not at all
        if (root := whole(key)) is not None:
            kept.append(root)
            take(root)
    return kept, [one for key, one in all_found.items() if key not in taken]


def ended_log(ended: EndedRun, records: Iterable[Record]) -> EventLog:
    """The log of an ended run, whose events may lack some: those who come for them are told."""
    return EventLog.of(_with_gaps(ended.run, records))


def _with_gaps(run: Run, records: Iterable[Record]) -> Iterator[Record]:
    last = 0
    for record in records:
        before = record.sequence - record.count
        if last and before > last:
            gap = Gap(last + 1, before)
            yield Record(before, before - last, record.create_time, gap)
            yield Record(before, 0, record.create_time, Snapshot(run))
        yield record
        last = record.sequence


def _fold(left: Left, max_ledger: int) -> tuple[Run, Ledger]:
    spec, base = left.spec, left.base
    run = base or Run(
        spec.run_id,
        spec.runnable,
        RunState.PENDING,
        session_id=spec.session_id,
        user_id=spec.user_id,
        parent_run_id=left.terms.parent_run_id,
        input=spec.input,
        labels=spec.labels,
        create_time=left.create_time,
        tenant=left.scope.tenant,
        owner=left.scope.owner,
        retry_of=spec.retry_of,
    )
    ledger = Ledger(max_ledger)
    for call in run.tool_calls:
        ledger.begin(call)
    texts = [run.output]
    state, start_time, usage = run.state, run.start_time, run.usage
    cancellation, last, progress = run.cancellation, run.last_sequence, run.progress
    for record in left.records:
        payload, source, last = record.payload, record.source, record.sequence
        if not isinstance(payload, RunStarted | CancelRequested):
            start_time = start_time or record.create_time
        if record.is_content:
            texts.append(record.text)
        match payload:
            case ToolCallStarted(call):
                ledger.begin(_whose(call, source))
            case ToolCallCompleted(call):
                ledger.enter(_whose(call, source))
            case RunPaused(_, calls):
                for call in calls:
                    ledger.begin(_whose(call, source))
                state = RunState.PAUSED if source is None else state
            case RunContinued():
                ledger.approved("" if source is None else source.run_id)
                state = RunState.RUNNING if source is None else state
            case UsageUpdated(used) if source is None:
                usage = used
            case Progress() if source is None:
                progress = payload
            case CancelRequested(stop) if source is None:
                cancellation = stop
    if left.begun and not start_time:
        start_time = left.create_time
    if left.begun and state is RunState.PENDING:
        state = RunState.RUNNING
    if left.stop is not None:
        cancellation = _hastened(cancellation, left.stop.cancellation)
    if cancellation is not None:
        state = RunState.CANCELLING
    return (
        replace(
            run,
            state=state,
            output="".join(texts),
            start_time=start_time,
            usage=usage,
            progress=progress,
            tool_calls=ledger.calls(),
            cancellation=cancellation,
            last_sequence=last,
        ),
        ledger,
    )


def _whose(call: ToolCall, source: Source | None) -> ToolCall:
    """A call that was heard from a child is listed as the child's."""
    return call if call.run_id or source is None else replace(call, run_id=source.run_id)


def _hastened(standing: Cancellation | None, recorded: Cancellation) -> Cancellation:
    if standing is None:
        return recorded
    return standing.hastened() if recorded.mode is CancelMode.IMMEDIATE else standing
