"""The protocol of everything that can be run, and how ids are made of names.

Agents, teams, workflows and adapters fill it; the engine executes it. How ids are made of names
is decided here, so that every road names a runnable alike.
"""

import re
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from pullcord.run.context import RunContext
from pullcord.run.events import SourceKind
from pullcord.run.takes import NOTHING, Takes

Isolation = Literal["process"]
"""The isolation of a run; None: it shares its process with others."""


class Runnable(Protocol):
    """Something that can be run. Its attributes never change once it is served."""

    kind: SourceKind
    """AGENT (also a plain function), TEAM or WORKFLOW."""
    id: str
    name: str
    """For people; empty: the author gave none."""
    description: str
    members: tuple[str, ...]
    """Ids of members or steps, in order."""
    is_async: bool
    """Whether `execute` is a coroutine function, for a run loop, or blocks, for a thread."""
    # It may have `takes`, a Takes: what it takes beside a text and data. Without, it takes nothing.
    # It may have `isolation` and `resources`: where a run of it executes.

    def execute(self, ctx: RunContext) -> Coroutine[Any, Any, None] | None:
        """Executes one run: reads from `ctx`, writes to it, and returns when the run is done.

        An exception other than RunCancelledError and CancelledError fails the run.
        """


@dataclass(frozen=True, slots=True)
class RunnableInfo:
    """A runnable as callers see it."""

    name: str
    """The full name that a RunSpec takes, such as `agents/story-writer`."""
    kind: SourceKind
    id: str
    display_name: str = ""
    """For people; empty: the author gave none."""
    description: str = ""
    members: tuple[str, ...] = ()
    """Ids of members or steps, in order."""
    takes: Takes = NOTHING
    """The inputs that it takes beside a text and data."""


def checked_isolation(isolation: str | None, of: str) -> Isolation | None:
    """The isolation that the author of `of` asked for, if there is one like that.

    Raises:
        ValueError: there is none.
    """
    if isolation not in (None, "process"):
        raise ValueError(
            f"isolation of {of!r} is {isolation!r}; it must be 'process', for a process of its own "
            "for each run, or None, for processes that runs share"
        )
    return cast(Isolation | None, isolation)


def takes_of(runnable: object) -> Takes:
    """The inputs that it takes beside a text and data; none if it does not say."""
    takes: Takes = getattr(runnable, "takes", NOTHING)
    return takes


def full_name(runnable: Runnable) -> str:
    """The name callers use, such as `agents/story-writer`."""
    return f"{runnable.kind.value}s/{runnable.id}"


def slug(name: str) -> str:
    """The id of a name: StorytellerAgent becomes `storyteller-agent`.

    Raises:
        ValueError: nothing of the name can be part of an id.
    """
    if not isinstance(name, str):
        raise TypeError(f"a name must be text, not {type(name).__name__}")
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "-", name)
    made = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    if not made:
        raise ValueError(f"no id can be made of the name {name!r}; give an id")
    return made
