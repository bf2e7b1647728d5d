"""A server that is killed, or stopped, and started again: what was acknowledged is there."""

import re
import stat
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pullcord.client import RunClient
from pullcord.run.cancel import CancelCause, CancelOutcome
from pullcord.run.events import (
    ContentDelta,
    Event,
    Gap,
    Progress,
    RunFailed,
    Snapshot,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.record import SessionPolicy
from pullcord.run.state import RunState

from tests.cli.commands import Command, call
from tests.restarts.serving import Served
from tests.test_exporting import free_port

QUEUE = SessionPolicy.QUEUE


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path)
    yield made
    made.close()


@pytest.fixture
def client(served: Served) -> Iterator[RunClient]:
    with served.client() as client:
        yield client


def told_half(client: RunClient, run_id: str = "story", **options: object) -> list[Event]:
    """Starts a story; its first half, up to the tool call that waits."""
    client.start("agents/story", "never", run_id=run_id, **options)  # type: ignore[arg-type]  # options are passed on
    seen = []
    with client.watch(run_id) as stream:
        for event in stream:
            seen.append(event)
            if isinstance(event.payload, ToolCallStarted):
                break
    return seen


def test_a_story_whose_server_was_killed(served: Served, client: RunClient, tmp_path: Path) -> None:
    """After kill -9 in its middle and a restart, `pullcord get` shows the story: FAILED, cause
    LOST, with what was told, and a watcher who comes back is told of the gap and the end."""
    seen = told_half(client)
    client.start("agents/say", "hello", run_id="talk", session_id="s")
    client.wait("talk")
    client.cancel("early", "not this one", before_start=True)
    ended = call("get", "talk", "--json", address=served.address).stdout
    stopped = client.start("agents/story", "never", run_id="stopped")
    receipt = client.cancel("stopped", "enough", wait=30)
    assert receipt.outcome is CancelOutcome.STOPPED
    following: list[Event] = []

    def follow() -> None:
        following.extend(client.watch("story", after_sequence=seen[-1].sequence))

    thread = threading.Thread(target=follow)
    thread.start()
    served.kill()
    metrics = f"127.0.0.1:{free_port()}"
    with served.client("--metrics", metrics) as client:
        with urllib.request.urlopen(f"http://{metrics}/metrics") as answer:
            counted = answer.read().decode()
        assert re.search(
            r'ended_total{cause="lost",[^}]*runnable="agents/story",state="failed"} 1.0', counted
        )
        shown = call("get", "story", address=served.address)
        assert "once upon a time" in shown.stdout
        assert "LOST" in shown.stdout.upper()
        watched = call("watch", "story", address=served.address)
        assert (watched.returncode, watched.stdout) == (1, "once upon a time \n")
        assert "the server process that executed the run died after event" in watched.stderr
        assert "no longer kept" not in watched.stderr
        listed = call("ps", "--all", address=served.address).stdout
        assert listed.count("the server process that executed the run is gone") == 1
        run = client.get("story")
        assert (run.state, run.output) == (RunState.FAILED, "once upon a time ")
        assert run.progress == Progress(4, 6, "looking up the rest")
        assert run.cancellation is not None
        assert run.cancellation.cause is CancelCause.LOST
        assert [c.state for c in run.tool_calls] == [ToolCallState.UNKNOWN]
        thread.join(60)
        assert [type(event.payload) for event in following] == [Gap, Snapshot, RunFailed]
        assert following[-1].sequence == run.last_sequence > seen[-1].sequence

        told = [event.payload for event in client.watch("story")]
        text = "".join(payload.text for payload in told if isinstance(payload, ContentDelta))
        assert text == "once upon a time "
        assert call("get", "talk", "--json", address=served.address).stdout == ended
        assert client.cancel("stopped").accept_time == receipt.accept_time
        assert client.get("stopped").state is RunState.CANCELLED
        assert stopped.run_id == "stopped"
        client.start("agents/story", "never", run_id="early")
        early = client.wait("early")
        assert early.cancellation is not None
        assert (early.state, early.cancellation.reason) == (RunState.CANCELLED, "not this one")
        again = client.start("agents/say", "hello", run_id="talk", session_id="s")
        assert again.output == "hello"
        client.start("agents/say", "again", run_id="next", session_id="s")
        assert client.wait("next").output == "hello again"
        for name in ("runs.db", "runs.db-wal", "runs.db.lock"):
            assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    log = served.stop()
    (line,) = (one for one in log.splitlines() if "run ended: the server process" in one)
    assert "error" in line
    assert "run_id=story" in line


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_queued_runs_begin_after_a_restart(served: Served, how: str) -> None:
    """What waited for its session is begun by the next process, in order, and once."""
    with served.client() as client:
        told_half(client, "first", session_id="s", session_policy=QUEUE)
        for run_id in ("second", "third"):
            client.start("agents/say", run_id, run_id=run_id, session_id="s", session_policy=QUEUE)
        assert client.get("third").state is RunState.PENDING
    if how == "stop":
        served.stop()
    else:
        served.kill()
    with served.client() as client:
        assert client.wait("third").output == "second third"
        first, second = client.get("first"), client.get("second")
        assert first.state is (RunState.CANCELLED if how == "stop" else RunState.FAILED)
        assert second.create_time < first.end_time < second.start_time


def test_a_second_server_on_the_file_is_refused(served: Served, client: RunClient) -> None:
    """It says so in a line, and the exit code is 2."""
    done = call("serve", "--listen", "127.0.0.1:0", "--store", str(served._folder / "runs.db"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "is in use by another server" in done.stderr
    assert done.stderr.count("\n") == 1
    assert client.runnables()


def test_the_default_is_a_file_for_each_address(tmp_path: Path) -> None:
    """`pullcord serve` keeps runs in .pullcord, which git ignores; with port 0 in memory."""
    served = Served(tmp_path)
    with Command(
        "serve", "--listen", served.address, "--json", cwd=tmp_path, PULLCORD_STORE=""
    ) as command:
        file = f".pullcord/{served.address}.db"
        assert f'"store": "{file}"' in command.until("\n")
        command.interrupt()
        assert command.end()[0] == 0
    assert (tmp_path / file).exists()
    assert (tmp_path / ".pullcord" / ".gitignore").read_text() == "*\n"
    assert stat.S_IMODE((tmp_path / ".pullcord").stat().st_mode) == 0o700
    for listen, store in (("127.0.0.1:0", ""), (served.address, "memory")):
        with Command(
            "serve", "--listen", listen, "--json", cwd=tmp_path, PULLCORD_STORE=store
        ) as command:
            assert '"store": "memory"' in command.until("\n")
    assert len(list((tmp_path / ".pullcord").glob("*.db"))) == 1


def test_where_nothing_may_be_written(tmp_path: Path) -> None:
    """The default falls back to memory, with a warning; a named file is refused."""
    (tmp_path / ".pullcord").write_text("in the way")
    listen = Served(tmp_path).address
    with Command("serve", "--listen", listen, cwd=tmp_path, PULLCORD_STORE="") as command:
        command.until("serving on")
        command.interrupt()
        assert "runs are kept in memory, unless --store names another place" in command.end()[2]
    done = call("serve", "--store", ".pullcord/runs.db", cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the store .pullcord/runs.db cannot be made" in done.stderr


def test_a_unix_socket_has_a_file_too(tmp_path: Path) -> None:
    """The file of a socket is named by its path."""
    with Command(
        "serve", "--listen", f"unix:{tmp_path}/s", "--json", cwd=tmp_path, PULLCORD_STORE=""
    ) as command:
        name = f"unix:{tmp_path}/s".replace("/", "-")
        assert f'"store": ".pullcord/{name}.db"' in command.until("\n")


def test_a_stop_that_a_run_asked_for_is_kept(served: Served, client: RunClient) -> None:
    """Code in a worker stops another run: that is recorded like any other stop."""
    told_half(client)
    client.start("agents/stops", "story", run_id="asks")
    assert client.wait("asks").output == "True"
    served.kill()
    with served.client() as again:
        run = again.get("story")
        assert run.cancellation is not None
        assert (run.state, run.cancellation.reason) == (RunState.CANCELLED, "a run asked for it")


def test_in_one_process_too(served: Served) -> None:
    """`--in-process` keeps runs in the same file."""
    with served.client("--in-process") as client:
        client.start("agents/say", "kept", run_id="r")
        client.wait("r")
        text = "".join(
            event.payload.text
            for event in client.watch("r")
            if isinstance(event.payload, ContentDelta)
        )
        served.kill()
    with served.client("--in-process") as client:
        run = client.get("r")
        assert (run.state, run.output) == (RunState.COMPLETED, "kept")
        assert text in ("", "kept")
