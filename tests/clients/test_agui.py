"""AG-UI's own client, unchanged, starts and stops runs that every other client sees."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pullcord import RunServer, runnable
from pullcord.client import RunClient
from pullcord.run.cancel import CancelCause

from tests.clients.toolchains import CLIENTS, Toolchain, toolchain
from tests.transports.harness import Signal, make_settings

pytestmark = pytest.mark.timeout(900)

FOLDER = CLIENTS / "typescript"
PROGRAM = Path(__file__).parent / "agui.mjs"

SETTINGS = make_settings(listen="127.0.0.1:0", http="127.0.0.1:0")

never = Signal()


@runnable(id="speaker")
def speaker(input: str) -> Iterator[str]:
    """Says what it was told."""
    yield from ("you said ", input)


@runnable(id="waiter")
async def waiter(input: str):  # type: ignore[no-untyped-def]
    """Says a word and waits to be stopped."""
    yield "first"
    await never.come()


@pytest.fixture(scope="module")
def typescript() -> Toolchain:
    made = toolchain("typescript")
    made.make("build")
    return made


def test_its_own_client_runs_and_stops(typescript: Toolchain) -> None:
    """It checks that every event may come where it comes. To leave is to stop, as it is there."""
    server = RunServer([speaker, waiter], settings=SETTINGS)
    with server as address, RunClient(address) as client:
        base = f"{server.http_url}/agui/agents"
        said = typescript.run(["node", str(PROGRAM), f"{base}/speaker", "whole"], FOLDER)
        told = json.loads(said.splitlines()[-1])
        assert told["texts"] == ["you said hello"] == [client.wait("r").output]
        assert (told["kinds"][0], told["kinds"][-1]) == ("RUN_STARTED", "RUN_FINISHED")
    server = RunServer([speaker, waiter], settings=SETTINGS)
    with server as address, RunClient(address) as client:
        base = f"{server.http_url}/agui/agents"
        typescript.run(["node", str(PROGRAM), f"{base}/waiter", "abort"], FOLDER)
        run = client.wait("r")
        assert run.cancellation is not None
        assert (run.cancellation.cause, run.output) == (CancelCause.DISCONNECT, "first")
