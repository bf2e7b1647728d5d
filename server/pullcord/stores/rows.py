"""Converts specs, runs, stops and events to the bytes that durable stores keep, and back.

One form for all of them: the messages of the API, so that a row outlives the code that wrote it.
Nothing here knows a table.
"""

import hashlib
import struct
from array import array
from math import isnan, nan
from typing import NamedTuple

from pullcord.engine.live.carried import OpenStep, TimeLeft
from pullcord.engine.log.record import Record
from pullcord.engine.ports import CancelRequest, Entry, Pause
from pullcord.link import frames_pb2
from pullcord.run.events import ContentDelta, ReasoningDelta, RunContinued, RunPaused
from pullcord.run.message import PartBounds
from pullcord.run.record import Run, RunSpec
from pullcord.v1 import cancel_pb2, run_pb2, run_service_pb2
from pullcord.wire.event import event_of, fill_source, response_bytes, source_of
from pullcord.wire.run import cancellation_of, fill_cancellation, run_message, run_of
from pullcord.wire.spec import parse_spec, spec_message

_NO_BOUND = 1 << 40
_ANY_PARTS = PartBounds(_NO_BOUND, _NO_BOUND, _NO_BOUND)
"""Specs were checked when their runs were started; bounds may have changed since."""
_LEFT = struct.Struct("<3d")
_DIGEST_VERSION = b"1"
"""Changes with what a digest is made of, so that servers of two releases never compare them."""


class EventRow(NamedTuple):
    """One record of a log. A tuple, which is quicker to make: each event that is stored is one."""

    sequence: int
    """Of the last event in it."""
    count: int  # type: ignore[assignment]  # hides a method of tuples that nobody calls
    data: bytes
    """A RunResponse: what every watcher is sent."""
    lengths: bytes | None
    """Of merged deltas, in characters, four bytes each, little endian; None: it is one event."""


def event_row(run_id: str, record: Record) -> EventRow:
    """A record as it is stored."""
    if record.wire is None:
        record.wire = response_bytes(run_id, record)
    lengths = record.lengths.tobytes() if record.lengths is not None else None
    return EventRow(record.sequence, record.count, record.wire, lengths)


def record_of(row: EventRow) -> Record | None:
    """A stored record; None: its payload is of a newer release."""
    event = event_of(run_service_pb2.RunResponse.FromString(row.data).event)
    if event is None:
        return None
    payload = event.payload
    if not isinstance(payload, (ContentDelta, ReasoningDelta)):
        record = Record(row.sequence, row.count, event.create_time, payload, source=event.source)
    else:
        lengths = None
        if row.lengths is not None:
            lengths = array("I")
            lengths.frombytes(row.lengths)
        record = Record(
            row.sequence,
            row.count,
            event.create_time,
            None,
            payload.text,
            event.source,
            isinstance(payload, ReasoningDelta),
            lengths,
        )
    record.wire = row.data
    return record


def spec_bytes(spec: RunSpec) -> bytes:
    """A spec, the same bytes for equal specs."""
    return spec_message(spec).SerializeToString(deterministic=True)


def spec_of(data: bytes) -> RunSpec:
    """A stored spec."""
    return parse_spec(run_pb2.RunSpec.FromString(data), _NO_BOUND, _ANY_PARTS)


def digest_of(spec: RunSpec) -> bytes:
    """A digest that is equal if two specs ask for the same run."""
    return _DIGEST_VERSION + hashlib.sha256(spec_bytes(spec)).digest()


def run_bytes(run: Run) -> bytes:
    """A run as it is stored."""
    return run_message(run).SerializeToString()


def stored_run(data: bytes) -> Run:
    """A stored run."""
    return run_of(run_pb2.Run.FromString(data))


class PauseColumns(NamedTuple):
    """What a store keeps of the wait of a run beside its events."""

    question: int
    """The number of the event by which it waits; 0: it goes on."""
    continuation: bytes | None
    paused: bytes | None
    """The run as it paused, and how long it may wait."""
    is_asked: bool
    """Whether the run itself is PAUSED; otherwise it goes on, or waits for its children."""


def pause_columns(entry: Entry) -> PauseColumns | None:
    """What becomes of a run's wait by these records. None: they say nothing of that."""
    pause = entry.pause
    if pause is not None and pause.children:
        last = entry.records[-1].sequence if entry.records else entry.after
        if pause.sequence == last:
            return PauseColumns(last, pause.continuation, _as_paused(pause), False)
    for record in reversed(entry.records):
        if record.payload is None or record.source is not None:  # nearly all of them
            continue
        if isinstance(record.payload, RunContinued):
            return PauseColumns(0, None, None, False)
        if isinstance(record.payload, RunPaused):
            if pause is None or pause.sequence != record.sequence:
                return PauseColumns(record.sequence, None, None, True)
            return PauseColumns(record.sequence, pause.continuation, _as_paused(pause), True)
    return None


def pause_of(question: int, continuation: bytes | None, paused: bytes | None) -> Pause | None:
    """A stored pause; None: it does not outlive its process, or there is none."""
    if continuation is None or paused is None:
        return None
    left = (None if isnan(one) else one for one in _LEFT.unpack_from(paused))
    run = paused[_LEFT.size :]
    more = frames_pb2.Trailer.FromString(run)
    return Pause(
        question,
        continuation,
        stored_run(run),
        TimeLeft(*left),
        dict(more.trace),
        tuple(more.children),
        source_of(more.source) if more.HasField("source") else None,
        tuple(OpenStep(source_of(step.source), step.run_id) for step in more.steps),
    )


def _as_paused(pause: Pause) -> bytes:
    """How long it may wait, the run, and what else is known of it."""
    left = (pause.left.pause, pause.left.timeout, pause.left.deadline)
    packed = _LEFT.pack(*(nan if one is None else one for one in left))
    trailer = frames_pb2.Trailer(trace=pause.trace, children=pause.children)
    if pause.source is not None:
        fill_source(trailer.source, pause.source)
    for step in pause.steps:
        fill_source(trailer.steps.add(run_id=step.run_id).source, step.source)
    return packed + run_bytes(pause.run) + trailer.SerializeToString()


def stop_bytes(request: CancelRequest) -> bytes:
    """A stop without its grace period, which has a column of its own."""
    message = cancel_pb2.Cancellation()
    fill_cancellation(message, request.cancellation)
    return message.SerializeToString()


def stop_of(data: bytes, grace_period: float | None) -> CancelRequest:
    """A stored stop."""
    cancellation = cancellation_of(cancel_pb2.Cancellation.FromString(data))
    return CancelRequest(cancellation, grace_period)
