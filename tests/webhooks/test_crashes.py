"""A server that dies between a run's end and its webhook, and replicas that share the work."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pullcord.client import RunClient

from tests.cli.commands import Command
from tests.postgres import Database
from tests.restarts.serving import Served
from tests.transports.harness import Served as InProcess
from tests.transports.harness import until
from tests.webhooks.receiver import SECRET, Receiver
from tests.webhooks.test_delivery import say

_TELLS = """
import os
from pullcord import RunServer, runnable

@runnable
def tells(input: str) -> str:
    return str([os.environ.get(f"PULLCORD_WEBHOOK_{name}") for name in ("URL", "SECRET")])

server = RunServer([tells])
"""


@pytest.fixture
def served(tmp_path: Path, receiver: Receiver) -> Iterator[Served]:
    made = Served(
        tmp_path,
        PULLCORD_WEBHOOK_URL=receiver.url,
        PULLCORD_WEBHOOK_SECRET=SECRET,
        PULLCORD_WEBHOOK_PRIVATE="true",
    )
    yield made
    made.close()


def test_a_webhook_outlives_a_server_that_is_killed(served: Served, receiver: Receiver) -> None:
    """After kill -9 between the end of a run and its delivery, and a restart, it is delivered."""
    receiver.before_answer.clear()  # it has the request, and no server knows that it has
    with served.client() as client:
        client.start("agents/say", "hello", run_id="r")
        client.wait("r")
        (first,) = receiver.wait(1)
        client.start("agents/story", "never", run_id="lost")
        served.kill()
    receiver.before_answer.set()
    with served.client():
        until(lambda: len(receiver.got) >= 3)
    again, lost = sorted(receiver.got[1:3], key=lambda got: str(got.run["runId"]), reverse=True)
    assert (again.id, again.run["output"]) == (first.id, "hello")
    assert (lost.run["runId"], lost.run["state"]) == ("lost", "RUN_STATE_FAILED")
    assert all(got.is_signed() for got in receiver.got)


def test_the_command_names_the_address_and_hides_the_secret(
    receiver: Receiver, tmp_path: Path
) -> None:
    """`--webhook` is the address; a wrong one is refused by that name."""
    with Command("serve", "--webhook", "http://10.0.0.1/", cwd=tmp_path) as command:
        code, _, errors = command.end()
    assert code == 2
    assert "pullcord: --webhook: must be https" in errors


def test_code_does_not_get_the_secret(receiver: Receiver, tmp_path: Path) -> None:
    """A worker's environment is without it, since whoever has it can make links that decide."""
    app = tmp_path / "app.py"
    app.write_text(_TELLS)
    given = {
        "PULLCORD_WEBHOOK_URL": receiver.url,
        "PULLCORD_WEBHOOK_SECRET": SECRET,
        "PULLCORD_WEBHOOK_PRIVATE": "true",
    }
    with Command("serve", str(app), "--listen", "127.0.0.1:0", cwd=tmp_path, **given) as command:
        address = command.until("Runs are kept").partition("serving on ")[2].split()[0]
        with RunClient(address) as client:
            client.start("agents/tells", run_id="r")
            assert client.wait("r").output == str([receiver.url, None])
        assert receiver.of("run.ended")[0].is_signed()


def test_two_replicas_deliver_what_either_of_them_ends(
    notify: Callable[..., InProcess], receiver: Receiver, shared: Database
) -> None:
    """Each webhook is delivered by one of them, normally once."""
    shared.clear()
    replicas = [notify(say, store=shared.url), notify(say, store=shared.url)]
    for n in range(10):
        replicas[n % 2].start("agents/say", "hello", run_id=f"r{n}")
    until(lambda: {got.run["runId"] for got in receiver.got} == {f"r{n}" for n in range(10)})
    until(lambda: replicas[0].engine._store.notices.pending() == 0)
    assert len(receiver.got) == 10
    assert len({got.id for got in receiver.got}) == 10
