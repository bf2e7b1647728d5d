"""The face that every way to a server has, and what it tells: the same words for all protocols.

Nothing here knows a protocol.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass
class Story:
    """What a follower saw of a run."""

    kinds: list[str] = field(default_factory=list)
    """The kinds of its events, several of one kind in a row as one."""
    numbers: list[int] = field(default_factory=list)
    """By which a follower comes back: of events, or of a protocol's own pieces of them."""
    text: str = ""
    end: str = ""
    """`completed`, `cancelled` or `failed`; empty: it has not ended."""
    output: str = ""
    cause: str = ""
    reason: str = ""
    actor: str = ""
    error: str = ""


@dataclass
class Stop:
    """What a canceller was told."""

    outcome: str
    reason: str = ""
    actor: str = ""
    output: str = ""


class Refused(Exception):
    """A call was refused."""

    def __init__(
        self, reason: str, fields: Iterable[str] = (), *, status: str = "", words: str = ""
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.fields = list(fields)
        self.status = status
        """The protocol's own, such as `404`."""
        self.words = words
        """What a person reads."""


class Way:
    """How one caller reaches a server over one protocol."""

    name: ClassVar[str]
    lacks: ClassVar[frozenset[str]] = frozenset()
    """What its protocol has no word for: `stopping`, an event as soon as a stop was asked for;
    `usage`, an event whenever tokens were counted."""
    names: ClassVar[Mapping[str, str]] = {
        name: name for name in ("spec.runnable", "spec.run_id", "spec.user_id", "reason")
    }
    """What it calls the fields of requests, by the names of the proto. One that is not here is
    part of a path, and what is wrong there is not found."""

    def __init__(self, address: str, url: str, token: str, runnables: dict[str, str]) -> None:
        """`runnables`: of each run that was started over any way, for paths that name both."""
        self.address, self.url, self.token = address, url, token
        self.runnables = runnables
        self.ids: dict[str, str] = {}
        """The ids of runs, where the server makes them, by those that were asked for."""

    def start(self, runnable: str, run_id: str, **spec: Any) -> None:
        """Starts a run in the background."""
        raise NotImplementedError

    def follow(self, run_id: str, after: int = 0) -> Iterator[Story]:
        """What was seen so far, after each event, to the end of the stream. `after`: a number
        that a story has."""
        raise NotImplementedError

    def attend(self, runnable: str, run_id: str) -> Iterator[Story]:
        """Starts a run that ends when its follower leaves, and follows it."""
        raise NotImplementedError

    def cancel(self, run_id: str, reason: str = "", *, wait: int = 0, early: bool = False) -> Stop:
        """Stops a run."""
        raise NotImplementedError

    def state(self, run_id: str) -> str:
        """`running` and so on."""
        raise NotImplementedError

    def close(self) -> None:
        """Leaves."""

    # --- for scenarios

    def whole(self, run_id: str, after: int = 0) -> Story:
        """What a follower has seen at the end."""
        story = Story()
        for story in self.follow(run_id, after):  # noqa: B007  # the last one is meant
            pass
        return story

    def until_text(self, run_id: str) -> Iterator[Story]:
        """Follows a run, and has seen its first text."""
        return self.seen_text(self.follow(run_id))

    def seen_text(self, stories: Iterator[Story]) -> Iterator[Story]:
        """The same stories, once they have some text."""
        while not next(stories).text:
            pass
        return stories
