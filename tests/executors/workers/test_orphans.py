"""A control process that dies without a word: nothing of its workers outlives it.

Also how a worker's death is learned where the system has no pidfd.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from pullcord.client import RunClient
from pullcord.executors.processes import is_alive
from pullcord.executors.workers.weight import resident
from pullcord.run.events import ContentDelta, RunFailed
from pullcord.settings import STATM, SettingsError, read_settings

from tests.cli.commands import Command
from tests.executors.workers.conftest import ServeApp
from tests.transports.harness import until

APP = """
import os, pathlib, re, subprocess, time
from pullcord import RunServer, runnable

def detached():
    "A process that descends from this one, and is told by nothing else once that is gone."
    path = pathlib.Path("sleeper").absolute()
    command = f"(setsid sh -c 'echo $$ > {path}; exec sleep 1000' >/dev/null 2>&1 &)"
    subprocess.run(command, shell=True, check=True)
    while not path.exists() or not path.read_text().endswith("\\n"):
        pass
    return path.read_text().strip()

def holds_the_interpreter(input):
    yield f"{os.getpid()} {detached()} "
    time.sleep(0.05)  # what left `yield` a millisecond before is sent
    re.match("(a+)+$", "a" * 64 + "b")  # one call in C, for centuries

@runnable
def dies(input: str):
    yield "last words"
    time.sleep(0.5)  # what was said in the last millisecond may be lost
    os._exit(7)

@runnable
def quick(input: str):
    return "done"

shared = runnable(id="shared")(holds_the_interpreter)
alone = runnable(id="alone", isolation="process")(holds_the_interpreter)
server = RunServer(agents=[shared, alone, dies, quick])
"""


def guards(pid: int) -> dict[int, psutil.Process]:
    """The guards that a process has now, by their ids."""
    found = {}
    for child in psutil.Process(pid).children():
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if "pullcord.executors.guard" in child.cmdline():
                found[child.pid] = child
    return found


def guard_of(pid: int, *, beside: Iterable[int] = ()) -> psutil.Process:
    """The guard of a process, once there is one that is none of these."""
    until(lambda: bool(guards(pid).keys() - set(beside)))
    return next(found for id, found in guards(pid).items() if id not in beside)


def pids_said(client: RunClient, name: str) -> list[int]:
    """A run that holds its interpreter: its worker's process id, and what it has detached."""
    said: list[object] = []
    for event in client.run(name):
        said.append(event.payload)
        if isinstance(event.payload, ContentDelta):
            return [int(pid) for pid in event.payload.text.split()]
    raise AssertionError(said)


@pytest.mark.parametrize("name", ["agents/shared", "agents/alone"])
@pytest.mark.parametrize("guard", ["first", "second"])
def test_no_worker_outlives_a_control_process_that_is_killed(
    tmp_path: Path, name: str, guard: str
) -> None:
    """Not while its code holds the interpreter, nor what it has detached, nor after the guard has
    died once."""
    (tmp_path / "app.py").write_text(APP)
    with Command("serve", "app:server", "--listen", "127.0.0.1:0", cwd=tmp_path) as serving:
        address = serving.until("\n").split()[-1]
        watching = guard_of(serving.process.pid)
        if guard == "second":
            watching.kill()
            watching = guard_of(serving.process.pid, beside=[watching.pid])
        with RunClient(address) as client:
            pids = pids_said(client, name)
        busy = psutil.Process(pids[0])
        since = busy.cpu_times().user
        until(lambda: busy.cpu_times().user > since + 0.3)  # it holds the interpreter
        assert all(map(is_alive, pids))
        serving.process.kill()
        until(lambda: not any(map(is_alive, [*pids, watching.pid])))


def test_the_guard_ends_with_its_server(serve: ServeApp) -> None:
    """A server that is stopped leaves no guard, and no zombie of it."""
    others = list(guards(os.getpid()))  # of servers that other tests keep for the whole session
    served = serve(APP)
    guard = guard_of(os.getpid(), beside=others)
    served.client.close()
    served.server.stop()
    assert not guard.is_running()


def test_a_guard_that_dies_ends_no_worker(serve: ServeApp) -> None:
    """Its death is nobody else's."""
    others = list(guards(os.getpid()))
    served = serve(APP)
    worker = served.worker()
    guard = guard_of(os.getpid(), beside=others)
    guard.kill()
    guard_of(os.getpid(), beside=[*others, guard.pid])
    assert served.worker() == worker
    assert served.client.wait(served.client.start("agents/quick").run_id, 60).output == "done"


@pytest.mark.parametrize("waitid", [True, False])
def test_a_death_is_learned_without_a_pidfd(
    serve: ServeApp, monkeypatch: pytest.MonkeyPatch, waitid: bool
) -> None:
    """As on macOS: the worker's runs end with what they said, and a fresh worker takes over."""
    monkeypatch.delattr(os, "pidfd_open")
    if not waitid:
        monkeypatch.delattr(os, "waitid")
    served = serve(APP)
    *_, end = served.client.run("agents/dies")
    assert isinstance(end.payload, RunFailed)
    assert "exit code 7" in end.payload.error.message
    assert end.payload.output == "last words"
    worker = served.worker()
    os.kill(worker, signal.SIGKILL)
    assert served.client.wait(served.client.start("agents/quick").run_id, 60).output == "done"
    until(lambda: served.workers() not in ({worker}, set()))


def test_a_bound_on_memory_needs_a_system_that_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the setting is refused by name; it would hold nothing."""
    assert STATM.exists()
    assert resident(os.getpid()) > 0
    monkeypatch.setattr("pullcord.settings.STATM", Path("/nowhere/statm"))
    with pytest.raises(SettingsError, match=r"PULLCORD_MAX_WORKER_MEMORY: cannot be held here"):
        read_settings(max_worker_memory=2**30)
