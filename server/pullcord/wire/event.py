"""Events between domain and proto, and the bytes that every watcher of a run is sent.

This is the hot path: an event is serialized once, however many watch. What is sent to whom, and
when, is the transports' business.
"""

import logging
from collections.abc import Callable
from typing import Any

from pullcord.engine.log.record import Record
from pullcord.run import events
from pullcord.run.events import Event, Payload, RunError, Source
from pullcord.v1 import event_pb2, run_service_pb2
from pullcord.wire.enums import FINISH_REASON, RUN_STATE, SOURCE_KIND, STOP_STAGE
from pullcord.wire.run import (
    UNSENDABLE,
    cancellation_of,
    error_of,
    fill_cancellation,
    fill_error,
    fill_run,
    fill_tool_call,
    fill_usage,
    run_of,
    tool_call_of,
    tool_calls_of,
    usage_of,
)
from pullcord.wire.unread import DATA, around, without_unread
from pullcord.wire.values import data_of, set_data, set_time, time_of

_log = logging.getLogger("pullcord.wire")


def response_bytes(run_id: str, record: Record) -> bytes:
    """The bytes of a RunResponse, which are those of a WatchRunResponse too.

    Never fails: an event that cannot be written is sent as one that says so, and the stream goes
    on. The gate is there to make that impossible.

    A delta goes from the log to the message without becoming an `Event`, which halves the time.
    Assembling its bytes by hand was measured and is no quicker than filling a message in place, so
    that protobuf alone knows its encoding.
    """
    message = run_service_pb2.RunResponse()
    event = message.event
    payload = record.payload
    unread = b""
    try:
        if payload is not None and type(payload) in DATA:
            payload, unread = without_unread(payload)
        _fill_head(event, run_id, record.sequence, record.create_time, record.source)
        if payload is None:
            delta = event.reasoning_delta if record.reasoning else event.content_delta
            delta.text = record.text  # an empty text, too, says which payload this is
            if record.count > 1:  # unset says one
                delta.count = record.count
        else:
            fill_body(event, payload)
            if unread:
                return around(message, DATA[type(payload)], unread)
        return message.SerializeToString()
    except Exception:
        _log.exception("event %d of run %s cannot be written", record.sequence, run_id)
        return _unsendable(run_id, record).SerializeToString()


def _unsendable(run_id: str, record: Record) -> run_service_pb2.RunResponse:
    message = run_service_pb2.RunResponse()
    _fill_head(message.event, run_id, record.sequence, record.create_time, None)
    kind = type(record.payload).__name__
    words = f"the server could not write this event ({kind}); its log says more"
    if record.source is None and isinstance(record.payload, events.TERMINAL_PAYLOADS):
        fill_error(message.event.run_failed.error, RunError(UNSENDABLE, words))
    else:
        message.event.custom.name = UNSENDABLE
        set_data(message.event.custom.data, {"message": words})
    return message


def event_message(event: Event) -> event_pb2.RunEvent:
    """Writes an event."""
    message = event_pb2.RunEvent()
    _fill_head(message, event.run_id, event.sequence, event.create_time, event.source)
    fill_body(message, event.payload)
    return message


def _fill_head(
    message: event_pb2.RunEvent,
    run_id: str,
    sequence: int,
    create_time: float,
    source: Source | None,
) -> None:
    message.run_id = run_id
    message.sequence = sequence
    set_time(message.create_time, create_time)
    if source is not None:
        fill_source(message.source, source)


def fill_body(message: event_pb2.RunEvent, payload: Payload) -> None:
    """Writes the payload of an event into a message without one."""
    name, fill = _FILL[type(payload)]
    part = getattr(message, name)
    part.SetInParent()
    fill(part, payload)


def event_of(message: event_pb2.RunEvent) -> Event | None:
    """Reads an event; None where its payload is of a newer server, and to be skipped."""
    name = message.WhichOneof("payload")
    if name is None:
        return None
    return Event(
        run_id=message.run_id,
        sequence=message.sequence,
        create_time=time_of(message.create_time),
        payload=_READ[name](getattr(message, name)),
        source=source_of(message.source) if message.HasField("source") else None,
    )


def fill_source(message: event_pb2.Source, source: Source) -> None:
    """Writes who made an event."""
    message.kind = SOURCE_KIND.numbers[source.kind]
    message.id = source.id
    message.name = source.name
    message.run_id = source.run_id
    message.path.extend(source.path)


def payload_of(message: event_pb2.RunEvent) -> Payload:
    """Reads the payload of an event that has one of this version."""
    name = message.WhichOneof("payload")
    assert name is not None
    return _READ[name](getattr(message, name))


def source_of(message: event_pb2.Source) -> Source:
    """Reads who made an event."""
    return Source(
        kind=SOURCE_KIND.read(message.kind),
        id=message.id,
        name=message.name,
        run_id=message.run_id,
        path=tuple(message.path),
    )


# --- payloads, in the order of the proto. `m` is the payload's message, `p` its value.


def _fill_run_started(m: event_pb2.RunStarted, p: events.RunStarted) -> None:
    m.runnable = p.runnable
    m.session_id = p.session_id
    m.parent_run_id = p.parent_run_id


def _fill_delta(
    m: event_pb2.ContentDelta | event_pb2.ReasoningDelta,
    p: events.ContentDelta | events.ReasoningDelta,
) -> None:
    m.text = p.text  # an empty text, too, says which payload this is
    if p.count > 1:  # unset says one
        m.count = p.count


def _fill_tool_call(
    m: event_pb2.ToolCallStarted | event_pb2.ToolCallCompleted,
    p: events.ToolCallStarted | events.ToolCallCompleted,
) -> None:
    fill_tool_call(m.tool_call, p.tool_call)


def _fill_step_started(m: event_pb2.StepStarted, p: events.StepStarted) -> None:
    m.step_id = p.step_id
    m.name = p.name
    m.attempt = p.attempt


def _fill_step_completed(m: event_pb2.StepCompleted, p: events.StepCompleted) -> None:
    m.step_id = p.step_id
    m.name = p.name
    m.state = RUN_STATE.numbers[p.state]
    m.output = p.output
    if p.error is not None:
        fill_error(m.error, p.error)


def _step_completed_of(m: event_pb2.StepCompleted) -> events.StepCompleted:
    error = error_of(m.error) if m.HasField("error") else None
    return events.StepCompleted(m.step_id, m.name, RUN_STATE.read(m.state), m.output, error)


def _fill_usage_updated(m: event_pb2.UsageUpdated, p: events.UsageUpdated) -> None:
    fill_usage(m.usage, p.usage)


def _fill_cancel_requested(m: event_pb2.CancelRequested, p: events.CancelRequested) -> None:
    fill_cancellation(m.cancellation, p.cancellation)


def _fill_run_paused(m: event_pb2.RunPaused, p: events.RunPaused) -> None:
    m.question = p.question
    for call in p.tool_calls:
        fill_tool_call(m.tool_calls.add(), call)
    m.survives = p.survives


def _fill_run_continued(m: event_pb2.RunContinued, p: events.RunContinued) -> None:
    m.actor = p.actor


def _fill_heartbeat(m: event_pb2.Heartbeat, p: events.Heartbeat) -> None:
    pass


def _fill_gap(m: event_pb2.Gap, p: events.Gap) -> None:
    m.first_sequence = p.first_sequence
    m.last_sequence = p.last_sequence


def _fill_snapshot(m: event_pb2.Snapshot, p: events.Snapshot) -> None:
    fill_run(m.run, p.run)


def _fill_custom(m: event_pb2.Custom, p: events.Custom) -> None:
    m.name = p.name
    if p.data:  # unset says none
        set_data(m.data, p.data)


def _fill_progress(m: event_pb2.Progress, p: events.Progress) -> None:
    m.done = p.done
    m.total = p.total
    m.note = p.note


def _fill_result(
    m: event_pb2.RunCompleted | event_pb2.RunCancelled | event_pb2.RunFailed,
    p: events.RunCompleted | events.RunCancelled | events.RunFailed,
) -> None:
    m.output = p.output
    if p.finish_reason is not None:
        m.finish_reason = FINISH_REASON.numbers[p.finish_reason]
    fill_usage(m.usage, p.usage)
    for call in p.tool_calls:
        fill_tool_call(m.tool_calls.add(), call)


def _fill_run_completed(m: event_pb2.RunCompleted, p: events.RunCompleted) -> None:
    _fill_result(m, p)
    if p.output_data is not None:
        set_data(m.output_data, p.output_data)


def _run_completed_of(m: event_pb2.RunCompleted) -> events.RunCompleted:
    return events.RunCompleted(
        output=m.output,
        output_data=data_of(m.output_data) if m.HasField("output_data") else None,
        usage=usage_of(m.usage),
        tool_calls=tool_calls_of(m.tool_calls),
        finish_reason=FINISH_REASON.find(m.finish_reason),
    )


def _fill_run_cancelled(m: event_pb2.RunCancelled, p: events.RunCancelled) -> None:
    _fill_result(m, p)
    fill_cancellation(m.cancellation, p.cancellation)
    if p.output_data is not None:
        set_data(m.output_data, p.output_data)
    m.abandoned = p.abandoned
    if p.stage is not None:
        m.stage = STOP_STAGE.numbers[p.stage]
    m.killed_processes.extend(p.killed_processes)


def _run_cancelled_of(m: event_pb2.RunCancelled) -> events.RunCancelled:
    return events.RunCancelled(
        cancellation=cancellation_of(m.cancellation),
        output=m.output,
        output_data=data_of(m.output_data) if m.HasField("output_data") else None,
        usage=usage_of(m.usage),
        tool_calls=tool_calls_of(m.tool_calls),
        abandoned=m.abandoned,
        stage=STOP_STAGE.read(m.stage) if m.stage else None,
        killed_processes=tuple(m.killed_processes),
        finish_reason=FINISH_REASON.find(m.finish_reason),
    )


def _fill_run_failed(m: event_pb2.RunFailed, p: events.RunFailed) -> None:
    _fill_result(m, p)
    fill_error(m.error, p.error)
    if p.cancellation is not None:
        fill_cancellation(m.cancellation, p.cancellation)
    if p.output_data is not None:
        set_data(m.output_data, p.output_data)


def _run_failed_of(m: event_pb2.RunFailed) -> events.RunFailed:
    return events.RunFailed(
        error=error_of(m.error),
        output=m.output,
        usage=usage_of(m.usage),
        tool_calls=tool_calls_of(m.tool_calls),
        cancellation=cancellation_of(m.cancellation) if m.HasField("cancellation") else None,
        output_data=data_of(m.output_data) if m.HasField("output_data") else None,
        finish_reason=FINISH_REASON.find(m.finish_reason),
    )


# Each payload's class, its field in RunEvent, and the two functions between them.
_PAYLOADS: list[tuple[type[Payload], str, Callable[..., None], Callable[[Any], Payload]]] = [
    (
        events.RunStarted,
        "run_started",
        _fill_run_started,
        lambda m: events.RunStarted(m.runnable, m.session_id, m.parent_run_id),
    ),
    (
        events.ContentDelta,
        "content_delta",
        _fill_delta,
        lambda m: events.ContentDelta(m.text, m.count or 1),
    ),
    (
        events.ReasoningDelta,
        "reasoning_delta",
        _fill_delta,
        lambda m: events.ReasoningDelta(m.text, m.count or 1),
    ),
    (
        events.ToolCallStarted,
        "tool_call_started",
        _fill_tool_call,
        lambda m: events.ToolCallStarted(tool_call_of(m.tool_call)),
    ),
    (
        events.ToolCallCompleted,
        "tool_call_completed",
        _fill_tool_call,
        lambda m: events.ToolCallCompleted(tool_call_of(m.tool_call)),
    ),
    (
        events.StepStarted,
        "step_started",
        _fill_step_started,
        lambda m: events.StepStarted(m.step_id, m.name, m.attempt),
    ),
    (events.StepCompleted, "step_completed", _fill_step_completed, _step_completed_of),
    (
        events.UsageUpdated,
        "usage_updated",
        _fill_usage_updated,
        lambda m: events.UsageUpdated(usage_of(m.usage)),
    ),
    (
        events.CancelRequested,
        "cancel_requested",
        _fill_cancel_requested,
        lambda m: events.CancelRequested(cancellation_of(m.cancellation)),
    ),
    (
        events.RunPaused,
        "run_paused",
        _fill_run_paused,
        lambda m: events.RunPaused(m.question, tool_calls_of(m.tool_calls), m.survives),
    ),
    (
        events.RunContinued,
        "run_continued",
        _fill_run_continued,
        lambda m: events.RunContinued(m.actor),
    ),
    (events.Heartbeat, "heartbeat", _fill_heartbeat, lambda m: events.Heartbeat()),
    (events.Gap, "gap", _fill_gap, lambda m: events.Gap(m.first_sequence, m.last_sequence)),
    (events.Snapshot, "snapshot", _fill_snapshot, lambda m: events.Snapshot(run_of(m.run))),
    (
        events.Custom,
        "custom",
        _fill_custom,
        lambda m: events.Custom(m.name, data_of(m.data)),
    ),
    (events.RunCompleted, "run_completed", _fill_run_completed, _run_completed_of),
    (events.RunCancelled, "run_cancelled", _fill_run_cancelled, _run_cancelled_of),
    (events.RunFailed, "run_failed", _fill_run_failed, _run_failed_of),
    (
        events.Progress,
        "progress",
        _fill_progress,
        lambda m: events.Progress(m.done, m.total, m.note),
    ),
]

_FILL = {payload: (name, fill) for payload, name, fill, _ in _PAYLOADS}
_READ = {name: read for _, name, _, read in _PAYLOADS}
