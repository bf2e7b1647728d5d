"""Events on the wire."""

from hypothesis import given
from pullcord.engine.log.record import Record
from pullcord.run import events
from pullcord.run.events import ContentDelta, Custom, Event, ReasoningDelta
from pullcord.v1 import event_pb2, run_service_pb2
from pullcord.wire.event import _FILL, _READ, event_message, event_of, response_bytes
from pullcord.wire.values import MAX_DEPTH

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


def test_text_that_is_no_utf8_is_still_sent() -> None:
    """A lone surrogate in a model's output becomes `?` and does not break the stream."""
    event = Event("r", 1, 1e9, ContentDelta("a\ud800b"))
    read = run_service_pb2.RunResponse.FromString(_sent(event))
    assert read.event.content_delta.text == "a?b"
    custom = event_message(Event("r", 1, 1e9, Custom("x", {"k\udfff": ["\ud800"]})))
    assert custom.custom.data["k?"][0] == "?"


def test_data_that_is_no_json_goes_out_as_text() -> None:
    """An author's odd value is sent as its text, and does not break the stream."""
    odd = {"set": {1}, "nan": float("nan"), 7: 10**400, "pair": (1, None)}
    event = Event("r", 1, 1e9, Custom("x", odd))  # type: ignore[arg-type]
    read = event_of(run_service_pb2.RunResponse.FromString(_sent(event)).event)
    assert read is not None
    assert isinstance(read.payload, Custom)
    assert read.payload.data == {
        "set": "{1}",
        "nan": "nan",
        "7": "1" + "0" * 400,
        "pair": [1, None],
    }


def test_deep_data_is_sent_as_deep_as_clients_can_read() -> None:
    """Data nested beyond the limit arrives, with text where it became too deep."""
    deep: dict[str, object] = {}
    for _ in range(200):
        deep = {"a": deep}
    run = events.RunCompleted(output_data=deep)
    payload = run_service_pb2.RunResponse.FromString(
        _sent(Event("r", 1, 1e9, run))
    ).event.run_completed
    levels, inner = 1, payload.output_data
    while inner.fields["a"].HasField("struct_value"):
        inner, levels = inner.fields["a"].struct_value, levels + 1
    assert levels == MAX_DEPTH
    assert inner.fields["a"].string_value
