"""The server of the suite: scripted runnables in a worker of a real server, with small bounds.

`python -m tests.conformance.server [HOST:PORT]` serves it by itself, for `--target`.
"""

import sys

from pullcord import RunServer
from pullcord.control import ControlServer
from pullcord.engine.options import EngineOptions
from pullcord.run.events import SourceKind
from pullcord.settings import Settings

from tests.conformance.runnables import Script, gate, thread

BOUNDS = EngineOptions(
    # One thread and one place before it, so that a scenario can fill both with two runs.
    workers=1,
    worker_queue=1,
    # Less than the scenarios write, so that late and slow watchers get a gap.
    max_log_bytes=256 * 1024,
)
HEARTBEAT = 0.25
"""Seconds. Short, so that every silence has some, which no client may show."""


SETTINGS = Settings(heartbeat=HEARTBEAT, engine=BOUNDS)


def make_server(*, in_process: bool = False) -> RunServer:
    """A server that has not begun; `in_process`: it executes runs itself."""
    if in_process:
        return served(SETTINGS)
    return ControlServer("tests.conformance.server:served", SETTINGS)


def served(settings: Settings | None = None) -> RunServer:
    """What a worker serves."""
    return RunServer(
        agents=[gate, Script(SourceKind.AGENT, name="Script"), thread],
        teams=[Script(SourceKind.TEAM, members=("writer", "critic"))],
        workflows=[Script(SourceKind.WORKFLOW, members=("draft", "print"))],
        settings=settings,
    )


if __name__ == "__main__":
    make_server().serve(
        sys.argv[1] if len(sys.argv) > 1 else None,
        on_ready=lambda address: print(f"Serving on {address}", flush=True),
    )
