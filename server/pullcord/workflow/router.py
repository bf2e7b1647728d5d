"""The Router: a choice among steps.

A value. The flow decides whether its steps may begin, and keeps their results.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from pullcord.run.runnable import slug
from pullcord.workflow.flow import Flow
from pullcord.workflow.nodes import Steps, decide, decide_once, in_order, most_of, nodes, planned
from pullcord.workflow.types import Made, Path


class Router:
    """A choice among steps."""

    def __init__(self, selector: Callable[..., Any], choices: Steps, *, name: str = "") -> None:
        """Describes the choice.

        `selector` is given a StepInput and returns one of the choices, or several, in order, each
        as itself or by name.
        """
        self.name = name or "Router"
        self._selector = selector
        self._nodes = nodes(choices, "choices")
        self.resources = most_of(self._nodes)
        self._given = dict(zip(map(id, choices), self._nodes, strict=True))

    def planned(self, path: Path) -> Iterator[Path]:
        """All choices'."""
        return planned(self._nodes, path)

    async def do(self, flow: Flow, path: Path, previous: Made) -> Made:
        """Asks, and does what was chosen."""
        with flow.group(path, self.name) as made:
            keys = await decide_once(flow, path, partial(self._chosen, flow, previous))
            taken = {key: self._nodes[key] for key in keys}
            made.append(await in_order(flow, taken, path, previous))
        return made[0]

    async def _chosen(self, flow: Flow, previous: Made) -> list[str]:
        chosen = await decide(flow, self._selector, flow.given(previous))
        several = chosen if isinstance(chosen, list | tuple) else [chosen]
        return list(map(self._key, several))

    def _key(self, chosen: Any) -> str:
        key = self._given.get(id(chosen))
        if key is None and isinstance(chosen, str):
            key = chosen if chosen in self._nodes else slug(chosen)
        if key not in self._nodes:
            raise LookupError(
                f"{self.name} has no choice {chosen!r}, only {', '.join(self._nodes)}"
            )
        return key
