"""`pullcord continue`, and how a question is shown."""

import json
import uuid

import pytest
from pullcord.client import RunClient
from pullcord.run.state import RunState

from tests.cli.commands import Command, call


@pytest.fixture
def run_id() -> str:
    return f"decide-{uuid.uuid4()}"


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (("--approve", "call-1"), "paid"),
        (("--decline", "call-1", "--note", "too much"), "not paid: too much"),
        (("--answer", "call-1=paid=already"), "paid=already"),
    ],
)
def test_deciding(
    address: str, client: RunClient, run_id: str, options: tuple[str, ...], output: str
) -> None:
    """`continue` approves, declines or answers the call that `get` shows as waiting."""
    with Command("run", "agents/refund", "--run-id", run_id, address=address) as command:
        _until_paused(client, run_id)
        shown = call("get", run_id, address=address).stdout
        assert 'call-1: pay_back({"order": 7}) waits' in shown
        done = call("continue", run_id, *options, "--json", address=address)
        assert (done.returncode, json.loads(done.stdout)["run_id"]) == (0, run_id)
        code, said, errors = command.end()
    assert (code, said) == (0, f"{output}\n")
    assert "paused: May pay_back be called?" in errors
    assert f"pullcord continue {run_id} --approve call-1" in errors


def test_the_run_that_asks_is_named(address: str, client: RunClient, run_id: str) -> None:
    """Where something beneath a run asks, the shown command continues that, and nothing above."""
    with Command("run", "workflows/asking", "--run-id", run_id, address=address) as command:
        child = _until_paused(client, run_id, beneath=True)
        assert call("continue", child, "--approve", "call-1", address=address).returncode == 0
        code, said, errors = command.end()
    assert (code, said) == (0, "paid\n")
    assert f"pullcord continue {child} --approve call-1" in errors


def test_a_parent_names_the_child_that_waits(address: str, client: RunClient, run_id: str) -> None:
    """A decision that is sent to a parent run is answered with the run that waits for it."""
    with Command("run", "workflows/asking", "--run-id", run_id, address=address) as command:
        child = _until_paused(client, run_id, beneath=True)
        done = call("continue", run_id, "--approve", "call-1", address=address)
        assert (done.returncode, f"its child run '{child}' does" in done.stderr) == (2, True)
        call("continue", child, "--approve", "call-1", address=address)
        command.end()


def test_the_shown_command_can_be_copied(address: str, client: RunClient, run_id: str) -> None:
    """On a terminal of 80 columns it has no line end within, and it names the server if it must."""
    args = ("run", "agents/refund", "--run-id", run_id, "--address", address)
    with Command(*args, terminal=True, COLUMNS="80") as command:
        command.until("--approve call-1 --address")
        assert call("continue", run_id, "--approve", "call-1", address=address).returncode == 0
        _, seen, _ = command.end()
    assert f"pullcord continue {run_id} --approve call-1 --address {address}" in seen


def test_no_decision_is_answered_with_the_flags(address: str, run_id: str) -> None:
    """The flags are named, and no field of the API."""
    done = call("continue", run_id, address=address)
    assert done.returncode == 2
    assert "give a decision: --approve, --decline or --answer" in done.stderr


def test_what_cannot_be_decided(address: str, client: RunClient, run_id: str) -> None:
    """No decision, one that is no decision, and a run that does not wait are wrong usage."""
    client.start("agents/say", "hi", run_id=run_id)
    client.wait(run_id)
    for options in ((), ("--answer", "call-1"), ("--approve", "call-1")):
        assert call("continue", run_id, *options, address=address).returncode == 2
    assert call("continue", "nobody", "--approve", "call-1", address=address).returncode == 3


def _until_paused(client: RunClient, run_id: str, *, beneath: bool = False) -> str:
    """The id of the run that waits, once it does."""
    while True:
        for run in client.list():
            about = run.parent_run_id if beneath else run.run_id
            if about == run_id and run.state is RunState.PAUSED:
                return run.run_id
