"""Runs that need resources: their workers, one run each, and the runs that wait for one."""

import shlex
import sys
from contextlib import nullcontext

import pytest
from pullcord import Resources
from pullcord.control import ImportFailed
from pullcord.executors.workers.launcher import CannotGive
from pullcord.executors.workers.local import LocalLauncher
from pullcord.run.cancel import CancelOutcome
from pullcord.run.events import ContentDelta, RunFailed
from pullcord.run.state import RunState
from pullcord.settings import Settings

from tests.executors.workers.conftest import ServeApp
from tests.transports.harness import until

APP = """
import os
from pullcord import Resources, RunContext, RunServer, runnable

NAMES = ("PULLCORD_WORKER_CPU", "PULLCORD_WORKER_MEMORY", "PULLCORD_WORKER_GPU")
SMALL = Resources(cpu=0.5, memory="800MiB")

def told() -> str:
    return f"{os.getpid()} " + ",".join(os.environ.get(name, "") for name in NAMES)

@runnable(resources=SMALL)
async def holds(ctx: RunContext):
    yield told()
    await __import__("asyncio").sleep(600)

@runnable(resources=SMALL)
def quick():
    return told()

@runnable
def plain():
    return told()

@runnable(resources=Resources(memory="200MiB"))
def eats():
    yield "begins"
    held = bytearray(b"x" * (400 * 1024 * 1024))
    while held:
        __import__("time").sleep(0.01)

@runnable(isolation="process", resources=SMALL)
def alone():
    return told()

server = RunServer(agents=[holds, quick, plain, eats, alone])
"""
WORKER = shlex.join([sys.executable, "-m", "pullcord", "worker", "app.py:server"])


def test_runs_that_need_resources_wait_for_a_worker_of_theirs(serve: ServeApp) -> None:
    """One run at a time for each worker of the set; what waits is PENDING, can be cancelled, and
    others go on meanwhile. The worker is warm: the next run is in the same one. A command finds the
    room that is needed in its environment."""
    served = serve(APP, settings={"max_pool_workers": 1, "worker_command": WORKER})
    client = served.client
    stream = client.run("agents/holds")
    said = next(e.payload.text for e in stream if isinstance(e.payload, ContentDelta))
    pid, variables = said.split()
    assert variables == f"0.5,{800 * 2**20},0"
    waiting = [client.start("agents/quick").run_id for _ in range(2)]
    assert client.wait(client.start("agents/plain").run_id, 60).output.split()[1] == ",,"
    assert {client.get(run_id).state for run_id in waiting} == {RunState.PENDING}
    receipt = client.cancel(waiting[0])
    assert receipt.outcome is CancelOutcome.STOPPED
    client.cancel(stream.run_id)
    assert client.wait(waiting[1], 60).output == f"{pid} {variables}"
    assert client.get(waiting[0]).start_time == 0.0


def test_a_set_grows_while_runs_wait_and_shrinks_again(serve: ServeApp) -> None:
    """Up to `max_pool_workers`. With a process for each run, the set has those."""
    served = serve(APP, settings={"pool_workers": 0, "max_pool_workers": 2})
    client = served.client
    streams = [client.run("agents/holds") for _ in range(2)]
    pids = {
        next(e.payload.text for e in stream if isinstance(e.payload, ContentDelta)).split()[0]
        for stream in streams
    }
    assert len(pids) == 2
    for stream in streams:
        client.cancel(stream.run_id)
    once, again = (client.wait(client.start("agents/alone").run_id, 60) for _ in range(2))
    assert once.output.split()[0] != again.output.split()[0]
    until(lambda: len(served.workers()) == 1)


def test_a_worker_that_holds_more_memory_than_its_run_needs_is_killed(serve: ServeApp) -> None:
    """The run ends FAILED, WorkerDied; the words say what was exceeded."""
    served = serve(APP, settings={"pool_workers": 0})
    *_, end = served.client.run("agents/eats")
    assert isinstance(end.payload, RunFailed)
    assert (end.payload.error.type, end.payload.output) == ("WorkerDied", "begins")
    assert "may hold 200 MiB (resources.memory" in end.payload.error.message


def test_what_no_worker_will_ever_have_is_refused_at_the_start(serve: ServeApp) -> None:
    """In words that name the runnable and the field, rather than having its runs wait for ever."""
    app = (
        "from pullcord import Resources, RunServer, runnable\n"
        "@runnable(resources=Resources(gpu=1))\ndef wants(): ...\n"
        "server = RunServer(agents=[wants])\n"
    )
    with pytest.raises(ImportFailed, match=r"agents/wants cannot be .*resources.gpu.*launcher ray"):
        serve(app)


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        (Resources(cpu=4096), r"resources.cpu: 4096, and this machine has \d+"),
        (Resources(memory="4096TiB"), "resources.memory: .* GiB, and this machine has"),
        (Resources(memory="16MiB"), ""),
    ],
)
def test_a_machine_knows_what_it_has(resources: Resources, words: str) -> None:
    """Workers that are its processes can have no more."""
    refused = pytest.raises(CannotGive, match=words) if words else nullcontext()
    with refused:
        LocalLauncher().check(resources)


def test_pools_are_no_larger_than_their_bound() -> None:
    """A setting that contradicts another names both."""
    with pytest.raises(ValueError, match="PULLCORD_POOL_WORKERS: must be at most PULLCORD_MAX"):
        Settings(pool_workers=9)
