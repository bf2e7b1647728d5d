"""Workers that a command starts: their link over a network, and what ends it."""

import select
import shlex
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from pullcord.control import ControlServer, ImportFailed
from pullcord.executors.processes import is_alive
from pullcord.executors.workers.reception import Reception
from pullcord.link import greeting
from pullcord.link.greeting import LinkRefused, Ticket, call, call_again
from pullcord.run.events import ContentDelta, RunFailed
from pullcord.settings import Settings, SettingsError, read_settings

from tests.executors.workers.conftest import ServeApp
from tests.executors.workers.network import Network
from tests.transports.harness import until

APP = """
import os, subprocess
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

@runnable
def starts(input: str, ctx: RunContext):
    yield f"{os.getpid()} {subprocess.Popen(['sleep', '600']).pid}"
    ctx.cancel_token.wait(600)

server = RunServer(agents=[says, quick, dies, starts])
"""
WORKER = shlex.join([sys.executable, "-m", "pullcord", "worker", "app.py:server"])


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network()
    yield network
    network.close()


def test_a_cut_link_ends_the_worker_and_its_runs_once(network: Network, serve: ServeApp) -> None:
    """The run ends FAILED, WorkerDied, with what it had said; the worker's process ends; a fresh
    worker takes over."""
    settings = {
        "worker_command": f"{WORKER} --connect 127.0.0.1:{network.port}",
        "worker_listen": f"127.0.0.1:{network.target}",
        "worker_lease": 1.0,
    }
    served = serve(APP, settings=settings)
    stream = served.client.run("agents/says")
    said = next(e.payload.text for e in stream if isinstance(e.payload, ContentDelta))
    pid, secret = said.split()
    assert secret == "None"
    network.cut(for_good=True)
    [end] = [e.payload for e in stream if isinstance(e.payload, RunFailed)]
    assert (end.error.type, end.output) == ("WorkerDied", said)
    assert "lost its link for 1 s" in end.error.message
    until(lambda: not psutil.pid_exists(int(pid)))
    network.restore()
    assert served.client.wait(served.client.start("agents/quick").run_id, 120).output == "done"


def test_what_a_dying_worker_has_said_arrives(serve: ServeApp) -> None:
    """Through both processes between its code and its log; how it died is told as well."""
    served = serve(APP, settings={"worker_command": WORKER})
    *_, end = served.client.run("agents/dies")
    assert isinstance(end.payload, RunFailed)
    assert "exit code 7" in end.payload.error.message
    assert end.payload.output == "".join(f"{n} " for n in range(2000)) + "last words" * 1000


def test_a_command_that_goes_on_without_its_link_is_ended(
    network: Network, serve: ServeApp, tmp_path: Path
) -> None:
    """Such as one whose job is on a machine that is out of reach; callers read that."""
    script = tmp_path / "start-worker"
    script.write_text(f"#!/bin/sh\n{WORKER} --connect 127.0.0.1:{network.port}\nexec sleep 600\n")
    script.chmod(0o700)
    settings = {
        "worker_command": str(script),
        "worker_listen": f"127.0.0.1:{network.target}",
        "worker_lease": 1.0,
    }
    served = serve(APP, settings=settings)
    command = served.worker()
    stream = served.client.run("agents/says")
    next(e for e in stream if isinstance(e.payload, ContentDelta))
    network.cut(for_good=True)
    [end] = [e.payload for e in stream if isinstance(e.payload, RunFailed)]
    assert "the worker process lost its link" in end.error.message
    until(lambda: not psutil.pid_exists(command))


def test_a_worker_whose_link_is_frozen_ends_with_its_lease(
    network: Network, serve: ServeApp, tmp_path: Path
) -> None:
    """Though nothing of the server's reaches it, such as the kill of its command: its guard ends
    it, with what its code has started, and does not wait until the link goes on."""
    script = tmp_path / "start-worker"
    elsewhere = f"env -u PULLCORD_WORKER setsid {WORKER} --connect 127.0.0.1:{network.port}"
    script.write_text(f"#!/bin/sh\n({elsewhere} &)\nexec sleep 600\n")
    script.chmod(0o700)
    settings = {
        "worker_command": str(script),
        "worker_listen": f"127.0.0.1:{network.target}",
        "worker_lease": 1.0,
    }
    stream = serve(APP, settings=settings).client.run("agents/starts")
    said = next(e.payload.text for e in stream if isinstance(e.payload, ContentDelta))
    pid, started = map(int, said.split())
    link = psutil.Process(pid).parent()
    assert link is not None
    link.suspend()
    try:
        [end] = [e.payload for e in stream if isinstance(e.payload, RunFailed)]
        assert "lost its link for 1 s" in end.error.message
        until(lambda: not is_alive(pid) and not is_alive(started))
        assert link.status() == psutil.STATUS_STOPPED
    finally:
        link.resume()
    until(lambda: not is_alive(link.pid))


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
    reception = Reception("127.0.0.1", 0, 5.0)
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
    call("127.0.0.1", reception.port, ticket)[0].close()
    until(lambda: len(opened) == 1)
    for wrong in (ticket, Ticket("guess", ticket.fingerprint)):
        with pytest.raises(LinkRefused, match="of no worker that is awaited, or was used before"):
            call("127.0.0.1", reception.port, wrong)
    assert len(opened) == 1


def test_a_key_opens_further_connections_of_its_session(
    reception: Reception, opened: list[socket.socket]
) -> None:
    """As long as the worker is expected; then the session is over, and the worker learns that."""
    ticket = reception.expect(opened.append)
    link, member = call("127.0.0.1", reception.port, ticket)
    link.close()
    call_again("127.0.0.1", reception.port, member, 10).close()
    until(lambda: len(opened) == 2)
    reception.forget(ticket)
    with pytest.raises(LinkRefused, match="session is over: its runs have ended"):
        call_again("127.0.0.1", reception.port, member, 10)
    assert len(opened) == 2


def test_a_session_is_opened_by_its_own_key_only(
    reception: Reception, opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by another key, nor by the proof of an earlier connection, nor by its one-time
    secret; and the key is not sent."""
    ticket = reception.expect(opened.append)
    link, member = call("127.0.0.1", reception.port, ticket)
    link.close()
    said: list[dict[str, str]] = []
    say = greeting.say
    monkeypatch.setattr(greeting, "say", lambda to, words: (said.append(words), say(to, words)))
    call_again("127.0.0.1", reception.port, member, 10).close()
    until(lambda: len(opened) == 2)
    assert member.key.hex() not in str(said)
    monkeypatch.setattr(greeting, "say", say)
    wrong = replace(member, key=bytes(32))
    with pytest.raises(LinkRefused, match="has not the key of its session"):
        call_again("127.0.0.1", reception.port, wrong, 10)
    monkeypatch.setattr(greeting, "proof_of", lambda *_: said[1]["proof"])
    with pytest.raises(LinkRefused, match="has not the key of its session"):
        call_again("127.0.0.1", reception.port, member, 10)
    assert len(opened) == 2


def test_another_server_at_the_same_place_gets_no_proof(
    reception: Reception, opened: list[socket.socket]
) -> None:
    """Such as the control process that was started after the one that has died."""
    link, member = call("127.0.0.1", reception.port, reception.expect(opened.append))
    link.close()
    with (
        closing(Reception("127.0.0.1", 0, 5.0)) as other,
        pytest.raises(LinkRefused, match="is not the server that started this worker"),
    ):
        call_again("127.0.0.1", other.port, member, 10)


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
    call("127.0.0.1", reception.port, ticket)[0].close()  # the secret is unused


def test_who_says_nothing_is_cut_off(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection without a greeting does not stay open."""
    monkeypatch.setattr("pullcord.executors.workers.reception.TIMEOUT", 0.2)
    with socket.create_connection(("127.0.0.1", reception.port)) as silent:
        assert select.select([silent], [], [], 60)[0]
        with suppress(ConnectionResetError):
            assert silent.recv(1) == b""


@pytest.fixture
def strangers(reception: Reception, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As many connections that say nothing as are greeted at a time, for as long as they like."""
    monkeypatch.setattr("pullcord.executors.workers.reception.TIMEOUT", 600.0)
    with ExitStack() as open_:
        for _ in range(64):
            open_.enter_context(socket.create_connection(("127.0.0.1", reception.port)))
        yield


def test_strangers_keep_no_worker_out(
    reception: Reception, opened: list[socket.socket], strangers: None
) -> None:
    """Another connection takes the place of the oldest that has not shown whom it is of."""
    ticket = reception.expect(opened.append)
    first, member = call("127.0.0.1", reception.port, ticket)
    first.close()
    call_again("127.0.0.1", reception.port, member, 60).close()
    until(lambda: len(opened) == 2)


def test_a_known_session_gives_way_to_no_stranger(
    reception: Reception, opened: list[socket.socket], request: pytest.FixtureRequest
) -> None:
    """However slow it is, within the time of a greeting."""
    link, member = call("127.0.0.1", reception.port, reception.expect(opened.append))
    link.close()
    slow = greeting._connect("127.0.0.1", reception.port, member.fingerprint, 60)
    with slow:
        greeting.say(slow, {"session": member.session, "version": greeting.both_versions()})
        challenge = greeting.hear(slow)["challenge"]
        request.getfixturevalue("strangers")
        # One more, and it is heard: so nobody is left out who came before.
        call("127.0.0.1", reception.port, reception.expect(opened.append))[0].close()
        proof = greeting.proof_of(member.key, challenge, member.fingerprint)
        greeting.say(slow, {"proof": proof})
        assert greeting.hear(slow) == {}
    until(lambda: len(opened) == 3)


def test_memory_of_workers_elsewhere_is_not_bounded_in_secret() -> None:
    """Both settings together are refused by name, and so is a command that cannot be read."""
    with pytest.raises(SettingsError, match="PULLCORD_MAX_WORKER_MEMORY: cannot be held"):
        read_settings(worker_command="run-it", max_worker_memory=2**30)
    with pytest.raises(SettingsError, match="PULLCORD_WORKER_COMMAND: is no command"):
        read_settings(worker_command="run 'it")
    with pytest.raises(SettingsError, match="PULLCORD_WORKER_LISTEN: must be host:port"):
        read_settings(worker_listen="unix:/tmp/x")
