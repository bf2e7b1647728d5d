"""`pullcord run` and `pullcord watch`, into pipes."""

import json
import re
import uuid

import pytest
from pullcord.cli.app import app
from pullcord.client import RunClient
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.events import RunCompleted
from pullcord.run.state import RunState
from typer.testing import CliRunner

from tests.cli.commands import Command, call, environment
from tests.steady import PATIENCE, steady


@pytest.fixture
def run_id() -> str:
    return f"run-{uuid.uuid4()}"


def test_text_goes_to_stdout_and_the_rest_to_stderr(address: str) -> None:
    """Into a pipe, stdout has the run's text and a closing newline, and nothing else."""
    done = call("run", "agents/say", "hello  world", address=address)
    assert (done.returncode, done.stdout) == (0, "hello  world\n")
    assert "completed in" in done.stderr
    assert "2 words" in done.stderr


def test_progress_is_shown(address: str) -> None:
    """On a terminal in the status line, into a pipe as a line on stderr."""
    done = call("run", "agents/counting", address=address)
    assert (done.returncode, done.stdout) == (0, "counted\n")
    assert "30 % (12 of 40), reading page 12" in done.stderr.splitlines()
    told = [json.loads(line) for line in call_json(address).splitlines()]
    assert {"done": 12, "total": 40, "note": "reading page 12"} in [
        event.get("progress") for event in told
    ]


def call_json(address: str) -> str:
    return call("run", "agents/counting", "--json", address=address).stdout


def test_input_from_stdin(address: str) -> None:
    """The input `-` is read from stdin."""
    done = call("run", "agents/say", "-", address=address, input="from\na pipe\n")
    assert done.stdout == "from\na pipe\n"


def test_structured_output_is_printed(address: str) -> None:
    """A run that returns data prints it as JSON."""
    assert json.loads(call("run", "agents/table", address=address).stdout) == {"rows": [1, 2]}


def test_what_is_beneath_goes_to_stderr(address: str, client: RunClient, run_id: str) -> None:
    """Into a pipe, stdout has the run's own text alone, and stderr each line beneath with its path.

    What has not started when the run is stopped is named, too.
    """
    text = "one two three " * 12
    args = ("workflows/sheet", text, "--run-id", run_id)
    with Command("run", *args, address=address) as command:
        for event in client.watch(_until_known(client, run_id)):
            source, payload = event.source, event.payload
            if source is not None and source.id == "spell" and isinstance(payload, RunCompleted):
                client.cancel(run_id, "enough")
        code, output, errors = command.end()
    assert code == 130
    assert output.rstrip("\n") == client.get(run_id).output
    lines = errors.splitlines()
    spelt = [line.removeprefix("both/spell: ") for line in lines if line.startswith("both/spell: ")]
    assert spelt[0] == "▸ started"
    assert " ".join(spelt[1:-1]).split() == text.split()
    assert max(map(len, spelt)) <= 101
    assert spelt[-1].startswith("▪ completed, ")
    assert [line for line in lines if line.startswith("both/forever: ▪ cancelled, ")]
    assert [line for line in lines if line.startswith("both: ▪ cancelled, ")]
    assert "table: not started" in lines


def test_a_nested_workflow_in_a_pipe(address: str) -> None:
    """A path names workflows in workflows and iterations, and a step's failure says its error."""
    done = call("run", "workflows/nested", "hi", address=address)
    assert done.returncode == 1
    for line in ("inner/loop/1/say: hi", "inner/loop/2/say: hi", "fails: half"):
        assert line in done.stderr.splitlines()
    assert re.search(r"^fails: ▪ failed, .*: ValueError: no more", done.stderr, re.MULTILINE)
    assert "\x1b" not in done.stderr


@steady
def test_the_end_of_a_member_is_not_the_runs(address: str) -> None:
    """With --json the lines of what is beneath have a source, and go on after a member's end."""
    done = call("run", "workflows/asking", "--timeout", "2", "--json", address=address)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    ends = [event for event in told if "run_cancelled" in event]
    assert [end.get("source", {}).get("path") for end in ends] == [
        ["asking", "refund", "refund"],
        None,
    ]
    assert told[-1] is ends[-1]
    assert done.returncode == 130


def test_turns_in_a_session(address: str, client: RunClient, run_id: str) -> None:
    """--session-policy says what a run does in a busy session: reject exits with 4."""
    client.start("agents/forever", run_id=run_id, session_id=run_id)
    args = ("run", "agents/say", "hi", "--session", run_id, "--session-policy")
    assert call(*args, "reject", address=address).returncode == 4
    done = call(*args, "supersede", address=address)
    assert (done.returncode, done.stdout) == (0, "hi\n")
    assert client.get(run_id).state is RunState.CANCELLED


def _until_known(client: RunClient, run_id: str) -> str:
    while not any(run.run_id == run_id for run in client.list()):
        pass
    return run_id


def test_json_lines(address: str, run_id: str) -> None:
    """With --json each line is an event in protobuf's JSON, with the proto's field names."""
    done = call("run", "agents/say", "hi", "--run-id", run_id, "--json", address=address)
    started, delta, ended = map(json.loads, done.stdout.splitlines())
    assert started["run_id"] == run_id
    assert started["run_started"] == {"runnable": "agents/say"}
    assert delta["content_delta"] == {"text": "hi"}
    assert ended["run_completed"]["output"] == "hi"
    assert [event["sequence"] for event in (started, delta, ended)] == ["1", "2", "3"]
    assert done.stderr == ""


def test_a_failed_run_exits_with_1(address: str) -> None:
    """A run that fails exits with 1; its text stays on stdout, and its error is on stderr."""
    done = call("run", "agents/fails", address=address)
    assert (done.returncode, done.stdout) == (1, "half\n")
    assert "ValueError: no more" in done.stderr
    assert "\x1b" not in done.stderr


def test_options_reach_the_run(address: str, client: RunClient, run_id: str) -> None:
    """Session, user, labels, limits and the disconnect policy are those of the command line."""
    options = "--session s-1 --user ann@example.com --label team=blue --label tier=2 --background"
    done = call("run", "agents/say", "hi", "--run-id", run_id, *options.split(), address=address)
    assert (done.returncode, done.stdout) == (0, f"{run_id}\n")
    run = client.wait(run_id, 30)
    assert (run.session_id, run.user_id) == ("s-1", "ann@example.com")
    assert run.labels == {"team": "blue", "tier": "2"}


@steady
def test_a_deadline_ends_the_run(address: str, client: RunClient) -> None:
    """With --timeout the run ends before it, cause DEADLINE, and the exit code is 130."""
    run_id = f"run-{uuid.uuid4()}"
    args = ("agents/forever", "--timeout", "1500ms", "--run-id", run_id)
    done = call("run", *args, address=address)
    assert done.returncode == 130
    assert "deadline" in done.stderr
    run = client.get(run_id)
    assert run.cancellation is not None
    assert run.cancellation.cause is CancelCause.DEADLINE
    assert run.output.startswith("tick ")


def test_a_timeout_in_the_background_is_a_limit(
    address: str, client: RunClient, run_id: str
) -> None:
    """With --background nobody waits for the call, so that --timeout is the run's own limit."""
    args = ("agents/forever", "--timeout", "0.2", "--background", "--run-id", run_id, "--json")
    done = call("run", *args, address=address)
    assert json.loads(done.stdout)["run_id"] == run_id
    run = client.wait(run_id, 30)
    assert run.cancellation is not None
    assert (run.cancellation.cause, run.cancellation.limit) == (CancelCause.BUDGET, "timeout")


def test_ctrl_c_cancels(address: str, client: RunClient, run_id: str) -> None:
    """Ctrl-C cancels the run gracefully, shows its end and the receipt, and exits with 130."""
    with Command("run", "agents/forever", "--run-id", run_id, address=address) as command:
        command.until("tick ")
        command.interrupt()
        code, output, errors = command.end()
    assert code == 130
    for word in ("stopping: user, by ", "Ctrl-C", "accepted", "delivered", "stopped", "kept"):
        assert word in errors
    run = client.get(run_id)
    assert run.state is RunState.CANCELLED
    assert run.cancellation is not None
    assert run.cancellation.reason == "Ctrl-C"
    assert "@" in run.cancellation.actor
    assert output.split() == run.output.split()


def test_ctrl_c_again_is_immediate(address: str, client: RunClient, run_id: str) -> None:
    """The first Ctrl-C lets a tool call finish, the second one interrupts it."""
    with Command("run", "agents/booking", "--run-id", run_id, address=address) as command:
        command.until("booking")
        command.interrupt()
        _until_cancelling(client, run_id)
        assert command.process.poll() is None
        command.interrupt()
        code, _, errors = command.end()
    assert code == 130
    assert "stopping at once" in errors
    assert "tool book_flight was interrupted" in errors
    run = client.get(run_id)
    assert run.cancellation is not None
    assert run.cancellation.mode is CancelMode.IMMEDIATE


def _until_cancelling(client: RunClient, run_id: str) -> None:
    for event in client.watch(run_id):
        if type(event.payload).__name__ == "CancelRequested":
            return


def test_ctrl_c_as_json(address: str, run_id: str) -> None:
    """With --json, Ctrl-C is told by the events alone."""
    args = ("run", "agents/forever", "--run-id", run_id, "--json")
    with Command(*args, address=address) as command:
        command.until("content_delta")
        command.interrupt()
        code, output, errors = command.end()
    last = json.loads(output.splitlines()[-1])
    assert (code, errors) == (130, "")
    assert last["run_cancelled"]["cancellation"]["cause"] == "CANCEL_CAUSE_USER"


def test_watch_from_anywhere(address: str, client: RunClient, run_id: str) -> None:
    """`watch` shows a run that has ended; with --after N only what came after event N."""
    client.start("agents/say", "hi there", run_id=run_id)
    client.wait(run_id)
    whole = call("watch", run_id, address=address)
    assert (whole.returncode, whole.stdout) == (0, "hi there\n")
    rest = call("watch", run_id, "--after", "2", "--json", address=address)
    assert list(json.loads(rest.stdout))[-1] == "run_completed"
    assert call("watch", run_id, "--after", "2", address=address).stdout == ""


def test_watching_an_old_run_tells_its_own_time(
    address: str, client: RunClient, run_id: str
) -> None:
    """What `watch` says of a run's length is the run's, however late it is watched."""
    client.start("agents/say", "hi there", run_id=run_id)
    client.wait(run_id)
    told = call("watch", run_id, "--after", "1", address=address).stderr
    assert re.search(r"completed in [\d.]+ ms: 2 words", told)


def test_leaving_a_watch_stops_nothing(address: str, client: RunClient, run_id: str) -> None:
    """Ctrl-C in `watch` only leaves, says how to come back, and exits with 124."""
    client.start("agents/forever", run_id=run_id)
    with Command("watch", run_id, address=address) as command:
        command.until("tick ")
        command.interrupt()
        code, _, errors = command.end()
    assert code == 124
    assert f"pullcord watch {run_id} --after " in errors
    assert client.get(run_id).state is RunState.RUNNING
    client.cancel(run_id, wait=30)


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["run", "agents/nobody"], 3, "agents/nobody"),
        (["run", "nobody"], 2, "unknown runnable 'nobody'; it must look like agents/ID"),
        (["run", "Say"], 3, "unknown runnable 'Say'; did you mean 'agents/say'?"),
        (["run", "sayy", "--background"], 3, "did you mean 'agents/say'?"),
        (["run", "agents/say", "--run-id", "a/b"], 2, "--run-id: must be 1 to 128 of letters"),
        (["run", "agents/say", "--retry-of", "r"], 2, "--retry-of: needs --session"),
        (["run", "agents/say", "--lease", "3s"], 2, "--lease: needs --on-disconnect lease"),
        (["run", "agents/say", "--label", f"a={'x' * 300}"], 2, "--label a: key and value"),
        (["ps", "--runnable", "say"], 3, "did you mean 'agents/say'?"),
        (["watch", "agents/say"], 2, "RUN_ID: must be"),
        (["run", "agents/say", "--timeout", "soon"], 2, "is no duration"),
        (["run", "agents/say", "--label", "blue"], 2, "is no label"),
        (
            ["run", "agents/say", "--max-tokens", "0"],
            2,
            "--max-tokens: must be more than 0, or left",
        ),
        (["run", "agents/say", "--on-disconnect", "shrug"], 2, "shrug"),
        (["run"], 2, "runnable"),
        (["watch", "nobody"], 3, "nobody"),
        (["dance"], 2, "dance"),
    ],
)
def test_what_is_refused(address: str, args: list[str], code: int, words: str) -> None:
    """A refusal exits with the code of its kind, and says on stderr what is wrong."""
    done = CliRunner().invoke(app, args, env={"PULLCORD_ADDRESS": address})
    assert (done.exit_code, done.stdout) == (code, "")
    assert words.lower() in done.stderr.lower()


def test_a_refusal_as_json(address: str) -> None:
    """With --json a refusal is a JSON object on stderr, with the reason that the API gives."""
    done = call("run", "agents/nobody", "--json", address=address)
    assert json.loads(done.stderr)["error"]["reason"] == "RUNNABLE_NOT_FOUND"


def test_nobody_at_the_address() -> None:
    """Where no server answers, that is said at once, and the exit code is 4."""
    done = call("run", "agents/say", address="127.0.0.1:1")
    assert done.returncode == 4
    assert "the server cannot be reached" in done.stderr
    assert "E0" not in done.stderr  # gRPC's own lines


def test_a_reader_that_leaves_ends_the_run(address: str, client: RunClient, run_id: str) -> None:
    """`pullcord run … | head` ends the command, and so its run, cause DISCONNECT."""
    with Command("run", "agents/forever", "--run-id", run_id, address=address) as command:
        command.until("tick ")
        assert command.process.stdout is not None
        command.process.stdout.close()
        command.process.wait(PATIENCE)
    run = client.wait(run_id, 30)
    assert run.cancellation is not None
    assert run.cancellation.cause is CancelCause.DISCONNECT


def test_environment_is_the_tests_own() -> None:
    """No setting of who runs the tests reaches a command; servers keep their runs in memory."""
    ours = {key: value for key, value in environment().items() if key.startswith("PULLCORD_")}
    assert ours == {"PULLCORD_STORE": "memory"}
