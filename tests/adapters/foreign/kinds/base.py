"""What the contract asks of each framework's kind: how its agents are made, on a local model.

A kind makes objects of its framework as its users write them; nothing here knows Pullcord, but for
what the adapter's class is called.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from pydantic import BaseModel

Tool = Callable[..., Any]


class Weather(BaseModel):
    """What structured output is asked to be."""

    city: str
    degrees: int


class Kind(Protocol):
    """One framework."""

    name: str
    served: str
    """What the object `agent` is served as."""
    outer: str
    """What the object `with_sub_agent` is served as."""
    gives_member_runs: bool
    """Whether a run of a sub-agent is told as a child run of its own."""
    model: str
    """The model's name in the span of a call; empty: the framework does not tell it."""
    provider: str
    """The provider's; likewise."""
    finish_reason: str
    """How an answer is said to have ended that ended by itself; "other": it is not told."""

    def agent(
        self,
        base_url: str,
        *,
        tools: Sequence[Tool] = (),
        approved: Sequence[Tool] = (),
        schema: type[BaseModel] | None = None,
    ) -> Any:
        """A bare object named "helper", whose model is at `base_url`.

        `tools` are plain functions, sync and async; `approved` ones need an approval.
        """

    def with_sub_agent(self, base_url: str) -> Any:
        """A bare object that can ask an agent named "member".

        Both have the model at `base_url`.
        """

    def delegation(self) -> tuple[str, dict[str, Any]]:
        """The tool call by which the model of the first asks the other: its name and arguments."""

    def structured(self, answer: dict[str, Any]) -> list[Any]:
        """The script steps by which a model gives this answer to a schema, one a model call."""
