"""`ctx.run_process`: a command that is tied to its run, with real processes."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.executors.processes import is_alive
from pullcord.run.cancel import Cancellation, CancelRequest
from pullcord.run.command import ProcessResult
from pullcord.run.events import Custom, RunCancelled
from pullcord.run.killed import MAX_KILLED
from pullcord.run.record import Run, RunSpec
from pullcord.run.runnable import Runnable
from pullcord.run.state import RunState
from pullcord.testing import make_engine

from tests.engine.driving import IMMEDIATE, cancel, ended, events
from tests.transports.harness import until

LOUD = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
"""Writes to both streams and fails."""
POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("asked", flush=True), sys.exit(0)))
print("ready", flush=True)
time.sleep(1000)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = make_engine(ThreadClock(), grace_period=0.2)
    yield engine
    engine.close()


class Ran:
    """A run that executes one command, in async or in sync code."""

    def __init__(self, engine: Engine, is_async: bool, command: Any, **options: Any) -> None:
        self.engine = engine
        self.ready = threading.Event()
        self.results: list[ProcessResult] = []
        self.errors: list[BaseException] = []

        def hear(stream: str, line: str) -> None:
            if line.startswith("ready"):
                self.ready.set()

        options.setdefault("on_line", hear)

        @runnable(id="runs")
        async def runs_async(ctx: RunContext) -> None:
            try:
                self.results.append(await ctx.run_process(command, **options))
            except BaseException as error:
                self.errors.append(error)
                raise

        @runnable(id="runs")
        def runs_sync(ctx: RunContext) -> None:
            try:
                self.results.append(ctx.run_process_sync(command, **options))
            except BaseException as error:
                self.errors.append(error)
                raise

        code: Runnable = runs_async if is_async else runs_sync
        engine.start(code, RunSpec("agents/runs", run_id="r"))

    def end(self) -> Run:
        return ended(self.engine)

    def told(self, name: str) -> list[dict[str, Any]]:
        payloads = [event.payload for event in events(self.engine)]
        return [dict(p.data) for p in payloads if isinstance(p, Custom) and p.name == name]


both = pytest.mark.parametrize("is_async", [True, False], ids=["async", "sync"])


@both
def test_a_command_streams_and_returns(engine: Engine, is_async: bool) -> None:
    """Both streams arrive as events and in the result, with the exit code."""
    ran = Ran(engine, is_async, [sys.executable, "-c", LOUD])
    assert ran.end().state is RunState.COMPLETED
    assert ran.results == [ProcessResult(3, "out\n", "err\n")]
    told = ran.told("process_output")
    for stream, text in (("stdout", "out\n"), ("stderr", "err\n")):
        assert "".join(one["text"] for one in told if one["stream"] == stream) == text


@both
def test_what_a_command_may_be_given(engine: Engine, is_async: bool, tmp_path: Path) -> None:
    """Input, directory, environment and a shell, and each line to a function."""
    lines: list[tuple[str, str]] = []
    ran = Ran(
        engine,
        is_async,
        'cat; echo "$WORD" >&2; pwd',
        shell=True,
        input="one\ntwo",
        cwd=tmp_path,
        env={"WORD": "fish", "PATH": os.environ["PATH"]},
        on_line=lambda stream, line: lines.append((stream, line)),
    )
    ran.end()
    assert ran.results == [ProcessResult(0, f"one\ntwo{tmp_path}\n", "fish\n")]
    assert sorted(lines) == [("stderr", "fish"), ("stdout", "one"), ("stdout", f"two{tmp_path}")]


@both
def test_input_of_any_size_is_written(engine: Engine, is_async: bool) -> None:
    """A command that answers while it reads does not stand still."""
    text = "x" * 500_000
    ran = Ran(engine, is_async, ["cat"], input=text)
    ran.end()
    assert ran.results[0].stdout == text


@both
def test_graceful_asks(engine: Engine, is_async: bool) -> None:
    """A GRACEFUL stop sends SIGTERM at once; what the command then says is kept."""
    ran = Ran(engine, is_async, [sys.executable, "-c", POLITE])
    assert ran.ready.wait(30)
    cancel(engine, grace_period=60.0)
    assert ran.end().state is RunState.CANCELLED
    assert [one["text"] for one in ran.told("process_output")][-1].endswith("asked\n")
    assert ran.told("processes_killed") == []


@both
def test_a_deaf_command_is_killed_after_the_grace_period(engine: Engine, is_async: bool) -> None:
    """A command that ignores SIGTERM is killed when the stop becomes IMMEDIATE, and named."""
    ran = Ran(engine, is_async, [sys.executable, "-c", DEAF])
    assert ran.ready.wait(30)
    cancel(engine)
    assert ran.end().state is RunState.CANCELLED
    assert ran.end().killed_processes == (killed_name(sys.executable),)
    (killed,) = ran.told("processes_killed")
    assert "SIG_IGN" in killed["processes"][0]["command"]
    assert not is_alive(int(killed["processes"][0]["pid"]))


@both
def test_immediate_kills_the_group(engine: Engine, is_async: bool) -> None:
    """An IMMEDIATE stop kills the command and what it has started."""
    ran = Ran(engine, is_async, "sleep 1000 & sleep 1000 & echo ready; wait", shell=True)
    assert ran.ready.wait(30)
    cancel(engine, mode=IMMEDIATE)
    assert ran.end().state is RunState.CANCELLED
    (killed,) = ran.told("processes_killed")
    assert killed["count"] == 3  # the shell, and both
    *_, end = events(engine)
    assert isinstance(end.payload, RunCancelled)
    assert set(end.payload.killed_processes) <= {"sh", "sleep"}  # what was forked may be "sh" still
    assert len(end.payload.killed_processes) == 3
    assert ran.end().killed_processes == end.payload.killed_processes
    receipt = engine.cancel("r", CancelRequest(Cancellation()))
    assert receipt.run is not None
    assert receipt.run.killed_processes == end.payload.killed_processes
    until(lambda: not any(is_alive(int(one["pid"])) for one in killed["processes"]))


def test_a_parent_bears_what_its_child_left(engine: Engine) -> None:
    """What was killed with a child, which failed, is named in the run of its parent as well."""

    @runnable(id="leaves")
    async def leaves(ctx: RunContext) -> None:
        detach = "setsid sleep 1000 >/dev/null 2>&1 & until grep -q sleep /proc/$!/comm; do :; done"
        await ctx.run_process(detach, shell=True)
        raise LookupError

    @runnable(id="runs")
    async def runs(ctx: RunContext) -> str:
        child = await ctx.start(leaves, "").wait()
        return f"{child.state} {child.killed_processes}"

    engine.start(runs, RunSpec("agents/runs", run_id="r"))
    run = ended(engine)
    assert (run.output, run.killed_processes) == ("failed ('sleep',)", ("sleep",))


def test_many_names_are_bounded(engine: Engine) -> None:
    """A run bears the first names; the event says how many there were."""
    command = "for n in $(seq 40); do sleep 1000 & done; echo ready; wait"
    ran = Ran(engine, True, command, shell=True)
    assert ran.ready.wait(30)
    cancel(engine, mode=IMMEDIATE)
    assert len(ran.end().killed_processes) == MAX_KILLED
    (killed,) = ran.told("processes_killed")
    assert killed["count"] == 41


def killed_name(program: str) -> str:
    """As the system names a process of this program."""
    return Path(program).name[:15]


def test_a_cancelled_call_kills(engine: Engine) -> None:
    """A call that an author's timeout ends leaves no process, and the run goes on."""
    pids: list[int] = []

    @runnable(id="runs")
    async def runs(ctx: RunContext) -> str:
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()

        def hear(stream: str, line: str) -> None:
            pids.append(int(line))
            loop.call_soon_threadsafe(ready.set)

        call = asyncio.ensure_future(
            ctx.run_process("echo $$; exec sleep 1000", shell=True, on_line=hear)
        )
        await ready.wait()
        call.cancel()
        await asyncio.wait([call])
        return f"{call.cancelled()} {is_alive(pids[0])}"

    engine.start(runs, RunSpec("agents/runs", run_id="r"))
    assert ended(engine).output == "True False"


def test_what_a_command_leaves_running_ends_with_it(engine: Engine) -> None:
    """A call returns when its command has ended, though others still hold its output; those are
    killed while the run goes on."""

    @runnable(id="runs")
    def runs(ctx: RunContext) -> str:
        result = ctx.run_process_sync("sleep 1000 & echo $!", shell=True)
        until(lambda: not is_alive(int(result.stdout)))
        return str(result.exit_code)

    engine.start(runs, RunSpec("agents/runs", run_id="r"))
    assert ended(engine).output == "0"


@both
def test_what_a_command_detaches_ends_with_the_run(
    engine: Engine, is_async: bool, tmp_path: Path
) -> None:
    """A process in a session of its own is found at the run's end, killed, and named."""
    detach = """
        setsid sh -c 'echo $$ > pid; exec sleep 1000' >/dev/null 2>&1 &
        until [ -s pid ] && [ "$(cat /proc/$(cat pid)/comm)" = sleep ]; do sleep 0.01; done
    """
    ran = Ran(engine, is_async, detach, shell=True, cwd=tmp_path)
    assert ran.end().state is RunState.COMPLETED
    pid = int((tmp_path / "pid").read_text())
    (killed,) = ran.told("processes_killed")
    assert [one["pid"] for one in killed["processes"]] == [pid]
    assert ran.end().killed_processes == ("sleep",)
    until(lambda: not is_alive(pid))


@both
def test_a_flood_is_bounded(engine: Engine, is_async: bool) -> None:
    """Of a flood the beginning and the end are kept; events are few, and say what they miss."""
    flood = "import sys\nfor n in range(200_000): print(f'line {n}')"
    ran = Ran(engine, is_async, [sys.executable, "-c", flood], max_output=10_000)
    ran.end()
    (result,) = ran.results
    whole = sum(len(f"line {n}\n") for n in range(200_000))
    assert result.stdout.startswith("line 0\nline 1\n")
    assert result.stdout.endswith("line 199999\n")
    assert (len(result.stdout), result.dropped) == (10_000, whole - 10_000)
    told = ran.told("process_output")
    assert sum(len(one["text"]) + int(one.get("dropped", 0)) for one in told) == whole
    assert max(len(one["text"]) for one in told) <= 32 * 1024


@both
def test_a_long_line_comes_in_pieces(engine: Engine, is_async: bool) -> None:
    """No line that an author's function is given is longer than its bound."""
    lines: list[str] = []
    ran = Ran(
        engine,
        is_async,
        [sys.executable, "-c", "print('x' * 20_000, end='')"],
        on_line=lambda stream, line: lines.append(line),
    )
    ran.end()
    assert [len(line) for line in lines] == [8192, 8192, 20_000 - 2 * 8192]


@both
def test_a_command_that_does_not_exist(engine: Engine, is_async: bool) -> None:
    """What cannot be started raises as the standard library does."""
    ran = Ran(engine, is_async, ["no-such-program"])
    assert ran.end().state is RunState.FAILED
    assert type(ran.errors[0]) is FileNotFoundError


@both
@pytest.mark.parametrize(("command", "shell"), [("ls -l", False), (["ls"], True)])
def test_text_is_for_a_shell_only(
    engine: Engine, is_async: bool, command: object, shell: bool
) -> None:
    """A text without a shell, or a list with one, is refused in words."""
    ran = Ran(engine, is_async, command, shell=shell)
    assert ran.end().state is RunState.FAILED
    assert type(ran.errors[0]) is TypeError
    assert str(ran.errors[0]).startswith("command must be ")
