"""The common part of all kinds of steps: their protocol, their names, and how several run in order.

Only Step is known here, because a plain runnable becomes one.
"""

import inspect
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

from pullcord.adapters.offering import checked, several
from pullcord.run.resources import Resources, checked_resources
from pullcord.run.runnable import Runnable, slug
from pullcord.run.takes import EVERYTHING, Takes
from pullcord.workflow.flow import Flow
from pullcord.workflow.step import Step
from pullcord.workflow.types import Made, Path


class Node(Protocol):
    """Anything that can stand among a workflow's steps."""

    name: str

    def planned(self, path: Path) -> Iterator[Path]:
        """Its steps that are known before anything is decided."""

    async def do(self, flow: Flow, path: Path, previous: Made) -> Made:
        """Does it, and returns what it made. Raises StepFailed if the workflow must fail."""


Steps = Sequence["Node | Runnable | Callable[..., Any]"]


def nodes(steps: "Steps", where: str = "steps") -> dict[str, Node]:
    """Steps by id, in order; a runnable becomes a step, and equal names get numbers.

    `where` is what the author calls them. Raises TypeError for what cannot be a step.
    """
    made: dict[str, Node] = {}
    for index, given in enumerate(several(steps, where)):
        if isinstance(given, list | tuple):
            raise TypeError(
                f"{where}[{index}] is a {type(given).__name__}; give its items one by one, or in a "
                "Parallel, or in a Workflow"
            )
        node: Node
        if hasattr(given, "planned") and not isinstance(given, type):
            node = given  # by its methods
        else:
            node = Step(executor=checked(given, f"{where}[{index}]"))
        id = base = getattr(node, "id", "") or _id_of(node.name, len(made) + 1)
        number = 1
        while id in made:
            number += 1
            id = f"{base}-{number}"
        made[id] = node
    return made


async def in_order(flow: Flow, steps: dict[str, Node], path: Path, previous: Made) -> Made:
    """Does one after the other, each with what the one before made."""
    for id, node in steps.items():
        previous = await do(flow, node, (*path, id), previous)
    return previous


async def do(flow: Flow, node: Node, path: Path, previous: Made) -> Made:
    """Does a node, unless it was done in an execution that is gone."""
    made = flow.place.made(path)
    if made is None:
        made = await node.do(flow, path, previous)
        flow.place.done(path, made)
    return made


def takes_of_first(steps: dict[str, Node]) -> Takes:
    """The inputs of the first step, if they are known; otherwise its run refuses the rest."""
    first = next(iter(steps.values()), None)
    takes: Takes = getattr(first, "takes", EVERYTHING)
    return takes


def most_of(*groups: dict[str, Node]) -> Resources | None:
    """The room that each of these steps has enough of; None where none says what it needs."""
    return checked_resources(None, "", (node for steps in groups for node in steps.values()))


def planned(steps: dict[str, Node], path: Path) -> Iterator[Path]:
    """The steps of these that are known before anything is decided."""
    for id, node in steps.items():
        yield from node.planned((*path, id))


async def decide_once(
    flow: Flow, path: Path, decide: Callable[[], Coroutine[Any, Any, Any]]
) -> Any:
    """What is decided at a node, JSON; once, whatever execution does it."""
    is_decided, decision = flow.place.decision(path)
    if not is_decided:
        decision = await decide()
        flow.place.decided(path, decision)
    return decision


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
