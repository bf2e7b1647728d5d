"""The Parallel: several steps at the same time.

A value. The flow decides whether its steps may begin, and keeps their results.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pullcord.run.runnable import Runnable
from pullcord.workflow.flow import Flow, together
from pullcord.workflow.nodes import Node, do, most_of, nodes, planned
from pullcord.workflow.types import Made, Path


class Parallel:
    """Several steps at the same time, all with the same input; what it made is all of theirs."""

    def __init__(self, *steps: "Node | Runnable | Callable[..., Any]", name: str = "") -> None:
        """Raises ValueError if there are no steps."""
        if not steps:
            raise ValueError("a Parallel has at least one step")
        self.name = name or "Parallel"
        self._nodes = nodes(steps)
        self.resources = most_of(self._nodes)

    def planned(self, path: Path) -> Iterator[Path]:
        """Its steps'."""
        return planned(self._nodes, path)

    async def do(self, flow: Flow, path: Path, previous: Made) -> Made:
        """Does them all; the first that fails stops the others."""
        with flow.group(path, self.name) as made:
            flow.place.branches += len(self._nodes) - 1
            branches = [
                partial(self._branch, flow, node, (*path, id), previous)
                for id, node in self._nodes.items()
            ]
            try:
                several: list[Made] = await together(branches)
            finally:
                flow.place.branches += 1
            contents = (one.content for one in several)
            by_id = zip(self._nodes, several, strict=True)
            data = {id: one.data for id, one in by_id if one.data is not None}
            made.append(Made("\n\n".join(filter(None, contents)), data or None))
        return made[0]

    async def _branch(self, flow: Flow, node: Node, path: Path, previous: Made) -> Made:
        try:
            return await do(flow, node, path, previous)
        finally:
            flow.place.branches -= 1
            if flow.place.only_waits:  # the others may wait for a decision
                flow.ctx.waits_again()
