"""Specs on the wire."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from pullcord.run.errors import InvalidArgument
from pullcord.run.record import RunSpec
from pullcord.run.usage import Limits
from pullcord.v1 import run_pb2
from pullcord.wire.fields import decode
from pullcord.wire.spec import parse_spec, spec_message
from pullcord.wire.values import MAX_DEPTH

from tests.wire.strategies import specs

MIB = 1024 * 1024


def wrong_fields(message: run_pb2.RunSpec, max_input_bytes: int = MIB) -> list[str]:
    with pytest.raises(InvalidArgument) as caught:
        parse_spec(message, max_input_bytes)
    return sorted(violation.field for violation in caught.value.violations)


@given(specs())
def test_a_spec_comes_back_as_it_was(spec: RunSpec) -> None:
    """What a client asks for is what the server reads."""
    message = run_pb2.RunSpec.FromString(spec_message(spec).SerializeToString())
    assert parse_spec(message, MIB) == spec


def test_an_empty_spec_lacks_its_runnable() -> None:
    """The only field that a spec must have is the runnable."""
    assert wrong_fields(run_pb2.RunSpec()) == ["spec.runnable"]


def test_every_wrong_field_is_named_at_once() -> None:
    """A caller hears of all its mistakes in one answer."""
    message = run_pb2.RunSpec(
        runnable="writer",
        input="far too long",
        run_id="no spaces",
        session_id="ü",
        user_id="*",
        limits=run_pb2.Limits(
            timeout=Duration(seconds=-1),
            max_tokens=-1,
            max_cost=float("nan"),
            max_steps=-1,
            max_tool_calls=-1,
        ),
        on_disconnect=99,  # type: ignore[arg-type]
        lease=Duration(seconds=1, nanos=-1),
        labels={"": "no key"},
        session_policy=77,  # type: ignore[arg-type]
    )
    message.input_data.update({"a": [0, float("inf")]})
    assert wrong_fields(message, 10) == [
        "spec.input",
        "spec.input_data.a[1]",
        "spec.labels['']",
        "spec.lease",
        "spec.limits.max_cost",
        "spec.limits.max_steps",
        "spec.limits.max_tokens",
        "spec.limits.max_tool_calls",
        "spec.limits.timeout",
        "spec.on_disconnect",
        "spec.run_id",
        "spec.runnable",
        "spec.session_id",
        "spec.session_policy",
        "spec.user_id",
    ]


@pytest.mark.parametrize(
    "timeout",
    [
        Duration(),
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(seconds=1, nanos=-1),
        Duration(seconds=-1, nanos=1),
        Duration(nanos=1_000_000_000),
        Duration(seconds=31 * 24 * 3600),
        Duration(seconds=315_576_000_001),
        Duration(seconds=2**63 - 1),
    ],
    ids=lambda timeout: f"{timeout.seconds}s{timeout.nanos}ns",
)
def test_a_timeout_is_more_than_nothing_and_at_most_30_days(timeout: Duration) -> None:
    """A timeout of 0, a negative one and one that is no valid Duration are refused."""
    message = run_pb2.RunSpec(runnable="agents/a", limits=run_pb2.Limits(timeout=timeout))
    assert wrong_fields(message) == ["spec.limits.timeout"]


def test_a_lease_goes_with_its_policy() -> None:
    """A lease without on_disconnect LEASE is refused."""
    message = run_pb2.RunSpec(runnable="agents/a", lease=Duration(seconds=1))
    assert wrong_fields(message) == ["spec.lease"]


def test_data_too_large_or_too_deep_is_refused() -> None:
    """input_data has the input's limit in bytes, and 30 levels."""
    large = run_pb2.RunSpec(runnable="agents/a")
    large.input_data.update({"a": "x" * 100})
    assert wrong_fields(large, 50) == ["spec.input_data"]
    deep = run_pb2.RunSpec(runnable="agents/a")
    inner: Struct = deep.input_data
    for _ in range(MAX_DEPTH):
        inner = inner.fields["a"].struct_value
    inner.fields["b"].number_value = 1
    assert wrong_fields(deep) == ["spec.input_data" + ".a" * MAX_DEPTH]


def test_data_at_the_limit_of_depth_passes_through_protobuf() -> None:
    """What is not refused as too deep can also be read and sent."""
    message = run_pb2.RunSpec(runnable="agents/a")
    inner: Struct = message.input_data
    for _ in range(MAX_DEPTH - 1):
        inner = inner.fields["a"].struct_value
    inner.fields["b"].number_value = 1
    spec = parse_spec(decode(run_pb2.RunSpec, message.SerializeToString()), MIB)
    assert spec_message(spec).input_data == message.input_data


def test_bytes_that_are_no_message_are_the_callers_mistake() -> None:
    """A request that protobuf cannot read is INVALID_ARGUMENT."""
    with pytest.raises(InvalidArgument, match=r"^is not a pullcord\.v1\.RunSpec"):
        decode(run_pb2.RunSpec, b"\xff\xff")


def test_a_limit_of_nothing_is_not_sent_as_no_limit() -> None:
    """A client refuses a limit of 0, which the proto would read as no limit."""
    with pytest.raises(InvalidArgument) as caught:
        spec_message(RunSpec("agents/a", limits=Limits(max_tokens=0, max_cost=0.0)))
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["spec.limits.max_tokens", "spec.limits.max_cost"]
