"""Workers that a command starts: their link over a network, and what ends it."""

import select
import shlex
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pullcord.control import ControlServer, ImportFailed
from pullcord.executors.workers.reception import Reception
from pullcord.link import greeting
from pullcord.link.greeting import LinkRefused, Ticket, call
from pullcord.run.events import ContentDelta, RunFailed
from pullcord.settings import Settings, SettingsError, read_settings

from tests.executors.workers.conftest import ServeApp
from tests.transports.harness import until

APP = """
import os
from pullcord import RunContext, RunServer, runnable

@runnable
def says(input: str, ctx: RunContext):
    yield f"{os.getpid()} {os.environ.get('PULLCORD_WORKER_SECRET')}"
    ctx.cancel_token.wait(600)

@runnable
def quick(input: str):
    return "done"

@runnable
def dies(input: str):
    for n in range(2000):
        yield f"{n} "
    yield "last words" * 1000  # so long that it is sent before the next line
    os._exit(7)

server = RunServer(agents=[says, quick, dies])
"""
WORKER = shlex.join([sys.executable, "-m", "pullcord", "worker", "app.py:server"])


class Network:
    """What stands between a worker and its server: it passes everything on until it is cut."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._sock.getsockname()[1]
        self._open: list[socket.socket] = []
        self.target = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                here, _ = self._sock.accept()
                there = socket.create_connection(("127.0.0.1", self.target))
                self._open += [here, there]
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Ends every connection that there is."""
        for sock in self._open:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._sock.close()


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


def test_a_cut_link_ends_the_worker_and_its_runs_once(serve: ServeApp, network: Network) -> None:
    """The run ends FAILED, WorkerDied, with what it had said; the worker's process ends; a fresh
    worker takes over."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        network.target = free.getsockname()[1]
    settings = {
        "worker_command": f"{WORKER} --connect 127.0.0.1:{network.port}",
        "worker_listen": f"127.0.0.1:{network.target}",
    }
    served = serve(APP, settings=settings)
    stream = served.client.run("agents/says")
    said = next(e.payload.text for e in stream if isinstance(e.payload, ContentDelta))
    pid, secret = said.split()
    assert secret == "None"
    network.cut()
    [end] = [e.payload for e in stream if isinstance(e.payload, RunFailed)]
    assert (end.error.type, end.output) == ("WorkerDied", said)
    until(lambda: not psutil.pid_exists(int(pid)))
    assert served.client.wait(served.client.start("agents/quick").run_id, 120).output == "done"


def test_what_a_dying_worker_has_said_arrives(serve: ServeApp) -> None:
    """Through both processes between its code and its log; how it died is told as well."""
    served = serve(APP, settings={"worker_command": WORKER})
    *_, end = served.client.run("agents/dies")
    assert isinstance(end.payload, RunFailed)
    assert "exit code 7" in end.payload.error.message
    assert end.payload.output == "".join(f"{n} " for n in range(2000)) + "last words" * 1000


def test_a_command_that_goes_on_without_its_link_is_ended(
    serve: ServeApp, network: Network, tmp_path: Path
) -> None:
    """Such as one whose job is on a machine that is out of reach; callers read that."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        network.target = free.getsockname()[1]
    script = tmp_path / "start-worker"
    script.write_text(f"#!/bin/sh\n{WORKER} --connect 127.0.0.1:{network.port}\nexec sleep 600\n")
    script.chmod(0o700)
    settings = {"worker_command": str(script), "worker_listen": f"127.0.0.1:{network.target}"}
    served = serve(APP, settings=settings)
    command = served.worker()
    stream = served.client.run("agents/says")
    next(e for e in stream if isinstance(e.payload, ContentDelta))
    network.cut()
    [end] = [e.payload for e in stream if isinstance(e.payload, RunFailed)]
    assert "the worker process lost its link" in end.error.message
    until(lambda: not psutil.pid_exists(command))


def test_no_argument_list_has_the_secret(serve: ServeApp) -> None:
    """Other users of the machine can read those."""
    served = serve(APP, settings={"worker_command": WORKER})
    command = psutil.Process(served.worker())
    secret = command.environ()["PULLCORD_WORKER_SECRET"]
    family = [command, *command.children(recursive=True)]
    assert len(family) > 1
    assert not any(secret.split(".")[0] in " ".join(one.cmdline()) for one in family)


def test_a_command_that_starts_nothing_is_the_operator_s_to_see(tmp_path: Path) -> None:
    """A server whose first worker never connects does not begin, and says how that ended."""
    settings = Settings(spares=0, worker_command="sh -c 'exit 3'")
    server = ControlServer(f"{tmp_path}/app.py:server", settings)
    with pytest.raises(ImportFailed, match="exit code 3, before it connected"):
        server.start()


def test_a_command_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    """Before anything is started, so that nothing is tried again and again."""
    settings = Settings(spares=0, worker_command="start-wroker now")
    server = ControlServer(f"{tmp_path}/app.py:server", settings)
    with pytest.raises(
        OSError, match="PULLCORD_WORKER_COMMAND: there is no command 'start-wroker'"
    ):
        server.start()


@pytest.fixture
def reception() -> Iterator[Reception]:
    reception = Reception("127.0.0.1", 0)
    yield reception
    reception.close()


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    """The links that were opened."""
    links: list[socket.socket] = []
    yield links
    for link in links:
        link.close()


def test_a_secret_opens_one_link(reception: Reception, opened: list[socket.socket]) -> None:
    """Once; a second use is refused in words, and so is one that nobody gave out."""
    ticket = reception.expect(opened.append)
    call("127.0.0.1", reception.port, ticket).close()
    until(lambda: len(opened) == 1)
    for wrong in (ticket, Ticket("guess", ticket.fingerprint)):
        with pytest.raises(LinkRefused, match="of no worker that is awaited, or was used before"):
            call("127.0.0.1", reception.port, wrong)
    assert len(opened) == 1


def test_another_version_is_refused_in_words(
    reception: Reception, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ends name theirs."""
    ticket = reception.expect(opened.append)
    monkeypatch.setattr(greeting, "both_versions", lambda: "0.0.1 (abcd)")
    with pytest.raises(
        LinkRefused, match=r"the worker has Pullcord 0\.0\.1 \(abcd\), and the serv"
    ):
        call("127.0.0.1", reception.port, ticket)
    assert opened == []


def test_a_worker_gives_its_secret_to_no_other_server(
    reception: Reception, opened: list[socket.socket]
) -> None:
    """The certificate is compared before anything is said."""
    ticket = reception.expect(opened.append)
    with pytest.raises(LinkRefused, match="its certificate is another"):
        call("127.0.0.1", reception.port, Ticket(ticket.secret, "0" * 64))
    call("127.0.0.1", reception.port, ticket).close()  # the secret is unused


def test_who_says_nothing_is_cut_off(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a greeting does not stay open."""
    monkeypatch.setattr("pullcord.executors.workers.reception.TIMEOUT", 0.2)
    with socket.create_connection(("127.0.0.1", reception.port)) as silent:
        assert select.select([silent], [], [], 60)[0]
        with suppress(ConnectionResetError):
            assert silent.recv(1) == b""


def test_memory_of_workers_elsewhere_is_not_bounded_in_secret() -> None:
    """Both settings together are refused by name, and so is a command that cannot be read."""
    with pytest.raises(SettingsError, match="PULLCORD_MAX_WORKER_MEMORY: cannot be held"):
        read_settings(worker_command="run-it", max_worker_memory=2**30)
    with pytest.raises(SettingsError, match="PULLCORD_WORKER_COMMAND: is no command"):
        read_settings(worker_command="run 'it")
    with pytest.raises(SettingsError, match="PULLCORD_WORKER_LISTEN: must be host:port"):
        read_settings(worker_listen="unix:/tmp/x")
