"""`pullcord cancel` and `pullcord cancel-all`."""

import json
import subprocess
import uuid

import pytest
from pullcord.client import RunClient
from pullcord.run.cancel import CancelMode
from pullcord.run.events import ContentDelta
from pullcord.run.state import RunState

from tests.cli.commands import call


@pytest.fixture
def run_id() -> str:
    return f"stop-{uuid.uuid4()}"


def test_the_receipt(address: str, client: RunClient, run_id: str) -> None:
    """`cancel` says what was achieved, why, and when it was accepted, delivered and stopped."""
    client.start("agents/forever", run_id=run_id)
    _until_ticking(client, run_id)
    done = call("cancel", run_id, "--reason", "enough", address=address)
    assert done.returncode == 0
    assert done.stdout.startswith("The run has stopped.\n")
    words = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert words == ["why", "accepted", "delivered", "stopped", "kept"]
    assert "enough" in done.stdout
    assert client.get(run_id).output.startswith("tick ")


def _until_ticking(client: RunClient, run_id: str) -> None:
    for event in client.watch(run_id):
        if isinstance(event.payload, ContentDelta):
            return


def test_the_receipt_as_json(address: str, client: RunClient, run_id: str) -> None:
    """With --json the receipt is CancelRunResponse in protobuf's JSON; asking again repeats it."""
    client.start("agents/forever", run_id=run_id)
    first, second = (
        json.loads(call("cancel", run_id, "-r", reason, "--json", address=address).stdout)
        for reason in ("first", "second")
    )
    assert first["outcome"] == second["outcome"] == "CANCEL_OUTCOME_STOPPED"
    for field in ("accept_time", "deliver_time", "stop_time"):
        assert first[field] == second[field]
    assert second["run"]["cancellation"]["reason"] == "first"


def test_hastening(address: str, client: RunClient, run_id: str) -> None:
    """--wait 0 answers at once that the run is stopping; --now hastens it."""
    client.start("agents/booking", run_id=run_id)
    for event in client.watch(run_id):
        if type(event.payload).__name__ == "ToolCallStarted":
            break
    done = call("cancel", run_id, "--wait", "0", "--grace", "1m", address=address)
    assert done.stdout.startswith("The run is stopping.")
    assert "not yet" in done.stdout
    done = call("cancel", run_id, "--now", address=address)
    assert done.stdout.startswith("The run has stopped.")
    run = client.get(run_id)
    assert run.cancellation is not None
    assert run.cancellation.mode is CancelMode.IMMEDIATE


def test_what_was_killed_is_named(address: str, client: RunClient, run_id: str) -> None:
    """`cancel`, `get`, and `run` or `watch` at the end name the programs that had to be killed."""
    client.start("agents/commands", run_id=run_id)
    for event in client.watch(run_id):
        if isinstance(event.payload, ContentDelta):
            break
    for done in (
        call("cancel", run_id, "--now", address=address),
        call("get", run_id, address=address),
        call("watch", run_id, address=address),
    ):
        (line,) = [line for line in _all(done).splitlines() if line.split()[:1] == ["killed"]]
        assert line.split() == ["killed", "sleep"]


def _all(done: "subprocess.CompletedProcess[str]") -> str:
    return done.stdout + done.stderr


def test_before_start(address: str, client: RunClient, run_id: str) -> None:
    """--before-start stops a run that has not come; without it, that is no such run."""
    assert call("cancel", run_id, address=address).returncode == 3
    done = call("cancel", run_id, "--before-start", address=address)
    assert (done.returncode, done.stdout.split(".")[0]) == (0, "No such run has started yet")
    assert client.start("agents/say", "hi", run_id=run_id).state is RunState.CANCELLED


def test_too_late(address: str, client: RunClient, run_id: str) -> None:
    """A cancel after the end says so, changes nothing, and exits with 0."""
    client.start("agents/say", "hi", run_id=run_id)
    client.wait(run_id)
    done = call("cancel", run_id, address=address)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        0,
        "The run had ended before; nothing was changed.",
    )


def test_many(address: str, client: RunClient) -> None:
    """`cancel-all` stops the runs that match all that is given, and --dry-run only names them."""
    mark = str(uuid.uuid4())
    runs = {
        client.start("agents/forever", labels={"mark": mark}, user_id=user).run_id: user
        for user in ("ann", "ann", "ben")
    }
    args = ("cancel-all", "--label", f"mark={mark}", "--user", "ann", "--json")
    tried = call(*args, "--dry-run", address=address)
    named = {json.loads(line)["run_id"] for line in tried.stdout.splitlines()}
    assert named == {run_id for run_id, user in runs.items() if user == "ann"}
    refused = call(*args, "--yes", "--max", "1", address=address)
    assert (refused.returncode, refused.stdout) == (2, "")
    done = call(*args, "--yes", address=address)
    assert {json.loads(line)["run_id"] for line in done.stdout.splitlines()} == named
    for run_id, user in runs.items():
        if user == "ann":
            assert client.wait(run_id, 30).state is RunState.CANCELLED
        else:
            assert client.get(run_id).state is RunState.RUNNING
            client.cancel(run_id, wait=30)


def test_many_without_a_filter_or_a_yes(address: str) -> None:
    """`cancel-all` refuses to stop everything, and to go on unasked where nobody can be asked."""
    everything = call("cancel-all", "--yes", address=address)
    assert everything.returncode == 2
    assert everything.stderr == (
        "pullcord: say which runs: --session, --user, --runnable or --label\n"
    )
    done = call("cancel-all", "--user", "ann", address=address)
    assert done.returncode == 2
    assert "--yes" in done.stderr
