"""What all kinds of steps share: the shape of each, and how several are named and done in order.

What kinds there are is not known here, other than that a plain runnable becomes a Step.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from pullcord.run.runnable import Runnable, slug
from pullcord.run.takes import EVERYTHING, Takes
from pullcord.workflow.flow import Flow
from pullcord.workflow.step import Step
from pullcord.workflow.types import Path


class Node(Protocol):
    """Anything that can stand among a workflow's steps."""

    name: str

    def planned(self, path: Path) -> Iterator[Path]:
        """The steps it holds that can be told before anything is decided."""

    async def do(self, flow: Flow, path: Path, previous: str) -> str:
        """Does it, and returns its content. Raises StepFailed where the workflow is to fail."""


Steps = Sequence["Node | Runnable | Callable[..., Any]"]


def nodes(steps: Iterable["Node | Runnable | Callable[..., Any]"]) -> dict[str, Node]:
    """Steps by id, in order; what is no step yet becomes one, and equal names are told apart."""
    made: dict[str, Node] = {}
    for given in steps:
        node: Node = given if hasattr(given, "planned") else Step(executor=given)  # type: ignore[assignment]  # by its methods
        id = base = getattr(node, "id", "") or _id_of(node.name, len(made) + 1)
        number = 1
        while id in made:
            number += 1
            id = f"{base}-{number}"
        made[id] = node
    return made


async def in_order(flow: Flow, steps: dict[str, Node], path: Path, previous: str) -> str:
    """Does one after the other, each with what the one before made."""
    for id, node in steps.items():
        previous = await node.do(flow, (*path, id), previous)
    return previous


def takes_of_first(steps: dict[str, Node]) -> Takes:
    """What the first step takes, if that can be told; else it refuses what it does not take."""
    first = next(iter(steps.values()), None)
    takes: Takes = getattr(first, "takes", EVERYTHING)
    return takes


def planned(steps: dict[str, Node], path: Path) -> Iterator[Path]:
    """The steps that these hold, as far as that can be told before anything is decided."""
    for id, node in steps.items():
        yield from node.planned((*path, id))


async def decide(flow: Flow, function: Callable[..., Any], *args: Any) -> Any:
    """Asks an author's function; a sync one in a thread."""
    flow.ctx.cancel_token.raise_if_cancelled()
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    answer = await flow.ctx.in_thread(function, *args)
    return await answer if inspect.isawaitable(answer) else answer


def _id_of(name: str, place: int) -> str:
    try:
        return slug(name)
    except ValueError:  # nothing of it can be part of an id
        return f"step-{place}"
