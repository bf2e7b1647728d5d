"""Large data goes into an event's bytes as it is, and they are those of the event."""

from typing import Any

import pytest
from hypothesis import given
from pullcord.engine.log.record import Record
from pullcord.link import frames_pb2 as pb
from pullcord.link.values import fill_happened, happened_of
from pullcord.run.events import Custom, Payload, RunCompleted
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire import unread
from pullcord.wire.event import response_bytes
from pullcord.wire.unread import without_data
from pullcord.wire.values import StructData, struct_bytes

from tests.wire.strategies import data, payloads


@given(payloads)
def test_a_frame_carries_every_payload(payload: Payload) -> None:
    """What a worker says is what the control process reads."""
    frame = pb.Happened()
    fill_happened(frame, payload, None)
    assert happened_of(pb.Happened.FromString(frame.SerializeToString())) == (payload, None)
    assert frame.HasField("data") is (without_data(payload)[1] is not None)


@pytest.mark.parametrize("least", [0, 10**9])
@given(made=data)
def test_the_bytes_are_those_of_the_whole_event(least: int, made: dict[str, Any]) -> None:
    """Whether the data was put in unread or not, a client reads the same event."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unread, "_LARGE", least)
        for payload in (Custom("name", made), RunCompleted("text", output_data=made)):
            plain = v1.RunResponse.FromString(response_bytes("run", Record(7, 1, 1.5, payload)))
            apart = unread.with_data(payload, StructData(struct_bytes(made)))
            sent = v1.RunResponse.FromString(response_bytes("run", Record(7, 1, 1.5, apart)))
            assert sent.event.WhichOneof("payload") == plain.event.WhichOneof("payload")
            if made:
                assert sent == plain
