"""What keeps workers in order: crash loops, endless imports, memory, silence, signals and forks."""

import gc
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pullcord.engine.live.live import LiveRun
from pullcord.executors.workers import restarts
from pullcord.executors.workers.restarts import Restarts
from pullcord.run.cancel import CancelMode
from pullcord.run.events import ContentDelta, RunCompleted, RunFailed
from pullcord.run.record import DisconnectPolicy
from pullcord.run.state import RunState

from tests.cli.commands import Command
from tests.executors.workers.conftest import ServeApp, Served
from tests.transports.harness import until

APP = """
import asyncio, os, signal, subprocess, sys, time
from pathlib import Path
from pullcord import RunContext, RunServer, runnable

if Path("broken").exists():
    os._exit(3)

@runnable
def quick():
    return str(os.getpid())

@runnable
def leaves():
    yield "gone"
    time.sleep(0.05)
    os._exit(1)

@runnable
async def waits():
    yield "here"
    await asyncio.sleep(600)

@runnable
def ignores():
    yield "never mind"
    while True:
        try:
            while True:
                time.sleep(0.01)
        except BaseException:
            pass

@runnable
def eats(input: str):
    kept = bytearray(int(input))
    kept[::4096] = b"x" * len(kept[::4096])
    yield "eaten"
    time.sleep(600)

@runnable
def command():
    waits = "import time; print(1, flush=True); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE)
    child.stdout.readline()
    child.terminate()
    return str(child.wait())

@runnable
def forks(ctx: RunContext):
    yield "before "
    child = os.fork()
    if child == 0:
        try:
            for _ in range(100):
                ctx.write("of a child ")
                time.sleep(0.002)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    yield "after"

@runnable(isolation="process")
async def family(ctx: RunContext):
    child = ctx.start(ignores)
    yield child.run_id
    await child.wait()
    yield " is gone"

server = RunServer(agents=[quick, leaves, waits, ignores, eats, command, forks, family])
"""


def speaking(served: Served, name: str, input: str = "") -> tuple[str, str]:
    """A run that has said something: its id, and that."""
    with served.client.run(name, input, on_disconnect=DisconnectPolicy.CONTINUE) as stream:
        said = next(e.payload.text for e in stream if isinstance(e.payload, ContentDelta))
        return stream.run_id, said


def is_serving(served: Served) -> Callable[[], bool]:
    channel = grpc.insecure_channel(served.address)
    stub = health_pb2_grpc.HealthStub(channel)

    def ask() -> bool:
        answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=30)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return ask


def said(served: Served, name: str, input: str = "") -> str:
    return served.client.wait(served.client.start(name, input).run_id, 60).output


def test_workers_that_fail_one_after_the_other_are_seen_in_the_health(
    serve: ServeApp, tmp_path: Path
) -> None:
    """NOT_SERVING while none can be started; runs wait meanwhile, and complete afterwards."""
    served = serve(APP)
    serving = is_serving(served)
    assert serving()
    (tmp_path / "broken").touch()
    os.kill(served.worker(), signal.SIGKILL)
    until(lambda: not serving())
    waiting = served.client.start("agents/quick").run_id
    assert served.client.get(waiting).state is RunState.PENDING
    (tmp_path / "broken").unlink()
    assert served.client.wait(waiting, 60).output
    assert serving()


def test_a_single_death_delays_nothing() -> None:
    """The first failure has no delay, the next ones have more and more, and a long life ends it."""
    loop = Restarts()
    delays = []
    for _ in range(12):
        loop.failed(lived=0.0)
        delays.append(round(loop.delay(), 2))  # as what is left of it passes meanwhile
    assert delays[0] == 0
    assert delays[1] > 0
    assert delays == sorted(delays)
    assert max(delays) <= restarts._LONGEST
    assert loop.is_looping
    loop.failed(lived=3600.0)
    assert not loop.is_looping
    assert loop.delay() == 0


def test_crashes_of_isolated_runs_are_no_crash_loop(serve: ServeApp) -> None:
    """However many processes their own runs have ended, the next run begins as always."""
    served = serve(APP, settings={"isolation": "process"})
    serving = is_serving(served)
    for _ in range(5):
        *_, end = served.client.run("agents/leaves")
        assert isinstance(end.payload, RunFailed)
    assert not served.server._pool.staff.restarts[True].is_looping
    assert serving()
    assert said(served, "agents/quick")


def test_an_import_that_never_ends_is_shown(tmp_path: Path) -> None:
    """After some seconds stderr has the author's line; Ctrl-C ends the server."""
    (tmp_path / "app.py").write_text(
        "import time\ndef forever():\n    time.sleep(600)\nforever()\n"
    )
    with Command("serve", "app:server", "--listen", "127.0.0.1:0", cwd=tmp_path) as serving:
        errors = ""
        assert serving.process.stderr is not None
        while "in forever" not in errors:
            line = serving.process.stderr.readline().decode()
            assert line, errors
            errors += line
        assert 'app.py", line 3' in errors
        serving.interrupt()
        code, _, rest = serving.end()
    assert code == 0, rest
    assert "has been importing app:server for 15 seconds" in errors + rest


def test_a_worker_that_holds_too_much_memory_is_killed(serve: ServeApp) -> None:
    """Its runs end FAILED with what they had said and words that name the setting."""
    served = serve(APP, settings={"max_worker_memory": 400 * 2**20})
    beside, _ = speaking(served, "agents/waits")
    assert served.client.get(beside).state is RunState.RUNNING
    eater = served.client.start("agents/eats", str(600 * 2**20)).run_id
    for run_id in (eater, beside):
        run = served.client.wait(run_id, 60)
        assert run.error is not None
        assert run.error.type == "WorkerDied"
        assert "PULLCORD_MAX_WORKER_MEMORY" in run.error.message
        assert "may hold 400 MiB" in run.error.message
    assert said(served, "agents/quick")


def test_a_worker_that_stays_silent_is_killed(serve: ServeApp) -> None:
    """Its runs can neither say anything nor be stopped: they end FAILED without anybody's stop."""
    served = serve(APP, settings={"max_silence": 1.0})
    run_id, _ = speaking(served, "agents/waits")
    frozen = served.worker()
    os.kill(frozen, signal.SIGSTOP)
    run = served.client.wait(run_id, 60)
    assert run.error is not None
    assert "did not answer for 1 seconds" in run.error.message
    assert run.output == "here"
    until(lambda: frozen not in served.workers())
    assert said(served, "agents/quick")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_every_process_leaves_workers_to_the_server(
    serve: ServeApp, number: signal.Signals
) -> None:
    """Service managers and terminals signal all processes; the runs are for the server to drain."""
    served = serve(APP)
    run_id, _ = speaking(served, "agents/waits")
    worker = served.worker()
    os.kill(worker, number)
    assert said(served, "agents/quick") == str(worker)
    assert served.client.get(run_id).state is RunState.RUNNING


def test_commands_of_tools_can_be_ended_by_signals(serve: ServeApp) -> None:
    """What a worker ignores, its children do not."""
    assert said(serve(APP), "agents/command") == str(-signal.SIGTERM)


def test_a_forked_process_does_not_speak_for_its_worker(serve: ServeApp) -> None:
    """What it says reaches nobody, and tears nothing."""
    served = serve(APP)
    assert said(served, "agents/forks") == "before after"
    assert said(served, "agents/quick") == str(served.worker())


def test_a_process_ends_with_its_run_though_a_child_of_that_ignores_its_stop(
    serve: ServeApp,
) -> None:
    """The child alone was stopped and abandoned; the process goes once its run has ended."""
    served = serve(APP, abandon_after=0.2)
    shared = served.worker()
    stream = served.client.run("agents/family")
    child = next(
        e.payload.text for e in stream if isinstance(e.payload, ContentDelta) and not e.source
    )
    until(lambda: served.client.get(child).output == "never mind")
    served.client.cancel(child, mode=CancelMode.IMMEDIATE)
    *_, end = stream
    assert isinstance(end.payload, RunCompleted)
    until(lambda: served.workers() == {shared})
    served.freed()


def test_a_slow_worker_gets_one_more_beside_it(serve: ServeApp, tmp_path: Path) -> None:
    """However many runs come while that is imported; one of both goes when both are quick."""
    source = APP.replace(
        "import asyncio,",
        "import time\nif __import__('os').path.exists('slow'):\n    time.sleep(1)\nimport asyncio,",
        1,
    )
    served = serve(source)
    (tmp_path / "slow").touch()
    first = served.worker()
    staff = served.server._pool.staff
    spawned: list[bool] = []
    spawn = staff.spawn
    slow = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staff, "is_slow", lambda c: slow and c.process.pid == first)
        patch.setattr(staff, "spawn", lambda *kind: (spawned.append(True), spawn(*kind)))
        runs = [served.client.start("agents/quick").run_id for _ in range(20)]
        pids = {served.client.wait(run_id, 60).output for run_id in runs}
        assert len(spawned) == 1
        assert pids.isdisjoint({str(first)})
        slow = False
        (held,) = pids
        until(lambda: len(served.workers()) == 1)  # no run has to come for that
        assert said(served, "agents/quick") in {held, str(first)}


def test_many_replacements_leave_nothing(serve: ServeApp) -> None:
    """No zombie, no descriptor, no thread."""
    served = serve(APP)
    said(served, "agents/quick")

    def held() -> tuple[int, int]:
        process = psutil.Process()
        zombies = [c for c in process.children() if c.status() == psutil.STATUS_ZOMBIE]
        return process.num_fds(), len(zombies)

    for round in range(int(os.environ.get("REPLACEMENTS", "6"))):
        worker = served.worker()
        os.kill(worker, signal.SIGKILL)
        served.server._pool.staff.restarts[False].reset()
        assert said(served, "agents/quick") == str(served.worker())
        if round == 1:
            before, threads = held(), threading.active_count()
    until(lambda: held()[0] <= before[0] + 2 and held()[1] == 0)
    assert threading.active_count() <= threads + 2


def test_ended_runs_are_no_garbage(serve: ServeApp) -> None:
    """The control process frees a run that ended, was stopped, or whose worker died, at once."""
    served = serve(APP)
    said(served, "agents/quick")

    def live_runs() -> int:
        return sum(type(found) is LiveRun for found in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = live_runs()
        said(served, "agents/quick")
        stream = served.client.run("agents/waits")
        next(event for event in stream if isinstance(event.payload, ContentDelta))
        stream.cancel(mode=CancelMode.IMMEDIATE)
        assert [*stream][-1].is_terminal
        assert [*served.client.run("agents/leaves")][-1].is_terminal
        until(lambda: live_runs() == before)
    finally:
        gc.enable()
