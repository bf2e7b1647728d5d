"""Workers that outlive their server: on a machine of their own, where it cannot kill them."""

import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import psutil
import pytest
from pullcord.client import RunClient
from pullcord.control import ControlServer
from pullcord.executors.processes import is_alive
from pullcord.run.cancel import CancelCause
from pullcord.run.events import ContentDelta
from pullcord.run.state import RunState
from pullcord.settings import Settings, SettingsError

from tests.cli.commands import PULLCORD, Command, environment
from tests.postgres import Database
from tests.steady import PATIENCE
from tests.transports.harness import until

APP = """
import os
from pullcord import RunContext, RunServer, runnable

@runnable
def waits(input: str, ctx: RunContext):
    yield str(os.getpid())
    ctx.cancel_token.wait(600)

server = RunServer(agents=[waits])
"""
# What a cluster does: the job is elsewhere, and knows the secret by a file.
HAND_OVER = """#!/bin/sh
printf %s "$PULLCORD_WORKER_SECRET" > handed-over
printf %s "$PULLCORD_WORKER_CONNECT" > connect
mv handed-over secret
exec sleep 600
"""


def address_of_this_machine() -> str:
    """One that is not loopback."""
    for each in psutil.net_if_addrs().values():
        for one in each:
            if one.family is socket.AF_INET and not one.address.startswith("127."):
                return one.address
    pytest.skip("this machine has no address but loopback")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "hand-over").write_text(HAND_OVER)
    (tmp_path / "hand-over").chmod(0o700)
    return tmp_path


@contextmanager
def elsewhere(folder: Path, connect: str) -> Iterator["subprocess.Popen[str]"]:
    """A worker that nobody started who dies with the server."""
    until((folder / "secret").exists)
    (folder / "secret").rename(folder / "taken")
    worker = subprocess.Popen(
        [*PULLCORD, "worker", "app.py:server", "--connect", connect],
        env=environment(PULLCORD_WORKER_SECRET_FILE=str(folder / "taken")),
        cwd=folder,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield worker
    finally:
        worker.kill()
        worker.wait()
        assert worker.stderr is not None
        worker.stderr.close()


@pytest.fixture(params=["a file", "PostgreSQL"])
def store(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the servers keep their runs, one after the other."""
    if request.param == "a file":
        yield "runs.db"
        return
    postgres = request.getfixturevalue("postgres")
    with closing(Database(postgres, "incarnations", real_time=True)):
        yield postgres.url("incarnations")


def test_workers_end_with_their_server(folder: Path, store: str) -> None:
    """A server that was killed and starts again at the same address refuses the worker of the old
    one, in words, and its run is LOST; and a worker that finds nobody ends with its lease. The
    server listens on all addresses, and the secret comes by a file."""
    longest = "120" if store == "runs.db" else "7"  # less than others take to end its runs
    with socket.create_server(("0.0.0.0", 0)) as free:
        port = free.getsockname()[1]
    connect = f"{address_of_this_machine()}:{port}"
    options = ["--worker-command", "./hand-over", "--worker-listen", f"0.0.0.0:{port}"]

    def serve(lease: str) -> Command:
        variables = {"PULLCORD_STORE": store, "PULLCORD_WORKER_LEASE": lease}
        serving = Command(
            *("serve", "app.py:server", "--listen", "127.0.0.1:0"),
            *options,
            cwd=folder,
            **variables,
        )
        return stack.enter_context(serving)

    def pid_of_run(address: str, run_id: str) -> int:
        with RunClient(address) as client:
            client.start("agents/waits", run_id=run_id)
            for event in client.watch(run_id):
                if isinstance(event.payload, ContentDelta):
                    return int(event.payload.text)
        raise AssertionError("it said nothing")

    with ExitStack() as stack:
        first = serve(longest)
        old = stack.enter_context(elsewhere(folder, connect))
        assert (folder / "connect").read_text() == f"{socket.gethostname()}:{port}"
        pid = pid_of_run(first.until("\n").split()[-1], "old")
        first.process.kill()
        second = serve("2")
        _, words = old.communicate()
        refusals = [f"{connect} is not the server that started this worker"]
        if longest != "120":  # the next server may have come too late to refuse it
            refusals.append("the server could not be reached within the lease")
        assert any(refusal in words for refusal in refusals)
        assert old.returncode == 1
        assert not is_alive(pid)
        new = stack.enter_context(elsewhere(folder, connect))
        address = second.until("\n").split()[-1]
        with RunClient(address) as client:
            lost = client.wait("old", PATIENCE)
        assert lost.state is RunState.FAILED
        assert lost.cancellation is not None
        assert lost.cancellation.cause is CancelCause.LOST
        pid = pid_of_run(address, "new")
        second.process.kill()
        _, words = new.communicate()
        assert "the server could not be reached within the lease" in words
        assert not is_alive(pid)


def test_a_lease_that_outlasts_the_store_s_is_refused() -> None:
    """With PostgreSQL other replicas end the runs of one that has died, and by then its workers
    must have ended; with a file nobody else does."""
    settings = {"worker_command": "sh -c true", "worker_lease": 8.0}
    ControlServer("app.py:server", Settings(store="runs.db", **settings))
    words = re.escape("PULLCORD_WORKER_LEASE: must be less than 8 s with this store")
    with pytest.raises(SettingsError, match=words):
        ControlServer("app.py:server", Settings(store="postgresql://localhost/x", **settings))
