"""What is refused, and how: every wrong field at once, and never a status without words."""

import asyncio
import contextlib
import random

import grpc
import grpc.aio
import pytest
from google.protobuf import duration_pb2, struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pullcord import RunContext, runnable
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.transports.harness import (
    PATIENCE,
    TERMINAL,
    Refusal,
    Serve,
    Served,
    Signal,
    kind_of,
    make_settings,
    make_spec,
    refusal,
    seconds,
    v1,
)

SERVICE = v1.DESCRIPTOR.services_by_name["RunService"]
METHODS = {method.name: method for method in SERVICE.methods}


@runnable
async def echo(input: str) -> str:
    return input


class TestEveryField:
    def test_a_spec_s_wrong_fields_are_named_all_at_once(self, serve: Serve) -> None:
        """INVALID_ARGUMENT names every field of a spec that is wrong, by its path."""
        served = serve(echo)
        spec = make_spec(
            "agents/No Such Name",
            run_id="white space",
            session_id="a/b",
            user_id="a b",
            limits={"timeout": seconds(-1), "max_tokens": -1, "max_cost": float("nan")},
            on_disconnect=77,
            labels={"": "empty"},
            input_data={"a": [1, float("inf")]},
            session_policy=9,
        )
        for call in (
            lambda: served.stub.StartRun(v1.StartRunRequest(spec=spec)),
            lambda: list(served.stub.Run(v1.RunRequest(spec=spec))),
        ):
            refused = refusal(call)
            assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
            assert refused.reason == "INVALID_ARGUMENT"
            assert sorted(refused.fields) == [
                "spec.input_data.a[1]",
                "spec.labels['']",
                "spec.limits.max_cost",
                "spec.limits.max_tokens",
                "spec.limits.timeout",
                "spec.on_disconnect",
                "spec.run_id",
                "spec.runnable",
                "spec.session_id",
                "spec.session_policy",
                "spec.user_id",
            ]

    def test_a_cancel_s_wrong_fields_too(self, serve: Serve) -> None:
        """A cancel that is wrong in every field is told every field."""
        request = v1.CancelRunRequest(
            reason="x" * 2000, mode=9, grace_period=seconds(-1), wait=seconds(10**9)
        )
        refused = refusal(lambda: serve(echo).stub.CancelRun(request))
        assert refused.fields == ["run_id", "reason", "mode", "grace_period", "wait"]

    def test_an_empty_request_names_what_is_missing(self, serve: Serve) -> None:
        """Requests without their required fields are INVALID_ARGUMENT, and say which."""
        served = serve(echo)
        assert refusal(lambda: list(served.stub.Run(v1.RunRequest()))).fields == ["spec.runnable"]
        assert refusal(lambda: served.stub.GetRun(v1.GetRunRequest())).fields == ["run_id"]
        assert refusal(lambda: list(served.stub.WatchRun(v1.WatchRunRequest()))).fields == [
            "run_id"
        ]

    def test_many_wrong_fields_still_fit_a_status(self, serve: Serve) -> None:
        """Of very many wrong fields, in whatever script, as many are named as a status holds."""
        labels = {f"{n}" + "\U0001f600" * 300: "\U0001f600" * 300 for n in range(60)}
        data = struct_pb2.Struct()
        for number in range(200):
            data.fields["\U0001f600" * 40 + str(number)].number_value = float("nan")
        served = serve(echo)
        spec = make_spec("echo", labels=labels, input_data=data)
        refused = refusal(lambda: served.stub.StartRun(v1.StartRunRequest(spec=spec)))
        assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
        assert len(refused.fields) > 3
        assert "more" in refused.bad_request.field_violations[-1].description


class TestTooLarge:
    def test_input_over_the_bound_is_refused(self, serve: Serve) -> None:
        """Text or data over max_input_bytes is INVALID_ARGUMENT; at the bound it is taken."""
        served = serve(echo, max_input_bytes=1000)
        assert served.run("echo", "x" * 1000).end().run_completed.output == "x" * 1000
        refused = refusal(lambda: served.start("echo", "ü" * 501, input_data={"k": "v" * 1000}))
        assert refused.fields == ["spec.input", "spec.input_data"]

    def test_what_no_server_would_read_is_refused_by_grpc(self, serve: Serve) -> None:
        """A request over 24 MiB is RESOURCE_EXHAUSTED by gRPC itself, and the server goes on."""
        served = serve(echo)
        with pytest.raises(grpc.RpcError) as caught:
            served.start("echo", "x" * 30_000_000)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        served.run("echo").end()

    def test_a_larger_bound_of_input_is_a_larger_message(self, serve: Serve) -> None:
        """max_input_bytes above the usual message size lets such requests through."""

        @runnable
        async def counts(input: str) -> str:
            return str(len(input))

        served = serve(counts, max_input_bytes=24 * 2**20)
        assert served.run("counts", "x" * 20_000_000).end().run_completed.output == "20000000"


# --- fuzz

ODD_TEXT = st.one_of(
    st.sampled_from(
        ["", "\0", "r", "agents/echo", "agents/", "a" * 129, "é" * 100_000, "\u202e", "../..", "%s"]
    ),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
)
ODD_NUMBERS = st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63), 1000, 1001])
ODD_FLOATS = st.one_of(st.sampled_from([float("nan"), float("inf"), -1.0, 1e308]), st.floats())


def values(field: FieldDescriptor) -> st.SearchStrategy:
    kinds = FieldDescriptor
    if field.message_type is not None:
        return messages(field.message_type)
    if field.type == kinds.TYPE_STRING:
        return ODD_TEXT
    if field.type == kinds.TYPE_BOOL:
        return st.booleans()
    if field.type == kinds.TYPE_DOUBLE:
        return ODD_FLOATS
    if field.type == kinds.TYPE_ENUM:
        return st.one_of(st.integers(0, 9), st.sampled_from([-1, 99, 2**31 - 1, -(2**31)]))
    if field.type == kinds.TYPE_INT32:
        return ODD_NUMBERS.filter(lambda n: -(2**31) <= n < 2**31)
    if field.type == kinds.TYPE_BYTES:
        return st.sampled_from([b"", b"x", b"\xff" * 1000])
    assert field.type == kinds.TYPE_INT64
    return ODD_NUMBERS


@st.composite
def deep_data(draw: st.DrawFn) -> struct_pb2.Struct:
    top = struct_pb2.Struct()
    struct = top
    for level in range(draw(st.sampled_from([0, 1, 5, 29, 30, 31, 32]))):
        value = struct.fields[draw(st.sampled_from(["", "k", "ü" * 50]))]
        struct = value.list_value.values.add().struct_value if level % 2 else value.struct_value
    struct.fields["end"].number_value = draw(ODD_FLOATS)
    struct.fields["unset"].SetInParent()
    return top


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor) -> Message:
    if descriptor.full_name == "google.protobuf.Struct":
        return draw(deep_data())
    if descriptor.full_name == "google.protobuf.Duration":
        # Long waits would be granted: the fuzz is about what is answered, not about waiting.
        whole = st.sampled_from([0, 0, -1, 2**63 - 1, -(2**63), 315_576_000_001])
        nanos = st.sampled_from([0, 1, 5_000_000, -1, 2**31 - 1, -(2**31), 10**9])
        return duration_pb2.Duration(seconds=draw(whole), nanos=draw(nanos))
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if draw(st.integers(0, 3)) == 0:
            continue
        fill(draw, message, field)
    return message


def fill(draw: st.DrawFn, message: Message, field: FieldDescriptor) -> None:
    target = getattr(message, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        target.update(draw(st.dictionaries(ODD_TEXT, ODD_TEXT, max_size=3)))
    elif field.is_repeated:
        target.extend(draw(st.lists(values(field), max_size=4)))
    elif field.message_type is not None:
        target.CopyFrom(draw(values(field)))
    else:
        setattr(message, field.name, draw(values(field)))


@pytest.fixture(scope="module")
def fuzzed():
    from pullcord.server import RunServer

    options = {"max_tombstones": 50, "max_live_runs": 50, "max_finished_runs": 50}
    served = Served(RunServer(agents=[echo], settings=make_settings(**options)))
    yield served
    served.wait_free()
    served.close()


CODES = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
}


def check_answer(served: Served, name: str, data: bytes) -> None:
    path = f"/{SERVICE.full_name}/{name}"
    multi = served.channel.unary_stream if METHODS[name].server_streaming else None
    try:
        if name == "WatchRuns":  # a list is never over: it says when it has caught up
            changes = multi(path)(data, timeout=PATIENCE)
            v1.WatchRunsResponse.FromString(next(changes))
            changes.cancel()
        elif multi is not None:
            answers = list(multi(path)(data, timeout=PATIENCE))
            assert not answers or kind_of(v1.RunResponse.FromString(answers[-1]).event) in TERMINAL
        else:
            served.channel.unary_unary(path)(data, timeout=PATIENCE)
    except grpc.RpcError as error:
        refused = Refusal(error)
        assert refused.code in CODES
        if refused.code is grpc.StatusCode.INVALID_ARGUMENT:
            assert refused.bad_request.field_violations
        if refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            assert refused.retry.HasField("retry_delay")


FUZZ = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
    database=None,
)


@pytest.mark.parametrize("name", METHODS)
@FUZZ
@given(data=st.data())
def test_whatever_is_asked_gets_an_answer_with_details(
    fuzzed: Served, name: str, data: st.DataObject
) -> None:
    """Any request of any rpc is served, or refused with a typed error that says what is wrong."""
    request = data.draw(messages(METHODS[name].input_type))
    check_answer(fuzzed, name, request.SerializeToString())


@pytest.mark.parametrize("name", METHODS)
@FUZZ
@given(data=st.binary(max_size=200))
def test_whatever_bytes_are_sent_get_an_answer_with_details(
    fuzzed: Served, name: str, data: bytes
) -> None:
    """Bytes that are no request are INVALID_ARGUMENT, never a failure of the server."""
    check_answer(fuzzed, name, data)


def test_a_request_that_is_nested_too_deep_is_refused(fuzzed: Served) -> None:
    """Data nested deeper than protobuf reads is INVALID_ARGUMENT."""
    inner = b""
    for _ in range(300):
        inner = (
            struct_pb2.Struct(fields={"k": struct_pb2.Value()}).SerializeToString()
            if (not inner)
            else _wrapped(inner)
        )
    request = b"\x0a" + _varint(len(inner) + len(_varint(len(inner))) + 1)
    request += b"\x1a" + _varint(len(inner)) + inner
    check_answer(fuzzed, "StartRun", request)


def _wrapped(inner: bytes) -> bytes:
    """A Struct with one field that holds this Struct, by hand: protobuf would refuse to."""
    value = b"\x2a" + _varint(len(inner)) + inner
    entry = b"\x0a\x01k\x12" + _varint(len(value)) + value
    return b"\x0a" + _varint(len(entry)) + entry


def _varint(number: int) -> bytes:
    made = bytearray()
    while number > 127:
        made.append(number & 127 | 128)
        number >>= 7
    made.append(number)
    return bytes(made)


def test_after_all_that_the_server_still_serves(fuzzed: Served) -> None:
    """A server that was asked nonsense by the thousand serves the next run."""
    assert fuzzed.run("echo", "alive").end().run_completed.output == "alive"


class TestBusy:
    async def test_a_burst_is_served_or_refused_with_words(self, serve: Serve) -> None:
        """Of 5,000 runs asked for at once each is served, or refused with when to come back."""
        go = Signal()

        @runnable
        async def waits(ctx: RunContext):
            ctx.write("here")
            await go.come()

        served = serve(waits, max_live_runs=2000)
        options = [("grpc.use_local_subchannel_pool", 1)]
        reached = 0
        outcomes: list[str] = []

        async def one(stub: RunServiceStub) -> None:
            nonlocal reached
            try:
                call = stub.Run(v1.RunRequest(spec=make_spec("waits")), timeout=2 * PATIENCE)
                async for response in call:
                    last = kind_of(response.event)
                    if last == "run_started":
                        reached += 1
                        if reached + len(outcomes) == 5000:
                            go.set()
                outcomes.append(last)
            except grpc.aio.AioRpcError as error:
                refused = Refusal(error)
                assert refused.retry.retry_delay.ToNanoseconds() > 0
                outcomes.append(refused.reason)
                if reached + len(outcomes) == 5000:
                    go.set()

        async with contextlib.AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(served.address, options=options)
                )
                for _ in range(4)
            ]
            stubs = [RunServiceStub(channel) for channel in channels]
            random.Random(1).shuffle(stubs)
            await asyncio.gather(*(one(stubs[n % 4]) for n in range(5000)))
        assert len(outcomes) == 5000
        assert {o: outcomes.count(o) for o in set(outcomes)} == {
            "run_completed": 2000,
            "SERVER_BUSY": 3000,
        }
        await asyncio.to_thread(served.wait_free)

    def test_a_full_queue_of_workers_is_server_busy(self, serve: Serve) -> None:
        """A sync run for which no worker and no place in the queue is left is SERVER_BUSY."""
        begun, go = Signal(), Signal()

        @runnable
        def holds(input: str):
            begun.set()
            go.wait()

        served = serve(holds, echo, workers=1, worker_queue=1)
        served.start("holds")
        begun.wait()
        served.start("holds")
        refused = refusal(lambda: served.start("holds", run_id="third"))
        assert (refused.code, refused.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "SERVER_BUSY",
        )
        assert refusal(lambda: served.get("third")).reason == "RUN_NOT_FOUND"
        served.run("echo").end()
        go.set()
        served.wait_free()
        served.run("holds", run_id="third").end()
