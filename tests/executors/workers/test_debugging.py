"""What an author sees of code in a worker: log lines with their run, and debuggers refused."""

import json
from pathlib import Path

from pullcord.client import RunClient, RunStream
from pullcord.run.events import RunCompleted, RunFailed

from tests.cli.commands import Command

APP = """
import asyncio, logging, pdb, sys
from pullcord import RunContext, RunServer, runnable

log = logging.getLogger("authors")

@runnable
def breaks_sync():
    yield "before"
    breakpoint()

@runnable
async def breaks_async():
    yield "before"
    pdb.set_trace()

@runnable
def debugs_elsewhere():
    with open("commands") as stdin, open("said", "w") as stdout:
        pdb.Pdb(stdin=stdin, stdout=stdout).set_trace()
        answer = "still"
    return open("said").read() and answer

@runnable
def logs_sync(ctx: RunContext):
    log.warning("from a thread")

@runnable
async def logs_async(ctx: RunContext):
    log.warning("from a task")
    await ctx.in_thread(log.warning, "from a tool")
    await ctx.start(logs_sync, "").wait()
    log.warning("of another", extra={"run_id": "its own"})

server = RunServer(agents=[breaks_sync, breaks_async, debugs_elsewhere, logs_sync, logs_async])
"""


def served(folder: Path, *names: str) -> tuple[list[RunStream], list[str]]:
    """Runs of these, each to its end, and the lines of the server's stderr."""
    (folder / "app.py").write_text(APP)
    command = ("serve", "app:server", "--listen", "127.0.0.1:0")
    with Command(*command, cwd=folder, PULLCORD_LOG_JSON="true") as serving:
        with RunClient(serving.until("\n").split()[-1]) as client:
            streams = []
            for name in names:
                streams.append(client.run(name))
                list(streams[-1])
        serving.interrupt()
        _, _, errors = serving.end()
    return streams, errors.splitlines()


def test_a_debugger_is_refused_in_words(tmp_path: Path) -> None:
    """The run fails with a typed error that names --in-process, and so does one line of stderr."""
    streams, lines = served(tmp_path, "agents/breaks-sync", "agents/breaks-async")
    for stream in streams:
        end = stream.result
        assert isinstance(end, RunFailed)
        assert (end.error.type, end.output) == ("NoTerminal", "before")
        assert "app.py:" in end.error.message
        assert "--in-process" in end.error.message
        (line,) = [line for line in lines if "--in-process" in line and stream.run_id in line]
        assert end.error.message == json.loads(line)["event"]


def test_a_debugger_that_needs_no_terminal_works(tmp_path: Path) -> None:
    """One with a stdin of its own is left alone."""
    (tmp_path / "commands").write_text("continue\n" * 9)
    (stream,), _ = served(tmp_path, "agents/debugs-elsewhere")
    assert isinstance(stream.result, RunCompleted)
    assert stream.result.output == "still"


def test_log_lines_of_authors_bear_the_run(tmp_path: Path) -> None:
    """From a thread, a task, a tool's thread and a child; a run_id that the line has is kept."""
    (stream,), lines = served(tmp_path, "agents/logs-async")
    told = [json.loads(line) for line in lines if line.startswith("{")]
    said = {line["event"]: line.get("run_id") for line in told}
    assert said["from a task"] == said["from a tool"] == stream.run_id
    assert said["from a thread"] not in (stream.run_id, None)
    assert said["of another"] == "its own"
