"""Usage adds up, and limits are reached where they say."""

import math
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pullcord.run.usage import Limits, Usage

counts = st.integers(0, 10**6)
usages = st.builds(
    Usage, counts, counts, counts, counts, st.integers(0, 1000).map(float), st.booleans(), counts
)


@given(st.lists(usages, max_size=6))
def test_usage_adds_field_by_field(parts: list[Usage]) -> None:
    """The sum of usages is the sum of each field; one estimate makes the whole an estimate."""
    total = sum(parts, Usage())
    for name in ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens", "cost"):
        assert getattr(total, name) == sum(getattr(part, name) for part in parts)
    assert total.steps == sum(part.steps for part in parts)
    assert total.estimated == any(part.estimated for part in parts)
    assert total.total_tokens == total.input_tokens + total.output_tokens


@pytest.mark.parametrize(
    ("limits", "below", "reached", "name"),
    [
        (Limits(max_tokens=10), Usage(4, 5), Usage(5, 5), "max_tokens"),
        (Limits(max_cost=1.0), Usage(cost=0.99), Usage(cost=1.0), "max_cost"),
        (Limits(max_steps=2), Usage(steps=2), Usage(steps=3), "max_steps"),
        (Limits(max_tool_calls=2), Usage(tool_calls=2), Usage(tool_calls=3), "max_tool_calls"),
    ],
)
def test_promise_09_where_a_limit_is_reached(
    limits: Limits, below: Usage, reached: Usage, name: str
) -> None:
    """Tokens and cost are reached when used up; steps and calls when one more would begin."""
    assert limits.reached_by(below) == ""
    assert limits.reached_by(reached) == name
    assert Limits().reached_by(reached) == ""


def test_one_more() -> None:
    """A step or a tool call begun counts one, and changes nothing else."""
    assert Usage(1).with_step() == Usage(1, steps=1)
    assert Usage(1).with_tool_call() == Usage(1, tool_calls=1)


counts_or_corrections = st.integers(-(2**64), 2**64)
corrections = st.builds(
    Usage,
    *[counts_or_corrections] * 4,
    st.floats(-1.7e308, 1.7e308),
    st.booleans(),
    counts_or_corrections,
    counts_or_corrections,
)


@given(st.lists(corrections, max_size=6))
def test_sums_always_fit_a_message(parts: list[Usage]) -> None:
    """No sum falls below 0 or rises beyond its field in the proto, whatever is added."""
    total = sum(parts, Usage())
    for name in ("input_tokens", "output_tokens", "reasoning_tokens", "cached_tokens"):
        assert 0 <= getattr(total, name) <= 2**63 - 1
    assert 0 <= total.total_tokens <= 2**63 - 1
    for name in ("steps", "tool_calls"):
        assert 0 <= getattr(total, name) <= 2**31 - 1
    assert 0 <= total.cost < math.inf
    assert type(total.cost) is float


@given(usages, usages)
def test_a_difference_added_is_the_whole(before: Usage, after: Usage) -> None:
    """What lies between two totals, added to the first, comes to the second."""
    total = before + (after - before)
    assert total == replace(after, estimated=before.estimated or after.estimated)


def test_a_sum_at_its_bound_stays_there() -> None:
    """More steps or cost change nothing once the bound is reached."""
    most = Usage(cost=sys.float_info.max, steps=2**31 - 1)
    assert most + most == most
    assert most.with_step() == most


def test_a_cost_that_is_not_known_makes_a_sum_unknown() -> None:
    """None is not 0; a correction does not make it known again."""
    unknown = Usage(1, cost=None)
    assert (Usage(cost=0.5) + unknown).cost is None
    assert (unknown + Usage(cost=0.5)).cost is None
    assert (unknown - Usage(cost=0.5)).cost is None
    assert (Usage(cost=0.5) - unknown).cost == 0.5
    assert Limits(max_cost=1.0).less(unknown) == Limits(max_cost=1.0)
    assert Limits(max_cost=1.0).reached_by(unknown) == ""


def test_differences_are_joined_without_loss() -> None:
    """A sum never falls below 0; two corrections that travel as one must be able to."""
    back, more = Usage(-5, cost=-0.5), Usage(3, cost=0.25, estimated=True)
    assert back.and_then(more) == Usage(-2, cost=-0.25, estimated=True)
    assert Usage(10, cost=1.0) + back.and_then(more) == Usage(8, cost=0.75, estimated=True)
    assert more.and_then(Usage(cost=None)).cost is None
