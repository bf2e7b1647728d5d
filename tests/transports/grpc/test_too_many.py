"""Requests that hold too many of something: refused by name, before any of it is read."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from pullcord import RunContext, runnable
from pullcord.run.errors import InvalidArgument
from pullcord.wire import counting
from pullcord.wire.counting import MAX_VALUES
from pullcord.wire.fields import MAX_REQUEST_BYTES

from tests.transports.harness import Serve, kind_of, make_spec, refusal, v1

MIB = 1024 * 1024


@runnable
def counts(ctx: RunContext) -> str:
    assert ctx.input_data is not None
    return str(len(ctx.input_data["a"]))


def nulls(count: int) -> Struct:
    data = Struct()
    data.fields["a"].list_value.values.extend([Value(null_value=0)] * count)  # type: ignore[arg-type]  # the only one
    return data


def start(**spec: Any) -> bytes:
    return v1.StartRunRequest(spec=make_spec("counts", **spec)).SerializeToString()


REQUESTS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "states": (
        "ListRuns",
        lambda: v1.ListRunsRequest(states=[1] * 200_000).SerializeToString(),
        "states",
    ),
    "unread states": ("ListRuns", lambda: b"\x2a\x84\x80\x80\x04" + b"\x01" * 4 * MIB, ""),
    "a filter's labels": (
        "CancelRuns",
        lambda: v1.CancelRunsRequest(
            labels={str(n): "" for n in range(10_000)}
        ).SerializeToString(),
        "labels",
    ),
    "labels": (
        "StartRun",
        lambda: start(labels={str(n): "" for n in range(100_000)}),
        "spec.labels",
    ),
    "values": ("StartRun", lambda: start(input_data=nulls(MAX_VALUES)), "spec.input_data"),
    "millions of values": (
        "StartRun",
        lambda: start(input_data=nulls(2_000_000)),
        "spec.input_data",
    ),
    "decisions": (
        "ContinueRun",
        lambda: v1.ContinueRunRequest(
            run_id="r", decisions=[v1.Decision()] * 100_000
        ).SerializeToString(),
        "decisions",
    ),
    "fields that nobody knows": ("StartRun", lambda: b"\xf8\x7f\x01" * 100_000, ""),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_promise_11_too_many_are_refused_by_name(serve: Serve, what: str) -> None:
    """The refusal names the field and its limit."""
    method, make, field = REQUESTS[what]
    served = serve(counts)
    call = served.channel.unary_unary(f"/pullcord.v1.RunService/{method}")
    refused = refusal(lambda: call(make(), timeout=60))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refused.fields == [field]
    assert "at most" in refused.words


def test_what_fits_is_read_wherever_it_is_read(serve: Serve) -> None:
    """Requests below the bounds, small and large, start runs that get all of their data."""
    served = serve(counts)
    for count in (1, 10_000, MAX_VALUES - 2):
        end = served.run("counts", input_data=nulls(count)).end()
        assert kind_of(end) == "run_completed"
        assert end.run_completed.output == str(count)


@pytest.mark.parametrize(
    "check", [lambda data: counting.check_start(data, MIB), counting.check_continue]
)
@pytest.mark.parametrize("byte", range(0, 256, 5))
def test_nonsense_is_left_to_the_reader(check: Callable[[bytes], None], byte: int) -> None:
    """Bytes that are no message are refused as too many fields, or not here; never otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "COUNT_FROM", 0)
        for length in (1, 7, 100, 900):
            check(bytes([byte]) * length)


@pytest.mark.parametrize("shape", ["list", "keys", "nested"])
def test_values_are_counted_on_the_bytes_as_in_the_message(shape: str) -> None:
    """A request of just the bound passes, and one value more is refused, whatever its shape."""

    def data(count: int) -> Struct:
        text = "x" * 20  # so that it is long enough to be looked at
        if shape == "list":
            return Struct(
                fields={"a": Value(list_value={"values": [Value(string_value=text)] * (count - 1)})}
            )
        if shape == "keys":
            return Struct(fields={f"{n:020}": Value(string_value=text) for n in range(count)})
        pairs = Value(struct_value=Struct(fields={"a": Value(string_value=text)}))
        return Struct(fields={"a": Value(list_value={"values": [pairs] * ((count - 1) // 2)})})

    for count, fits in ((MAX_VALUES - 1, True), (MAX_VALUES + 3, False)):
        request = start(input_data=data(count))
        assert len(request) > 512 * 1024
        if fits:
            counting.check_start(request, 16 * MIB)
        else:
            with pytest.raises(InvalidArgument, match="50000 values"):
                counting.check_start(request, 16 * MIB)


def test_a_small_request_is_small() -> None:
    """The largest valid filter is far below the bound of a request."""
    labels = {f"{n:03}" + "ü" * 253: "ü" * 256 for n in range(64)}
    message: Message = v1.ListRunsRequest(labels=labels, states=[1] * 64, page_token="x" * 1024)
    assert message.ByteSize() < MAX_REQUEST_BYTES
