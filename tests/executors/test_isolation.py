"""`isolation="process"`: a run with a process for itself, over a real server."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunServer, runnable
from pullcord.agent import Agent
from pullcord.client import RunClient
from pullcord.executors.processes import is_alive
from pullcord.models.offline import OfflineModel
from pullcord.run.cancel import CancelMode, StopStage
from pullcord.run.events import ContentDelta, Custom, RunCancelled, RunCompleted, RunFailed
from pullcord.team import Team
from pullcord.workflow import Workflow

from tests.cli.commands import Command
from tests.transports.harness import until

APP = """
import os, pathlib, signal, subprocess, tempfile, time
from pullcord import RunContext, RunServer, runnable
from pullcord.workflow import Workflow

@runnable
def shared():
    return str(os.getpid())

@runnable(isolation="process")
def alone():
    return str(os.getpid())

@runnable(isolation="process")
def deaf(ctx: RunContext):
    yield "begun"
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass

def detached(how):
    "The id of a process that nothing connects with this one, except that it descends from it."
    path = pathlib.Path(tempfile.mkdtemp()) / "pid"
    command = f"({how} sh -c 'echo $$ > {path}; exec sleep 1000' >/dev/null 2>&1 &)"
    subprocess.run(command, shell=True, check=True)
    while not path.exists() or not path.read_text():
        time.sleep(0.01)
    return path.read_text()

@runnable(isolation="process")
def detaches(input: str, ctx: RunContext):
    how, then = input.split(", ")
    yield detached(how)
    if then == "waits":
        ctx.cancel_token.wait()
    elif then == "dies":
        with ctx.tool_call("c1", "asks"):  # its beginning is answered: what was said has been heard
            os.kill(os.getpid(), signal.SIGKILL)
    while then == "is deaf":
        try:
            while True:
                pass
        except BaseException:
            pass

isolated = Workflow(name="isolated", steps=[shared, alone], isolation="process")
common = Workflow(name="common", steps=[alone, shared])
server = RunServer(agents=[shared, alone, deaf, detaches], workflows=[isolated, common])
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunClient]:
    folder: Path = tmp_path_factory.mktemp("app")
    (folder / "app.py").write_text(APP)
    with Command("serve", "app:server", "--listen", "127.0.0.1:0", cwd=folder) as serving:
        address = serving.until("\n").split()[-1]
        with RunClient(address) as client:
            yield client


def output(client: RunClient, name: str) -> str:
    return client.wait(client.start(name, "").run_id, 60).output


def steps(client: RunClient, name: str) -> set[str]:
    data = client.wait(client.start(name, "").run_id, 60).output_data
    assert data is not None
    return {str(step["output"]) for step in data["steps"]}


def test_each_run_has_a_process(client: RunClient) -> None:
    """No two runs of an isolated runnable are in one process; others share theirs."""
    shared = {output(client, "agents/shared") for _ in range(2)}
    alone = {output(client, "agents/alone") for _ in range(2)}
    assert (len(shared), len(alone)) == (1, 2)
    assert shared.isdisjoint(alone)


def test_the_root_of_a_tree_decides(client: RunClient) -> None:
    """Steps are in their workflow's process, whatever they themselves ask for."""
    shared = output(client, "agents/shared")
    assert steps(client, "workflows/common") == {shared}
    (process,) = steps(client, "workflows/isolated")
    assert process != shared


def test_code_that_ignores_everything_is_killed(client: RunClient) -> None:
    """IMMEDIATE ends a run that swallows every interrupt; what it had said is kept."""
    stream = client.run("agents/deaf", "")
    for event in stream:
        if isinstance(event.payload, ContentDelta):
            stream.cancel(mode=CancelMode.IMMEDIATE)
    assert isinstance(stream.result, RunCancelled)
    assert (stream.result.stage, stream.result.output) == (StopStage.KILL, "begun")


WAYS = ["nohup", "setsid", "env -i setsid nohup"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("then", ["ends", "waits", "is deaf"])
def test_no_process_of_a_run_outlives_it(client: RunClient, how: str, then: str) -> None:
    """What a run has detached is killed before its terminal event, which comes after its name."""
    stream = client.run("agents/detaches", f"{how}, {then}")
    killed: list[Any] = []
    pid = 0
    for event in stream:
        if isinstance(event.payload, ContentDelta):
            pid = int(event.payload.text)
            if then != "ends":
                mode = CancelMode.GRACEFUL if then == "waits" else CancelMode.IMMEDIATE
                stream.cancel(mode=mode)
        if isinstance(event.payload, Custom) and event.payload.name == "processes_killed":
            killed += event.payload.data["processes"]
    assert isinstance(stream.result, RunCompleted if then == "ends" else RunCancelled)
    assert pid in [one["pid"] for one in killed]
    names = client.get(stream.run_id).killed_processes
    assert names == tuple(one["name"] for one in killed)
    assert "sleep" in names or "sh" in names  # it is a shell until it becomes the program
    if isinstance(stream.result, RunCancelled):
        assert stream.result.killed_processes == names
    until(lambda: not is_alive(pid))


@pytest.mark.parametrize("how", ["nohup", "setsid"])
def test_no_process_outlives_a_worker_that_dies(client: RunClient, how: str) -> None:
    """After the sudden death of a run's process, what it had detached is found and killed."""
    stream = client.run("agents/detaches", f"{how}, dies")
    text = "".join(e.payload.text for e in stream if isinstance(e.payload, ContentDelta))
    assert isinstance(stream.result, RunFailed)
    assert stream.result.error.type == "WorkerDied"
    until(lambda: not is_alive(int(text)))


def _make(**more: Any) -> list[Any]:
    model = OfflineModel()

    def function() -> None: ...

    return [
        lambda: runnable(id="it", **more)(function),
        lambda: Agent(model=model, id="it", **more),
        lambda: Team(model=model, members=[function], id="it", **more),
        lambda: Workflow(steps=[function], id="it", **more),
    ]


@pytest.mark.parametrize("kind", range(4))
def test_only_a_process_is_taken(kind: int) -> None:
    """Another isolation than a process is refused by name; without one there is none."""
    assert _make()[kind]().isolation is None
    assert _make(isolation="process")[kind]().isolation == "process"
    with pytest.raises(ValueError, match="isolation of 'it' is 'thread'; it must be 'process'"):
        _make(isolation="thread")[kind]()


def test_in_process_servers_say_once_that_they_ignore_it(caplog: pytest.LogCaptureFixture) -> None:
    """A server with one process executes there, and its log says so, once."""

    @runnable(isolation="process")
    def alone() -> str:
        return "done"

    with (
        caplog.at_level(logging.WARNING, "pullcord.executors"),
        RunServer(agents=[alone]) as address,
        RunClient(address) as client,
    ):
        assert [output(client, "agents/alone") for _ in range(2)] == ["done", "done"]
    (said,) = [r.getMessage() for r in caplog.records if r.name == "pullcord.executors"]
    assert said.startswith("agents/alone should have a process for each of its runs")
