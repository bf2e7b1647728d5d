"""Workers that Ray places, on a real cluster of two nodes: the executors' contract, and what a lost
node, a hung Ray and too few GPUs mean. One cluster serves them all.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pullcord.client import RunClient, RunStream
from pullcord.control import ControlServer, ImportFailed
from pullcord.engine.options import EngineOptions
from pullcord.executors.workers import pulse
from pullcord.executors.workers.on_ray import launcher
from pullcord.executors.workers.on_ray.options import RayOptions
from pullcord.run.cancel import CancelMode, CancelOutcome, StopStage
from pullcord.run.events import ContentDelta, RunCancelled, RunFailed
from pullcord.run.state import RunState
from pullcord.settings import Settings, overridden
from pullcord.worker.on_ray.actor import WorkerActor

from tests.contracts import test_executors as contract
from tests.ray_cluster import RayCluster, ray_cluster
from tests.transports.harness import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Ray's test cluster needs Linux")

# The whole contract, with the client of below.
globals().update({name: it for name, it in vars(contract).items() if name.startswith("test_")})

APP = """
import asyncio, os
from pullcord import Resources, RunContext, RunServer, runnable

@runnable
def computes():
    yield f"{os.getpid()} "
    while True:
        sum(range(1000))

@runnable
async def speaks():
    yield f"{os.getpid()} "
    while True:
        yield "on "
        await asyncio.sleep(0.05)

@runnable
def quick():
    return "done"

@runnable(isolation="process", resources=Resources(cpu=0.5))
def deaf():
    yield f"{os.getpid()} "
    while True:
        try:
            sum(range(1000))
        except BaseException:
            pass

@runnable(resources=Resources(cpu=0.5, memory="100MiB", gpu=1))
async def on_a_gpu():
    yield os.environ["CUDA_VISIBLE_DEVICES"]
    await asyncio.sleep(600)

server = RunServer(agents=[computes, speaks, quick, deaf, on_a_gpu])
"""
_THREADS = 20
"""Of each of the two workers."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def client(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunClient]:
    """Of a server that has the contract's app, in one worker."""
    path = tmp_path_factory.mktemp("app") / "contract_ray.py"
    path.write_text(contract.APP)
    ray = RayOptions(address=cluster.address, cpu=0.5)
    settings = overridden(contract._settings(), {"launcher": "ray", "ray": ray, "spares": 0})
    server = ControlServer(f"{path}:server", settings)
    with server as address, RunClient(address) as client:
        yield client
        until(lambda: server.engine.occupied == 0)


@pytest.fixture(scope="module")
def two(cluster: RayCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunClient]:
    """Of a server with two workers, one on each node, as no node has room for both."""
    path = tmp_path_factory.mktemp("app") / "two.py"
    path.write_text(APP)
    settings = Settings(
        launcher="ray",
        ray=RayOptions(address=cluster.address, cpu=3.5),
        pool_workers=0,
        max_pool_workers=2,
        spares=0,
        engine=EngineOptions(workers=_THREADS, abandon_after=60.0),
    )
    server = ControlServer(f"{path}:server", settings, workers=2)
    with server as address, RunClient(address) as client:
        until(lambda: len(server._pool.staff.free()) == 2)
        yield client
        until(lambda: server.engine.occupied == 0)


def said(stream: RunStream) -> str:
    """The first words of a run: the process that executes it, or its GPU."""
    return next(e.payload.text for e in stream if isinstance(e.payload, ContentDelta)).strip()


def test_runs_wait_for_the_gpu_of_the_cluster(
    two: RunClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """One run has it; the next is PENDING while Ray has no other, which the log says, and can be
    cancelled."""
    monkeypatch.setattr(pulse, "_COMES_WITHIN", 0.2)
    stream = two.run("agents/on-a-gpu")
    assert said(stream).split() == ["0"]
    waiting = [two.start("agents/on-a-gpu").run_id for _ in range(2)]
    assert {two.get(run_id).state for run_id in waiting} == {RunState.PENDING}
    assert two.wait(two.start("agents/quick").run_id, 60).output == "done"
    until(lambda: "has not come for 0.2 seconds: there may be no room for it" in caplog.text)
    assert two.cancel(waiting[0]).outcome is CancelOutcome.STOPPED
    two.cancel(stream.run_id)
    assert isinstance([*stream][-1].payload, RunCancelled)
    follower = two.watch(waiting[1])
    assert said(follower) == "0"  # the worker is warm, and takes it
    two.cancel(waiting[1])
    assert two.wait(waiting[1], 60).state is RunState.CANCELLED
    assert "ray" not in sys.modules  # in the control process, which is this one


def test_a_ray_that_hangs_delays_no_stop(two: RunClient) -> None:
    """A kill cuts the worker's link, by which its processes end, without an answer of Ray's."""
    stream = two.run("agents/deaf")
    pid = int(said(stream).split()[0])
    helpers = [each for each in psutil.Process().children() if launcher.HELPER in each.cmdline()]
    assert helpers
    for helper in helpers:
        helper.suspend()
    try:
        two.cancel(stream.run_id, mode=CancelMode.IMMEDIATE)
        *_, end = stream
        assert isinstance(end.payload, RunCancelled)
        assert (end.payload.stage, end.payload.abandoned) == (StopStage.KILL, False)
        until(lambda: not psutil.pid_exists(pid))
        quick = two.run("agents/speaks")
        assert said(quick)
        two.cancel(quick.run_id)
        assert isinstance([*quick][-1].payload, RunCancelled)
    finally:
        for helper in helpers:
            helper.resume()


def test_a_worker_of_another_version_is_refused(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In words, which end the server if none is of its version."""
    monkeypatch.setattr(launcher, "version", lambda _: "9.9.9")
    (tmp_path / "app.py").write_text("from pullcord import RunServer\nserver = RunServer()\n")
    settings = Settings(launcher="ray", ray=RayOptions(address=cluster.address))
    words = r"has Pullcord \S+, and the server 9\.9\.9: both must have the same"
    with pytest.raises(ImportFailed, match=words):
        ControlServer(f"{tmp_path / 'app.py'}:server", settings).start()


def test_a_lost_node_ends_its_runs_once_and_every_stop_answers(
    two: RunClient, cluster: RayCluster
) -> None:
    """Runs there end FAILED, WorkerDied, with what they had said; those that
    had not begun go to the other node; all others go on, and can be stopped."""
    computing = [two.run("agents/computes") for _ in range(2 * _THREADS)]
    speaking = [two.run("agents/speaks") for _ in range(100)]
    streams = computing + speaking
    pids = {stream.run_id: said(stream).split()[0] for stream in streams}
    assert len(set(pids.values())) == 2
    waiting = [two.start("agents/quick").run_id for _ in range(4)]
    assert {two.get(run_id).state for run_id in waiting} == {RunState.PENDING}
    cluster.kill_node()
    until(lambda: any(two.get(s.run_id).state is RunState.FAILED for s in speaking))
    for stream in streams:
        two.cancel(stream.run_id, mode=CancelMode.IMMEDIATE)
    ends = {}
    for stream in streams:
        end = [*stream][-1].payload
        assert isinstance(end, RunFailed | RunCancelled)
        assert end.output.startswith(pids[stream.run_id])
        assert sum(event.is_terminal for event in two.watch(stream.run_id)) == 1
        ends.setdefault(type(end), set()).add(pids[stream.run_id])
        if isinstance(end, RunFailed):
            assert end.error.type == "WorkerDied"
    assert {len(at) for at in ends.values()} == {1}  # each of one node
    assert len(ends) == 2
    for run_id in waiting:
        assert two.wait(run_id, 60).output == "done"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"Python": "2.7.18"}, r"has Python 3\S+, and the server 2.7.18"),
        ({"module": "0"}, "another .*app.py than the server: both must have the same files"),
    ],
)
def test_python_and_the_module_are_compared(
    tmp_path: Path, wrong: dict[str, str], words: str
) -> None:
    """Before the link is opened."""
    path = tmp_path / "app.py"
    path.write_text("")
    given = launcher.expected(f"{path}:server") | wrong
    found = WorkerActor().work(f"{path}:server", ("127.0.0.1", 1), "", given)
    assert isinstance(found, str)
    assert re.search(words, found)
