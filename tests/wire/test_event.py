"""Events on the wire."""

from typing import Any

import pytest
from hypothesis import given
from pullcord.engine.log.record import Record
from pullcord.run import events
from pullcord.run.events import ContentDelta, Custom, Event, ReasoningDelta
from pullcord.v1 import event_pb2, run_service_pb2
from pullcord.wire.event import _FILL, _READ, event_message, event_of, response_bytes

from tests.wire.strategies import all_events


def _sent(event: Event) -> bytes:
    """The bytes that watchers get of an event, as the log keeps it."""
    payload = event.payload
    if isinstance(payload, (ContentDelta, ReasoningDelta)):
        thinks = isinstance(payload, ReasoningDelta)
        text, count = payload.text, payload.count
        record = Record(event.sequence, count, event.create_time, None, text, event.source, thinks)
    else:
        record = Record(event.sequence, 1, event.create_time, payload, source=event.source)
    return response_bytes(event.run_id, record)


@given(all_events)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    """Whatever a run says reaches its watcher unchanged."""
    message = run_service_pb2.RunResponse.FromString(_sent(event))
    assert event_of(message.event) == event


@given(all_events)
def test_run_and_watch_send_the_same_bytes(event: Event) -> None:
    """An event is serialized once for Run and WatchRun alike."""
    wrapped = run_service_pb2.WatchRunResponse(event=event_message(event))
    read = run_service_pb2.WatchRunResponse.FromString(_sent(event))
    assert read == wrapped


def test_every_payload_of_the_proto_is_known() -> None:
    """Each payload that the proto defines has its class."""
    named = {field.name for field in event_pb2.RunEvent.DESCRIPTOR.oneofs_by_name["payload"].fields}
    assert set(_READ) == named
    assert {name for name, _ in _FILL.values()} == named


def test_a_payload_of_a_newer_server_is_skipped() -> None:
    """A client reads None where a newer server says something it does not know."""
    newer = event_pb2.RunEvent(run_id="r", sequence=3).SerializeToString() + b"\xba\x3e\x01x"
    assert event_of(event_pb2.RunEvent.FromString(newer)) is None


def test_an_enum_value_of_a_newer_server_is_no_failure() -> None:
    """A cause that the client does not know does not hide that the run was cancelled."""
    message = event_pb2.RunEvent(run_id="r", sequence=3)
    message.run_cancelled.cancellation.cause = 99  # type: ignore[assignment]
    event = event_of(message)
    assert event is not None
    assert isinstance(event.payload, events.RunCancelled)


@pytest.mark.parametrize(
    "payload",
    [
        Custom("x", {"k": object()}),
        Custom("x", {"k": float("nan")}),
        Custom("x", {"k": 10**400}),
        Custom("\ud800"),
        events.StepStarted(7),  # type: ignore[arg-type]
        events.StepCompleted("s", state="done"),  # type: ignore[arg-type]
        object(),
    ],
    ids=range(7),
)
def test_an_event_that_cannot_be_written_breaks_no_stream(payload: Any) -> None:
    """Should anything get past the gate, its place is taken by an event that says so."""
    read = event_of(
        run_service_pb2.RunResponse.FromString(_sent(Event("r", 5, 1e9, payload))).event
    )
    assert read is not None
    assert (read.run_id, read.sequence, read.source) == ("r", 5, None)
    assert isinstance(read.payload, Custom)
    assert read.payload.name == "Unsendable"
    assert type(payload).__name__ in read.payload.data["message"]


def test_an_end_that_cannot_be_written_is_an_end_still() -> None:
    """The run's last event is terminal whatever is in it; one of a child is not."""
    end = events.RunCompleted("text", {"k": object()})
    read = event_of(run_service_pb2.RunResponse.FromString(_sent(Event("r", 5, 1e9, end))).event)
    assert read is not None
    assert isinstance(read.payload, events.RunFailed)
    assert read.payload.error.type == "Unsendable"
    member = events.Source(events.SourceKind.AGENT, "m", "", "r2", ("t", "m"))
    sent = _sent(Event("r", 5, 1e9, end, member))
    read = event_of(run_service_pb2.RunResponse.FromString(sent).event)
    assert read is not None
    assert not read.is_terminal
