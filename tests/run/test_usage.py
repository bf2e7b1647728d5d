"""Usage adds up, and limits are reached where they say."""

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
