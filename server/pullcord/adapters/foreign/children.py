"""The runs within a foreign run, such as a member's or a sub-agent's, as child runs.

Each has a first and a last event of its own, whatever the framework does in between. When one
begins and ends is the adapter's business, and what they use is counted elsewhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.context import RunContext
from pullcord.run.events import (
    ContentDelta,
    RunCancelled,
    RunCompleted,
    RunError,
    RunFailed,
    RunStarted,
    Source,
    SourceKind,
)
from pullcord.run.runnable import slug

CallKey = tuple[str, str]
"""A tool call: the id of the child run whose call it is, "" for the run itself, and its own id."""


def id_of(name: str) -> str:
    """The id of a child by its name; one that no id can be made of is an agent."""
    try:
        return slug(name)
    except ValueError:
        return "agent"


@dataclass(slots=True)
class _Child:
    """A child that has not ended."""

    source: Source
    parent: Source | None
    within: CallKey | None
    """The tool call that waits for it, if it is known."""
    text: list[str] = field(default_factory=list)


class Children:
    """One run's children. All methods are called on the run's event loop, and none raises."""

    def __init__(self, ctx: RunContext, own_id: str) -> None:
        self._ctx = ctx
        self._own_id = own_id
        self._live: dict[str, _Child] = {}

    def source(self, run_id: str) -> Source | None:
        """The source of a child that has not ended."""
        child = self._live.get(run_id)
        return None if child is None else child.source

    def calls_above(self, source: Source | None) -> Iterator[CallKey]:
        """The tool calls that wait for this child, from the innermost to the run's own."""
        while source is not None and (child := self._live.get(source.run_id)) is not None:
            if child.within is not None:
                yield child.within
            source = child.parent

    def started(
        self,
        run_id: str,
        id: str,
        name: str,
        kind: SourceKind,
        parent: Source | None,
        within: CallKey | None,
    ) -> Source:
        """A child begins, of the run itself or of another child; the source of what it makes."""
        path = (*(parent.path if parent is not None else (self._own_id,)), id)
        source = Source(kind, id, name, run_id, path)
        self._live[run_id] = _Child(source, parent, within)
        above = parent.run_id if parent is not None else self._ctx.run_id
        started = RunStarted(f"{kind.value}s/{id}", self._ctx.session_id, above)
        self._ctx.relay(started, source=source)
        return source

    def said(self, source: Source, text: str) -> None:
        """A child has said this."""
        if (child := self._live.get(source.run_id)) is not None:
            child.text.append(text)
        self._ctx.relay(ContentDelta(text), source=source)

    def ended(self, run_id: str, output: str = "", error: RunError | None = None) -> None:
        """A child has ended; nothing happens if it is not live."""
        if (child := self._live.pop(run_id, None)) is None:
            return
        if (said := "".join(child.text)).endswith(output):  # what came before stays in the output
            output = said
        end = RunCompleted(output) if error is None else RunFailed(error, output)
        self._ctx.relay(end, source=child.source)

    def cancelled(self, run_id: str) -> None:
        """A child was interrupted: by a stop of the run, or by the code that had begun it."""
        if (child := self._live.pop(run_id, None)) is None:
            return
        cancellation = self._ctx.cancel_token.cancellation or Cancellation(CancelCause.PARENT)
        self._ctx.relay(RunCancelled(cancellation, "".join(child.text)), source=child.source)

    def close(self) -> None:
        """The run is over: ends what is live, the innermost first."""
        is_stopped = self._ctx.cancel_token.cancelled
        error = RunError("RunEnded", "its parent ended before it did")
        for run_id in reversed(list(self._live)):
            if is_stopped:
                self.cancelled(run_id)
            else:
                self.ended(run_id, error=error)
