"""Run ids and names as people give them: beginnings, several, misspelt, completed by the shell."""

import json
import uuid

import pytest
from pullcord.cli.app import app
from pullcord.cli.ids import did_you_mean
from pullcord.cli.listing import beginnings
from pullcord.client import RunClient
from pullcord.run.state import RunState
from typer.testing import CliRunner

from tests.cli.commands import Command, call


@pytest.fixture
def run_id() -> str:
    return f"{uuid.uuid4()}"


def test_a_beginning_is_enough(address: str, client: RunClient, run_id: str) -> None:
    """For each command that takes a run, if only one begins so."""
    client.wait(client.start("agents/say", "hello", run_id=run_id).run_id)
    short = run_id[:13]
    assert call("get", short, "--output", address=address).stdout == "hello\n"
    assert call("wait", short, address=address).returncode == 0
    assert call("watch", short, address=address).stdout == "hello\n"
    done = call("cancel", short, "--json", address=address)
    assert json.loads(done.stdout)["run"]["run_id"] == run_id


def test_what_ps_shortens_can_be_copied(address: str, client: RunClient, run_id: str) -> None:
    """On a narrow terminal ids are beginnings that mean one run; into a pipe they are whole."""
    run = client.start("agents/say", "hello", run_id=run_id, session_id=run_id)
    client.wait(run.run_id)
    args = ("ps", "--all", "--session", run_id, "--address", address)
    with Command(*args, terminal=True, COLUMNS="60") as command:
        code, seen, _ = command.end()
    assert (code, f"{run_id[:8]}… " in seen) == (0, True)
    assert call("get", f"{run_id[:8]}…", "--output", address=address).stdout == "hello\n"
    assert run_id in call(*args).stdout


def test_several_that_begin_so_are_named(address: str, client: RunClient, run_id: str) -> None:
    """And nothing is done to any of them. One that nothing begins with is not found."""
    for end in "ab":
        client.start("agents/forever", run_id=f"{run_id}-{end}")
    done = call("cancel", run_id[:13], address=address)
    assert done.returncode == 2
    assert f"several runs begin with '{run_id[:13]}': {run_id}-" in done.stderr
    assert client.get(f"{run_id}-a").state is RunState.RUNNING
    assert call("cancel", f"{run_id}-c", address=address).returncode == 3
    assert call("get", run_id[:3], address=address).returncode == 3
    done = call("cancel", f"{run_id}-a", "nobody-1", f"{run_id}-b", address=address)
    assert done.returncode == 3
    assert done.stdout.count("The run has stopped.") == 2
    assert done.stdout.startswith(f"{run_id}-a\n")
    assert "there is no run 'nobody-1'" in done.stderr


@pytest.mark.parametrize("command", ["get", "wait", "watch", "cancel", "continue"])
def test_a_beginning_that_is_too_short(address: str, client: RunClient, command: str) -> None:
    """It names no run, also if only one begins so; the error says so, and names those that do."""
    client.start("agents/say", run_id="q-only")
    args = [command, "q-", *(["--approve", "x"] if command == "continue" else [])]
    done = CliRunner().invoke(app, args, env={"PULLCORD_ADDRESS": address})
    assert done.exit_code == 3
    assert "must have at least 4 characters; with 'q-' begin q-only" in done.stderr


@pytest.mark.parametrize(
    ("name", "meant"),
    [("agents/fourever", "agents/forever"), ("workflows/shet", "workflows/sheet")],
)
def test_what_may_have_been_meant(address: str, name: str, meant: str) -> None:
    """A name that nothing has is answered with the one that is most like it."""
    done = call("run", name, address=address)
    assert done.returncode == 3
    assert f"unknown runnable '{name}'; did you mean '{meant}'?" in done.stderr


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("agents/nope", ""),
        ("agents/ohter", "; did you mean 'agents/other'?"),
        ("agents/hole", "; did you mean 'agents/whole'?"),
        ("workflows/while", "; did you mean 'workflows/whole'?"),
        ("agent/other", "; did you mean 'agents/other'?"),
        ("Other", "; did you mean 'agents/other'?"),
    ],
)
def test_only_a_similar_id_is_meant(name: str, meant: str) -> None:
    """What all names have in common, such as agents/, does not make them similar."""
    assert did_you_mean(name, ["agents/whole", "workflows/whole", "agents/other"]) == meant


def test_the_shell_completes(address: str, client: RunClient, run_id: str) -> None:
    """Ids of the server's runs, and names of what it serves; nothing if it cannot be reached."""
    client.start("agents/forever", run_id=run_id)
    for words, found in (
        (f"pullcord get {run_id[:13]}", run_id),
        ("pullcord run agents/for", "agents/forever"),
    ):
        more = {"_PULLCORD_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "2"}
        assert call(address=address, **more).stdout.split() == [found]
        assert call(address="127.0.0.1:1", **more).stdout.split() == []
    client.cancel(run_id)


@pytest.mark.parametrize(("key", "said"), [("y", "paid"), ("n", "not paid: ")])
def test_a_key_decides(address: str, client: RunClient, run_id: str, key: str, said: str) -> None:
    """On a terminal y approves what a run asks, and n declines it, also for a child run."""
    args = ("run", "workflows/asking", "--run-id", run_id, "--address", address)
    with Command(*args, terminal=True, COLUMNS="80") as command:
        command.until("press y to approve, n to decline")
        command.until("to answer a question: --answer call-1=TEXT; to refuse: --decline call-1")
        command.type(key)
        code, seen, _ = command.end()
    assert code == 0
    assert ("approved" if key == "y" else "declined") in seen
    assert client.get(run_id).output == said


def test_a_beginning_means_one_run() -> None:
    """It is as long as it must be, and an id that is hardly longer stays whole."""
    assert beginnings(["0123456789-a", "01234567ab-b", "short-id", "123456789"]) == {
        "0123456789-a": "012345678…",
        "01234567ab-b": "01234567a…",
    }
