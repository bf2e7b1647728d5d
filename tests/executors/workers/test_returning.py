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
from pullcord.executors.processes import is_alive
from pullcord.run.cancel import CancelMode, CancelOutcome
from pullcord.run.events import ContentDelta, Event, RunCancelled, RunCompleted, RunFailed
from pullcord.run.state import RunState
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
LEASE = 3.0


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
            engine=EngineOptions(workers=1, abandon_after=0.3),
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


def test_cuts_below_the_lease_lose_and_double_nothing(
    served: Served, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of streams, heard by both ends or by none; each run has one end. The log says
    that the worker came back."""
    caplog.set_level("INFO")
    chance = random.Random(1)
    before = network.connections
    counts = [chance.randrange(200, 400) for _ in range(4)]
    watches = [Watch(served, "agents/tells", str(count)) for count in counts]
    for _ in range(12):
        until(lambda: any(map(has_spoken, watches)))
        network.cut()
        time.sleep(chance.uniform(0.0, 0.3))  # between two faults, and no proof of anything
    flood = Watch(served, "agents/floods")
    until(lambda: has_spoken(flood))
    network.swallow()
    network.restore()
    said = ["".join(f"{n} " for n in range(count)) for count in counts]
    said.append("".join(f"{n:04d}" * 16384 for n in range(28)))
    for watch, text in zip([*watches, flood], said, strict=True):
        end = watch.end()
        assert isinstance(end, RunCompleted)
        assert end.output == watch.text == text
    assert network.connections > before + 4
    assert any("worker is back" in record.getMessage() for record in caplog.records)


def cut(served: Served, network: Network) -> None:
    """Cuts the link, and waits until the server has seen that."""
    network.cut(for_good=True)
    until(lambda: all(c.process.is_cut for c in served.server._pool.connections()))


def test_while_the_link_is_cut_stops_are_answered_and_starts_wait(
    served: Served, network: Network
) -> None:
    """A GRACEFUL stop is recorded, and delivered once the worker is back; nothing ends before. A
    run that is started meanwhile is PENDING, and begins then."""
    first = Watch(served, "agents/waits")
    until(lambda: has_spoken(first))
    cut(served, network)
    receipt = served.client.cancel(first.run_id, "enough")
    assert receipt.outcome is CancelOutcome.REQUESTED
    second = Watch(served, "agents/tells", "3")
    assert served.client.get(first.run_id).state is RunState.CANCELLING
    assert served.client.get(second.run_id).state is RunState.PENDING
    assert sum(len(c.runs) for c in served.server._pool.connections()) == 1
    network.restore()
    end = first.end()
    assert isinstance(end, RunCancelled)
    assert not end.abandoned
    assert second.end().output == "0 1 2 "


def test_beyond_the_lease_runs_end_once_and_the_rest_moves(
    served: Served, network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    """A partition that no end is told of: what was said stays; what had not begun is executed by
    another worker."""
    caplog.set_level("INFO")
    holds, tells = Watch(served, "agents/waits"), Watch(served, "agents/tells", "100000")
    until(lambda: has_spoken(holds) and has_spoken(tells))
    queued = Watch(served, "agents/floods")  # behind `holds`, which has the only thread
    until(lambda: any(len(c.runs) == 3 for c in served.server._pool.connections()))
    network.swallow()
    for watch in (holds, tells):
        end = watch.end()
        assert isinstance(end, RunFailed)
        assert end.error.type == "WorkerDied"
        assert end.error.message.endswith(f"lost its link for {LEASE:g} s")
        assert end.output == watch.text
    assert any("worker lost" in record.getMessage() for record in caplog.records)
    network.restore()
    assert len(queued.end().output) == 28 * 65536
    until(lambda: not is_alive(int(holds.text)))


def test_a_worker_that_holds_its_interpreter_keeps_its_link(served: Served) -> None:
    """For longer than its lease: it is slow, and no partition."""
    assert Watch(served, "agents/holds", str(LEASE * 1.5)).end().output.endswith(" and again")


def test_an_immediate_stop_does_not_wait_for_the_link(served: Served, network: Network) -> None:
    """The run ends without its code after `abandon_after`, as on every silent worker; the worker,
    whose only run it was, is not taken back, and ends."""
    watch = Watch(served, "agents/never-stops")
    until(lambda: has_spoken(watch))
    cut(served, network)
    served.client.cancel(watch.run_id, mode=CancelMode.IMMEDIATE)
    end = watch.end()
    assert isinstance(end, RunCancelled)
    assert end.abandoned
    assert end.output == watch.text
    network.restore()
    until(lambda: not is_alive(int(watch.text)))
