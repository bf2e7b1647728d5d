"""`pullcord ps`, `get`, `wait` and `runnables`."""

import json
import re
import uuid
from dataclasses import replace

import pytest
from pullcord.cli.app import app
from pullcord.cli.output import receipt_rows, seconds, why
from pullcord.client import RunClient
from pullcord.run.cancel import CancelCause, Cancellation, CancelOutcome
from pullcord.run.events import ContentDelta, Progress
from pullcord.run.record import Receipt, Run
from pullcord.run.state import RunState
from pullcord.run.usage import Usage
from typer.testing import CliRunner

from tests.cli.commands import Command, call


@pytest.fixture
def session() -> str:
    return f"look-{uuid.uuid4()}"


def test_ps_shows_live_runs(address: str, client: RunClient, session: str) -> None:
    """`ps` lists runs that have not ended, --all and --state others, too; a line each in a pipe."""
    live = client.start("agents/forever", session_id=session, labels={"team": "blue"}).run_id
    ended = client.start("agents/say", "hi", session_id=session).run_id
    client.wait(ended)
    header, line = call("ps", "--session", session, address=address).stdout.splitlines()
    assert header.split() == ["run", "runnable", "state", "age", "duration"]
    for word in (live, "agents/forever", "running", f"session {session}", "team=blue"):
        assert word in line
    _, *both = call("ps", "--session", session, "--all", address=address).stdout.splitlines()
    assert [line.split()[0] for line in both] == [ended, live]
    one = call("ps", "--session", session, "-A", "--limit", "1", "--json", address=address)
    assert json.loads(one.stdout)["run_id"] == ended
    done = call("ps", "--session", session, "--state", "completed", "--json", address=address)
    assert json.loads(done.stdout)["state"] == "RUN_STATE_COMPLETED"
    client.cancel(live, wait=30)
    none = call("ps", "--session", session, address=address).stdout
    assert none == "No live runs; --all lists those that have ended.\n"
    assert call("ps", "-A", "--user", session, address=address).stdout == "No runs.\n"


@pytest.mark.parametrize(
    "command", ["ps", "ps --watch", "cancel-many --yes", "cancel-many --dry-run"]
)
def test_an_unknown_runnable_is_named(address: str, command: str) -> None:
    """A command that finds no run of it says that there is none of that name, and which one may
    have been meant; as JSON, the API's reason."""
    args = [*command.split(), "--runnable", "agents/sya", "--address", address]
    done = CliRunner().invoke(app, args)
    assert done.exit_code == 3
    assert "unknown runnable 'agents/sya'; did you mean 'agents/say'?" in done.output
    done = CliRunner().invoke(app, [*args, "--json"])
    assert (done.exit_code, "RUNNABLE_NOT_FOUND" in done.output) == (3, True)


def test_an_id_alone_is_no_runnable_of_a_filter(address: str) -> None:
    """Its full name is suggested."""
    done = CliRunner().invoke(app, ["ps", "--runnable", "say", "--address", address])
    assert done.exit_code == 3
    assert "did you mean 'agents/say'?" in done.output


def test_ps_shows_what_is_beneath_a_run(address: str, client: RunClient, session: str) -> None:
    """`ps` lists the runs beneath a run below it, indented; alone they name the one above."""
    top = client.start("workflows/sheet", "hi", session_id=session).run_id
    for event in client.watch(top):
        if event.source is not None and event.source.id == "forever":
            break
    _, *lines = call("ps", "--session", session, address=address).stdout.splitlines()
    assert lines[0].startswith(top)
    (beneath,) = (line for line in lines if "agents/forever" in line)
    assert beneath.startswith("  ")
    assert "part of" not in beneath
    args = ("ps", "--session", session, "--runnable", "agents/forever")
    _, alone = call(*args, address=address).stdout.splitlines()
    assert f"part of {top}" in alone
    assert alone.split()[0] == beneath.split()[0]
    client.cancel(top, wait=30)


def test_get_shows_all_of_a_run(address: str, client: RunClient) -> None:
    """`get` shows what is known of a run, and its output last."""
    run = client.start("agents/say", "hi there", user_id="ann@example.com")
    client.wait(run.run_id)
    done = call("get", run.run_id, address=address)
    assert done.returncode == 0
    for words in (run.run_id, "agents/say", "completed", "ann@example.com"):
        assert words in done.stdout
    assert done.stdout.splitlines()[-1] == "hi there"
    told = json.loads(call("get", run.run_id, "--json", address=address).stdout)
    assert told["output"] == "hi there"


def test_ps_says_how_long_an_ended_run_worked_and_why_it_failed(
    address: str, client: RunClient, session: str
) -> None:
    """The duration of an ended run does not grow with its age, and a failure has its words."""
    failed = client.start("agents/fails", session_id=session).run_id
    client.wait(failed)
    args = ("ps", "--session", session, "-A")
    _, line = call(*args, address=address).stdout.splitlines()
    assert "ValueError: no more" in line
    run = client.get(failed)
    assert seconds(run.end_time - run.start_time) in line


def test_output_into_a_pipe_is_what_the_run_said(address: str, client: RunClient) -> None:
    """Neither lines nor tabs of an output are changed, and `get --output` prints nothing else."""
    said = "abcd\tefgh " * 600
    run = client.start("agents/say", said)
    client.wait(run.run_id)
    assert call("get", run.run_id, "--output", address=address).stdout == f"{said}\n"
    assert call("get", run.run_id, address=address).stdout.endswith(f"\n\n{said}\n")


def test_wait_exits_as_the_run_ended(address: str, client: RunClient) -> None:
    """`wait` exits with the code of the run's end, and with 124 where its time was up first."""
    failed = client.start("agents/fails").run_id
    assert call("wait", failed, address=address).returncode == 1
    live = client.start("agents/forever").run_id
    assert call("wait", live, "--timeout", "50ms", address=address).returncode == 124
    client.cancel(live, wait=30)
    assert call("wait", live, address=address).returncode == 130
    assert call("wait", "nobody", address=address).returncode == 3


def test_runnables(address: str) -> None:
    """`runnables` lists what is on offer, with the author's words."""
    done = call("runnables", address=address)
    assert "agents/forever" in done.stdout
    assert "Ticks until it is stopped." in done.stdout
    names = [
        json.loads(line)["name"]
        for line in call("runnables", "--json", address=address).stdout.splitlines()
    ]
    assert names == sorted(names)
    assert "agents/say" in names


def test_the_address_is_an_option_too(address: str) -> None:
    """--address stands above PULLCORD_ADDRESS."""
    done = call("runnables", "--address", address, address="127.0.0.1:1")
    assert done.returncode == 0


def test_help_and_version() -> None:
    """Every command explains itself and the exit codes; --version says which Pullcord this is."""
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "100"})
        assert shown.exit_code == 0
        assert "Exit codes" in shown.stdout
    assert call("--version").stdout.count(".") == 2


def test_ps_watch_shows_each_change(address: str, client: RunClient, session: str) -> None:
    """`ps --watch` prints a line for each live run, and one for each change, until Ctrl-C."""
    run_id = client.start("agents/forever", session_id=session).run_id
    with Command("ps", "--watch", "--session", session, address=address) as shown:
        shown.until(f"{run_id}  agents/forever  running")
        client.cancel(run_id, "enough")
        shown.until("enough")
        shown.interrupt()
        assert shown.end()[0] == 0
    with Command("ps", "-w", "--json", "--session", session, address=address) as shown:
        other = client.start("agents/forever", session_id=session).run_id
        shown.until(f'"run_id": "{other}"')
        client.cancel(other, wait=30)


def test_a_run_shows_how_far_it_has_come(address: str, client: RunClient) -> None:
    """`ps` and `get` show what a live run's code said last; so do ListRuns and GetRun."""
    run_id = f"halfway-{uuid.uuid4()}"
    client.start("agents/halfway", run_id=run_id)
    with client.watch(run_id) as stream:
        next(event for event in stream if isinstance(event.payload, ContentDelta))
    assert "50 % (1 of 2), packing" in call("ps", address=address).stdout
    shown = call("get", run_id, address=address).stdout
    assert re.search(r"progress +50 % \(1 of 2\), packing", shown)
    told = json.loads(call("get", run_id, "--json", address=address).stdout)
    assert told["progress"] == {"done": 1.0, "total": 2.0, "note": "packing"}
    listed = {run.run_id: run.progress for run in client.list()}
    assert listed[run_id] == Progress(1, 2, "packing")
    client.cancel(run_id, wait=30)
    assert client.get(run_id).progress == Progress(1, 2, "packing")
    assert "packing" not in call("ps", "--all", address=address).stdout


def test_a_live_run_took_no_time_yet(address: str, client: RunClient, session: str) -> None:
    """The time of a run that has not ended is so far only."""
    live = client.start("agents/forever", session_id=session).run_id
    next(iter(client.watch(live)))
    env = {"PULLCORD_ADDRESS": address}
    assert re.search(
        r"took +\S+ m?s so far\n", CliRunner().invoke(app, ["get", live], env=env).stdout
    )
    client.cancel(live, wait=30)
    assert "so far" not in CliRunner().invoke(app, ["get", live], env=env).stdout


def test_the_words_of_a_stop() -> None:
    """A limit is named once, and what was used comes after what was kept."""
    reason = "the limit max_tokens was reached"
    stop = Cancellation(CancelCause.BUDGET, reason=reason, limit="max_tokens")
    assert why(stop) == f"budget: {reason}"
    assert why(replace(stop, reason="")) == "budget (max_tokens)"
    run = Run("r", "agents/a", RunState.CANCELLED, output="one two", cancellation=stop)
    usage = Usage(output_tokens=53, cost=None, estimated=True)
    for used, words in (
        (usage, "2 words; used about 53 tokens, cost unknown"),
        (Usage(cost=None), "2 words; cost unknown"),
    ):
        receipt = Receipt(CancelOutcome.STOPPED, replace(run, usage=used))
        assert dict(receipt_rows(receipt))["kept"] == words
