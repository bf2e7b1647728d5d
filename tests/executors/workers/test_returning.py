"""Workers elsewhere whose link is cut: below their lease, and beyond it."""

import random
import shlex
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from pullcord.control import ControlServer
from pullcord.engine.options import EngineOptions
from pullcord.run.events import ContentDelta, Event, RunCompleted
from pullcord.settings import Settings

from tests.executors.workers.conftest import Served
from tests.executors.workers.network import Network
from tests.transports.harness import until

APP = """
import asyncio, ctypes, os
from pullcord import RunContext, RunServer, runnable

@runnable
async def tells(input: str, ctx: RunContext):
    for n in range(int(input)):
        yield f"{n} "
        await asyncio.sleep(0.005)

@runnable
def floods(input: str):
    for n in range(28):
        yield f"{n:04d}" * 16384

@runnable
def holds(input: str, ctx: RunContext):
    yield str(os.getpid())
    ctypes.PyDLL(None).usleep(int(float(input) * 1e6))  # and with it the interpreter
    yield " and again"

@runnable
def waits(input: str, ctx: RunContext):
    yield str(os.getpid())
    ctx.cancel_token.wait(600)

@runnable
async def never_stops(input: str, ctx: RunContext):
    yield str(os.getpid())
    with ctx.critical():
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                pass

server = RunServer(agents=[tells, floods, holds, waits, never_stops])
"""
WORKER = shlex.join([sys.executable, "-m", "pullcord", "worker", "app.py:server"])
LEASE = 2.0


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with closing(Network()) as network:
        yield network


@pytest.fixture(scope="module")
def served(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all, whose worker comes through the network."""
    folder: Path = tmp_path_factory.mktemp("returning")
    (folder / "app.py").write_text(APP)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        settings = Settings(
            spares=0,
            worker_command=f"{WORKER} --connect 127.0.0.1:{network.port}",
            worker_listen=f"127.0.0.1:{network.target}",
            worker_lease=LEASE,
            engine=EngineOptions(abandon_after=0.3),
        )
        server = ControlServer("app.py:server", settings)
        served = Served(server, server.start())
        yield served
        served.client.close()
        server.stop()


class Watch:
    """A run, followed in a thread."""

    def __init__(self, served: Served, runnable: str, given: str = "") -> None:
        self.run_id = served.client.start(runnable, given).run_id
        self.events: list[Event] = []
        self._stream = served.client.watch(self.run_id)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        for event in self._stream:
            self.events.append(event)

    @property
    def text(self) -> str:
        return "".join(e.payload.text for e in self.events if isinstance(e.payload, ContentDelta))

    def end(self) -> Any:
        """The payload of its end; nothing came after it, and nothing is missing before."""
        self._thread.join(120)
        assert not self._thread.is_alive()
        numbers = [(e.sequence, getattr(e.payload, "count", 1)) for e in self.events]
        assert [n for n, _ in numbers] == [
            sum(count for _, count in numbers[: i + 1]) for i in range(len(numbers))
        ]
        assert [e.is_terminal for e in self.events] == [False] * (len(self.events) - 1) + [True]
        return self.events[-1].payload


def has_spoken(watch: Watch) -> bool:
    return bool(watch.text)


@pytest.mark.parametrize("seed", [1, 2])
def test_cuts_below_the_lease_lose_and_double_nothing(
    served: Served, network: Network, seed: int
) -> None:
    """In the middle of streams, heard by both ends or by none; each run has one end."""
    chance = random.Random(seed)
    before = network.connections
    watches = [Watch(served, "agents/tells", str(chance.randrange(200, 400))) for _ in range(4)]
    for _ in range(8):
        until(lambda: any(map(has_spoken, watches)))
        network.cut()
        time.sleep(chance.uniform(0.0, 0.3))  # between two faults, and no proof of anything
    flood = Watch(served, "agents/floods")
    network.swallow()
    time.sleep(LEASE / 2)
    network.restore()
    for watch in [*watches, flood]:
        end = watch.end()
        assert isinstance(end, RunCompleted)
        assert end.output == watch.text
        shown = [int(n) for n in watch.text.split()] if watch is not flood else []
        assert shown == list(range(len(shown)))
    assert len(flood.text) == 28 * 65536
    assert network.connections > before + 4
