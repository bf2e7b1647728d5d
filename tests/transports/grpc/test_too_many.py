"""Requests that hold too many of something: refused by name, before any of it is read."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct, Value
from pullcord import RunContext, runnable
from pullcord.run.errors import InvalidArgument
from pullcord.run.message import BOUNDS
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
    "unread states": (
        "ListRuns",
        lambda: b"\x22\x80\x80\x80\x02" + b"\x01" * 4 * MIB,
        "states",
    ),
    "what is no message": ("ListRuns", lambda: b"\x22\xff\xff\xff\x0f" + b"\x01" * MIB, ""),
    "a long filter": (
        "ListRuns",
        lambda: v1.ListRunsRequest(user_id="x" * MIB, page_token="y").SerializeToString(),
        "user_id",
    ),
    "a long reason": (
        "CancelRuns",
        lambda: v1.CancelRunsRequest(user_id="x", reason="y" * MIB).SerializeToString(),
        "reason",
    ),
    "a long field that nobody knows": (
        "CancelRuns",
        lambda: b"\xfa\x7f\x80\x80\x40" + b"\x01" * MIB,
        "",
    ),
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
    "values of a large request": (
        "StartRun",
        lambda: start(input="x" * 20_000, input_data=nulls(MAX_VALUES)),
        "spec.input_data",
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
    "check", [lambda data: counting.split_start(data, MIB, BOUNDS), counting.check_continue]
)
@pytest.mark.parametrize("byte", range(0, 256, 5))
def test_nonsense_is_left_to_the_reader(check: Callable[[bytes], None], byte: int) -> None:
    """Bytes that are no message are refused as such, or not here; never otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "COUNT_FROM", 0)
        for length in (1, 7, 100, 900):
            with suppress(InvalidArgument):
                check(bytes([byte]) * length)


def test_a_small_request_is_small() -> None:
    """The largest valid filter is far below the bound of a request."""
    labels = {f"{n:03}" + "ü" * 253: "ü" * 256 for n in range(64)}
    message: Message = v1.ListRunsRequest(labels=labels, states=[1] * 64, page_token="x" * 1024)
    assert message.ByteSize() < MAX_REQUEST_BYTES
