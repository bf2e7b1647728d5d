"""The Condition: steps that are done only if something holds.

A value. The flow decides whether its steps may begin, and keeps their results.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pullcord.workflow.flow import Flow
from pullcord.workflow.nodes import Steps, decide, decide_once, in_order, most_of, nodes, planned
from pullcord.workflow.types import Made, Path


class Condition:
    """Steps that are done only if something holds."""

    def __init__(
        self,
        evaluator: bool | Callable[..., Any],
        steps: Steps,
        *,
        else_steps: Steps = (),
        name: str = "",
    ) -> None:
        """Describes the condition; `evaluator` is given a StepInput."""
        self.name = name or "Condition"
        self._evaluator = evaluator
        self._nodes = nodes(steps)
        self._otherwise = nodes(else_steps, "else_steps")
        self.resources = most_of(self._nodes, self._otherwise)

    def planned(self, path: Path) -> Iterator[Path]:
        """Those of both ways."""
        yield from planned(self._nodes, path)
        yield from planned(self._otherwise, path)

    async def do(self, flow: Flow, path: Path, previous: Made) -> Made:
        """Asks, and does what follows from the answer."""
        with flow.group(path, self.name) as made:
            holds = await decide_once(flow, path, partial(self._holds, flow, previous))
            taken = self._nodes if holds else self._otherwise
            made.append(await in_order(flow, taken, path, previous))
        return made[0]

    async def _holds(self, flow: Flow, previous: Made) -> bool:
        holds = self._evaluator
        if callable(holds):
            holds = await decide(flow, holds, flow.given(previous))
        return bool(holds)
