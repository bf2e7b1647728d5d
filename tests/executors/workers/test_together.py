"""Everything that ordinary code does to its process, at once, and a stop button that works."""

import threading
import time
from statistics import median
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pullcord.client import RunClient
from pullcord.run.cancel import CancelMode
from pullcord.run.events import ContentDelta, RunCancelled, RunFailed
from pullcord.run.state import RunState

from tests.executors.workers.conftest import ServeApp, Served
from tests.transports.harness import until

APP = """
import ctypes, os, resource, sys, threading, time
from pullcord import RunServer, runnable

def later(seconds=0.4):
    time.sleep(seconds)

@runnable
def recurses(input: str):
    yield "deep "
    def deeper(n):
        return deeper(n + 1)
    while True:
        try:
            deeper(0)
        except RecursionError:
            yield "."

@runnable
def computes(input: str):
    yield "computing"
    turns = 0
    while True:
        turns = (turns * 31 + 7) % 1_000_003

@runnable
def eats(input: str):
    yield "eating"
    later()
    resource.setrlimit(resource.RLIMIT_AS, (2**29, 2**29))
    kept = []
    while True:
        kept.append(bytearray(2**20))

@runnable
def exits(input: str):
    yield "leaving"
    later()
    os._exit(1)

@runnable
def crashes(input: str):
    yield "crashing"
    later()
    ctypes.string_at(0)

@runnable
async def blocks(input: str):
    yield "blocking"
    time.sleep(600)

@runnable
def floods(input: str):
    yield "flooding"
    while True:
        sys.stderr.write("x" * 4096 + "\\n")

@runnable
async def speaks(input: str):
    import asyncio
    while True:
        yield "on "
        await asyncio.sleep(0.02)

server = RunServer(
    agents=[recurses, computes, eats, exits, crashes, blocks, floods, speaks]
)
"""

_HARMFUL = ("recurses", "eats", "exits", "crashes", "blocks", "floods", *("computes",) * 32)


class Pulse:
    """Asks for health, again and again, and remembers how long each answer took."""

    def __init__(self, address: str) -> None:
        self.waits: list[float] = []
        self._going = True
        self._channel = grpc.insecure_channel(address)
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._going = False
        self._thread.join()
        self._channel.close()

    def _ask(self) -> None:
        stub = health_pb2_grpc.HealthStub(self._channel)
        while self._going:
            asked = time.monotonic()
            stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
            self.waits.append(time.monotonic() - asked)


def a_new_run_is_stopped_as_always(client: RunClient) -> None:
    """One may still begin on a worker that is about to die, and ends with it: then another."""
    for _ in range(20):
        stream = client.run("agents/speaks")
        for event in stream:
            if isinstance(event.payload, ContentDelta):
                client.cancel(stream.run_id, "enough")
                break
        end = (event if event.is_terminal else [*stream][-1]).payload
        if isinstance(end, RunFailed):
            assert end.error.type == "WorkerDied"
            continue
        assert isinstance(end, RunCancelled)
        assert end.output.startswith("on ")
        return
    raise AssertionError("no run works any more")


def harm(served: Served) -> list[str]:
    return [served.client.start(f"agents/{name}").run_id for name in _HARMFUL]


def test_the_cord_is_in_reach_while_everything_goes_wrong(serve: ServeApp) -> None:
    """New runs work and are stopped as always; runs of dead workers end with their text."""
    served = serve(APP, abandon_after=0.5)
    with Pulse(served.address) as pulse:
        everything_goes_wrong(served)
    assert median(pulse.waits) < 1.0  # it never hung; how fast is for the benchmarks to say


def everything_goes_wrong(served: Served) -> None:
    victims = harm(served)
    for _ in range(5):
        a_new_run_is_stopped_as_always(served.client)
    for run_id in victims:
        served.client.cancel(run_id, mode=CancelMode.IMMEDIATE)
    for run_id in victims:
        until(lambda run_id=run_id: served.client.get(run_id).state.is_terminal)  # type: ignore[misc]  # binds the loop variable
        run = served.client.get(run_id)
        if run.state is RunState.FAILED:
            assert run.error is not None
            # SystemError is what Python itself says in a process without memory.
            assert run.error.type in {"WorkerDied", "MemoryError", "SystemError"}
        else:
            assert run.state is RunState.CANCELLED
    a_new_run_is_stopped_as_always(served.client)
    served.freed()


def test_processes_of_their_own_harm_nobody(serve: ServeApp) -> None:
    """With a process for each run, a run beside all of that goes on unharmed."""
    served = serve(APP, settings={"isolation": "process", "spares": 0}, abandon_after=0.5)
    beside = served.client.run("agents/speaks")
    next(event for event in beside if isinstance(event.payload, ContentDelta))
    victims = [served.client.start(f"agents/{name}").run_id for name in _HARMFUL[:7]]
    a_new_run_is_stopped_as_always(served.client)
    for run_id in victims:
        served.client.cancel(run_id, mode=CancelMode.IMMEDIATE)
    for run_id in victims:
        until(lambda run_id=run_id: served.client.get(run_id).state.is_terminal)  # type: ignore[misc]  # binds the loop variable
    assert served.client.get(beside.run_id).state is RunState.RUNNING
    served.client.cancel(beside.run_id)
    *_, end = beside
    assert isinstance(end.payload, RunCancelled)
    served.freed()
