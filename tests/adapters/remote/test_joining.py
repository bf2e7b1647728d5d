"""What becomes of a remote run's events where the line breaks or some are gone."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pullcord import RemoteRunnable
from pullcord.run.base import RunOutputEvent, RunStatus
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.events import (
    ContentDelta,
    Event,
    Gap,
    Payload,
    RunCancelled,
    RunCompleted,
    RunStarted,
    Snapshot,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
    UsageUpdated,
)
from pullcord.run.record import Run
from pullcord.run.state import RunState
from pullcord.run.usage import Usage

from tests.client.scripted import Break, Script, serving

STARTED = RunStarted("agents/counter")
DONE = ToolCallState.COMPLETED
_ids = itertools.count()

Chunks = list[RunOutputEvent]
Tell = Callable[..., Chunks]


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Script, str]]:
    script = Script()
    with serving(script) as address:
        yield script, address


@pytest.fixture
def tell(served: tuple[Script, str]) -> Tell:
    """The chunks of a run here, for numbered payloads there."""
    script, address = served

    def chunks_of(
        *numbered: tuple[int, Payload], breaks: tuple[Break, ...] = (), name: str = "agents/counter"
    ) -> Chunks:
        run_id = f"joining-{next(_ids)}"
        script.reset([Event(run_id, n, 1e9, payload) for n, payload in numbered], *breaks)
        return list(RemoteRunnable(address, name).run(run_id=run_id, stream=True))

    return chunks_of


def text_of(chunks: Chunks) -> str:
    return "".join(c.content for c in chunks if c.event.endswith("Content"))


def missed(first: int, last: int, output: str, **more: Any) -> list[tuple[int, Payload]]:
    """What stands in the place of events that are gone."""
    run = Run("r", "agents/counter", RunState.RUNNING, output=output, **more)
    return [(last, Gap(first, last)), (last, Snapshot(run))]


def test_a_line_that_breaks_doubles_no_text(tell: Tell) -> None:
    """A stream that is taken up again goes on where it was, whatever is sent twice."""
    chunks = tell(
        (1, STARTED),
        *((n, ContentDelta(f"{n} ")) for n in range(2, 6)),
        (6, RunCompleted("2 3 4 5 ")),
        breaks=(Break(after=3), Break(after=2, repeat=2)),
    )
    assert text_of(chunks) == chunks[-1].content == "2 3 4 5 "


def test_after_a_gap_only_the_missing_text_is_written(tell: Tell) -> None:
    """A snapshot adds what comes after the text that was written, and usage once."""
    chunks = tell(
        (1, STARTED),
        (2, ContentDelta("a ")),
        (3, UsageUpdated(Usage(output_tokens=2))),
        *missed(4, 6, "a b c ", usage=Usage(output_tokens=5)),
        (7, ContentDelta("d ")),
        (8, RunCompleted("a b c d ", usage=Usage(output_tokens=7))),
    )
    assert text_of(chunks) == chunks[-1].content == "a b c d "
    assert chunks[-1].metrics.output_tokens == 7


def test_text_that_is_gone_from_the_beginning_comes_with_the_snapshot(tell: Tell) -> None:
    """A run that is then stopped keeps it, too."""
    stop = Cancellation(CancelCause.USER, "ann", "enough")
    chunks = tell(*missed(1, 6, "a b "), (7, ContentDelta("c")), (8, RunCancelled(stop, "a b c")))
    assert text_of(chunks) == chunks[-1].content == "a b c"
    assert (chunks[-1].status, chunks[-1].reason) == (RunStatus.cancelled, "enough")


def test_text_before_the_end_of_a_gap_is_not_lost(tell: Tell) -> None:
    """Where the last events are gone, the terminal event has their text."""
    chunks = tell((1, STARTED), *missed(2, 3, "a "), (9, RunCompleted("a b ")))
    assert text_of(chunks) == chunks[-1].content == "a b "


def test_an_output_that_replaced_the_text_is_not_written_after_it(tell: Tell) -> None:
    """An output that does not begin with the text takes its place at the end."""
    chunks = tell(
        (1, STARTED),
        (2, ContentDelta("draft")),
        *missed(3, 4, "other"),
        (5, RunCompleted("final", {"n": 1})),
    )
    assert text_of(chunks) == "draft"
    assert (chunks[-1].content, chunks[-1].output_data) == ("final", {"n": 1})


def test_a_workflow_s_output_is_not_its_text(tell: Tell) -> None:
    """What a remote workflow's latest step made is its output so far, and no delta of its own."""
    chunks = tell(
        (1, STARTED), *missed(2, 4, "step one"), (5, RunCompleted("two")), name="workflows/w"
    )
    assert text_of(chunks) == ""
    assert chunks[-1].content == "two"


def test_tool_calls_that_are_gone_are_told_by_the_snapshot(tell: Tell) -> None:
    """Calls that began or ended in the gap are told once, and the ledger has them all."""
    known, unknown, later = (ToolCall(i, "look", start_time=1e9) for i in ("1", "2", "3"))
    ended = [ToolCall(i, "look", "", "seen", DONE, 1e9, 1e9 + 1) for i in ("1", "2", "3")]
    chunks = tell(
        (1, STARTED),
        (2, ToolCallStarted(known)),
        *missed(3, 6, "", tool_calls=(ended[0], unknown)),
        (7, ToolCallCompleted(ended[1])),
        (8, ToolCallStarted(later)),
        (9, ToolCallCompleted(ended[2])),
        (10, RunCompleted("", tool_calls=tuple(ended))),
    )
    told = [(c.event, c.tool.tool_call_id) for c in chunks if c.tool is not None]
    assert told == [
        ("ToolCallStarted", "1"),
        ("ToolCallCompleted", "1"),
        ("ToolCallStarted", "2"),
        ("ToolCallCompleted", "2"),
        ("ToolCallStarted", "3"),
        ("ToolCallCompleted", "3"),
    ]
    assert [(c.tool_call_id, c.state, c.result) for c in chunks[-1].tools] == [
        (i, DONE, "seen") for i in ("1", "2", "3")
    ]


def test_a_run_that_was_stopped_by_a_broken_connection_is_lost(tell: Tell) -> None:
    """A remote that its broken connection stopped is lost, which a step may try again."""
    stop = Cancellation(CancelCause.DISCONNECT, reason="its last watcher left")
    chunks = tell((1, STARTED), (2, ContentDelta("a")), (3, RunCancelled(stop, "a")))
    assert chunks[-1].status is RunStatus.error
    assert "connection" in chunks[-1].content
