"""The Loop: steps in order, again and again.

A value. The flow decides whether its steps may begin, and keeps their results.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pullcord.workflow.flow import Flow
from pullcord.workflow.nodes import (
    Steps,
    decide,
    decide_once,
    do,
    most_of,
    nodes,
    planned,
    takes_of_first,
)
from pullcord.workflow.types import Made, Path, StepOutput


class Loop:
    """Steps in order, again and again."""

    def __init__(
        self,
        steps: Steps,
        *,
        name: str = "",
        max_iterations: int = 3,
        end_condition: Callable[[list[StepOutput]], Any] | None = None,
    ) -> None:
        """Describes the loop.

        Args:
            steps: what is done in each iteration; the next begins with what the last one made.
            name: for people and paths.
            max_iterations: how many there are at most.
            end_condition: is given the iteration's outputs, and says whether to stop.

        Raises:
            ValueError: there would be no iteration.
        """
        if max_iterations < 1:
            raise ValueError("max_iterations is 1 or more")
        self.name = name or "Loop"
        self._nodes = nodes(steps)
        self.resources = most_of(self._nodes)
        self.takes = takes_of_first(self._nodes)
        """The inputs of the first iteration, beside a text."""
        self._max_iterations = max_iterations
        self._end_condition = end_condition

    def planned(self, path: Path) -> Iterator[Path]:
        """Those of the first iteration."""
        return planned(self._nodes, (*path, "1"))

    async def do(self, flow: Flow, path: Path, previous: Made) -> Made:
        """Iterates."""
        with flow.group(path, self.name) as made:
            for iteration in range(1, self._max_iterations + 1):
                place = (*path, str(iteration))
                outputs: list[StepOutput] = []
                for id, node in self._nodes.items():
                    previous = await do(flow, node, (*place, id), previous)
                    outputs.append(StepOutput(previous.content, data=previous.data))
                if await decide_once(flow, place, partial(self._ends, flow, outputs)):
                    break
            made.append(previous)
        return previous

    async def _ends(self, flow: Flow, outputs: list[StepOutput]) -> bool:
        function = self._end_condition
        return function is not None and bool(await decide(flow, function, outputs))
