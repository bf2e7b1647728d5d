"""Times and durations on the wire."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from pullcord.wire.values import duration, seconds_of, set_time, time_of


@given(st.floats(-1e9, 4e9))
def test_a_time_is_exact_to_the_nanosecond(seconds: float) -> None:
    """A time is rounded to the nearest nanosecond, and is always a valid Timestamp."""
    message = Timestamp()
    set_time(message, seconds)
    assert 0 <= message.nanos < 1_000_000_000
    assert abs(time_of(message) - seconds) <= 1e-9 + abs(seconds) * 2**-52


@given(st.floats(-1e9, 1e9))
def test_a_duration_is_exact_to_the_nanosecond(seconds: float) -> None:
    """A duration's seconds and nanoseconds never differ in sign."""
    message = duration(seconds)
    assert message.seconds * message.nanos >= 0
    assert abs(message.nanos) < 1_000_000_000
    assert abs(seconds_of(message) - seconds) <= 1e-9 + abs(seconds) * 2**-52


def test_a_nanosecond_short_of_a_second_rounds_up() -> None:
    """Rounding carries into the seconds."""
    message = Timestamp()
    set_time(message, 1 - 1e-12)
    assert message == Timestamp(seconds=1)
    assert duration(-1.5) == Duration(seconds=-1, nanos=-500_000_000)
