"""The usage of a run, and the limits on it.

Plain values and their sums, which always fit a message. Counting happens where the work is done,
and limits are enforced by the engine.
"""

import sys
from dataclasses import dataclass, replace
from typing import TypeVar

N = TypeVar("N", int, float)

MAX_TOKENS = 2**63 - 1
"""The most tokens of a kind that a message holds. Sums stop here."""
MAX_COUNT = 2**31 - 1
"""The most steps, and again tool calls, that a message holds. Sums stop here."""
MAX_COST = sys.float_info.max


@dataclass(frozen=True, slots=True)
class Usage:
    """The usage of a run. Interrupted work counts too.

    Sums never fall below 0 and never rise beyond what a message holds. A difference may be
    negative: it is a correction, for example of an estimate, and is there to be added.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    """Reasoning included."""
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = 0.0
    """US dollars; None: not known, because a model's price is not. A sum with None is None."""
    estimated: bool = False
    """Some tokens were estimated, because a model was interrupted before it reported them."""
    steps: int = 0
    """Steps begun: model calls of an agent or team, steps of a workflow."""
    tool_calls: int = 0
    """Tool calls begun."""

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return min(self.input_tokens + self.output_tokens, MAX_TOKENS)

    def __add__(self, other: "Usage") -> "Usage":
        """The sum, field by field; a negative field of `other` takes something back."""
        return Usage(
            _within(self.input_tokens + other.input_tokens, MAX_TOKENS),
            _within(self.output_tokens + other.output_tokens, MAX_TOKENS),
            _within(self.reasoning_tokens + other.reasoning_tokens, MAX_TOKENS),
            _within(self.cached_tokens + other.cached_tokens, MAX_TOKENS),
            _cost(self.cost, other.cost),
            self.estimated or other.estimated,
            _within(self.steps + other.steps, MAX_COUNT),
            _within(self.tool_calls + other.tool_calls, MAX_COUNT),
        )

    def __sub__(self, other: "Usage") -> "Usage":
        """The usage that, added to `other`, gives this one. It is estimated if this one is."""
        return Usage(
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.reasoning_tokens - other.reasoning_tokens,
            self.cached_tokens - other.cached_tokens,
            None if self.cost is None else self.cost - (other.cost or 0.0),
            self.estimated,
            self.steps - other.steps,
            self.tool_calls - other.tool_calls,
        )

    def and_then(self, other: "Usage") -> "Usage":
        """Two differences as one, which like each of them may be negative."""
        made = self - (Usage() - other)
        cost = None if other.cost is None else made.cost
        return replace(made, cost=cost, estimated=self.estimated or other.estimated)

    def with_step(self) -> "Usage":
        """One more step begun."""
        return self + Usage(steps=1)

    def with_tool_call(self) -> "Usage":
        """One more tool call begun."""
        return self + Usage(tool_calls=1)


@dataclass(frozen=True, slots=True)
class Limits:
    """The most a run may take; None: no limit. Reaching one ends the run with cause BUDGET."""

    timeout: float | None = None
    """Seconds from the run's start."""
    max_tokens: int | None = None
    max_cost: float | None = None
    max_steps: int | None = None
    max_tool_calls: int | None = None

    def less(self, usage: Usage) -> "Limits":
        """The limits that are left after this usage, at least 0 each; `timeout` is unchanged."""
        return Limits(
            self.timeout,
            _left(self.max_tokens, usage.total_tokens),
            _left(self.max_cost, usage.cost or 0.0),
            _left(self.max_steps, usage.steps),
            _left(self.max_tool_calls, usage.tool_calls),
        )

    def within(self, other: "Limits") -> "Limits":
        """The stricter limit of both, field by field."""
        return Limits(
            _stricter(self.timeout, other.timeout),
            _stricter(self.max_tokens, other.max_tokens),
            _stricter(self.max_cost, other.max_cost),
            _stricter(self.max_steps, other.max_steps),
            _stricter(self.max_tool_calls, other.max_tool_calls),
        )

    def reached_by(self, usage: Usage) -> str:
        """The name of the limit that this usage reaches, or an empty string.

        Tokens and cost are reached when they are used up; steps and tool calls when one more than
        allowed would begin.
        """
        if self.max_tokens is not None and usage.total_tokens >= self.max_tokens:
            return "max_tokens"
        if self.max_cost is not None and (usage.cost or 0.0) >= self.max_cost:
            return "max_cost"
        if self.max_steps is not None and usage.steps > self.max_steps:
            return "max_steps"
        if self.max_tool_calls is not None and usage.tool_calls > self.max_tool_calls:
            return "max_tool_calls"
        return ""


def _within(number: N, most: N) -> N:
    if number > most:
        return most
    return number if number > 0 else most * 0


def _cost(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else _within(one + other, MAX_COST)


def _left(limit: N | None, used: N) -> N | None:
    return None if limit is None else max(limit - used, 0)


def _stricter(one: N | None, other: N | None) -> N | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
