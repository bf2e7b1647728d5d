"""Runs, receipts and runnables on the wire."""

from dataclasses import replace

from hypothesis import given
from pullcord.run.cancel import CancelOutcome
from pullcord.run.events import SourceKind
from pullcord.run.record import CancelResult, Receipt, Run
from pullcord.run.runnable import RunnableInfo
from pullcord.run.state import RunState
from pullcord.v1 import run_pb2, run_service_pb2
from pullcord.wire.run import (
    cancel_results_message,
    cancel_results_of,
    page_message,
    receipt_message,
    receipt_of,
    run_message,
    run_of,
    runnable_message,
    runnable_of,
)

from tests.wire.strategies import receipts, runs


@given(runs)
def test_a_run_comes_back_as_it_was(run: Run) -> None:
    """What the server knows of a run is what the client reads."""
    message = run_pb2.Run.FromString(run_message(run).SerializeToString())
    assert run_of(message) == run
    assert message.usage.total_tokens == run.usage.total_tokens


@given(receipts)
def test_a_receipt_comes_back_as_it_was(receipt: Receipt) -> None:
    """A canceller is told what was achieved, and when."""
    data = receipt_message(receipt).SerializeToString()
    assert receipt_of(run_service_pb2.CancelRunResponse.FromString(data)) == receipt


@given(runs)
def test_a_list_leaves_out_what_can_be_long(run: Run) -> None:
    """A page of runs has no input, output or tool calls; GetRun has them."""
    page = page_message([run], "next")
    brief = replace(run, input="", output="", output_data=None, tool_calls=())
    assert [run_of(message) for message in page.runs] == [brief]
    assert page.next_page_token == "next"


def test_a_time_that_has_not_come_is_unset() -> None:
    """A run that has not ended has no end_time."""
    message = run_message(Run("r", "agents/a", RunState.RUNNING, create_time=1.5))
    assert message.HasField("create_time")
    assert not message.HasField("start_time")
    assert not message.HasField("end_time")
    assert not message.HasField("expire_time")


def test_a_run_that_cannot_be_written_is_still_shown() -> None:
    """Should anything get past the gate, GetRun and receipts have the run's name and state."""
    run = Run("r", "agents/a", RunState.COMPLETED, output_data={"k": object()}, labels={"k": "v"})
    for shown in (run_message(run), receipt_message(Receipt(CancelOutcome.STOPPED, run)).run):
        assert (shown.run_id, shown.state) == ("r", run_pb2.RUN_STATE_COMPLETED)
        assert shown.error.type == "Unsendable"


def test_the_results_of_a_cancel_of_many_come_back_as_they_were() -> None:
    """A cancel that was only tried out has no outcome."""
    message = cancel_results_message(
        [CancelResult("a", CancelOutcome.STOPPED, "t", "o"), CancelResult("b")]
    )
    assert cancel_results_of(message) == [
        CancelResult("a", CancelOutcome.STOPPED, "t", "o"),
        CancelResult("b"),
    ]


def test_a_runnable_is_offered_by_its_full_name() -> None:
    """A caller reads from the list what a spec takes."""
    team = RunnableInfo("teams/story", SourceKind.TEAM, "story", "Story", "Tells.", ("a", "b"))
    assert runnable_of(runnable_message(team)) == team
