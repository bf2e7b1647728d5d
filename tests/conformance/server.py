"""The server of the suite: the scripted runnables behind a real RunServer, with small bounds.

`python -m tests.conformance.server [HOST:PORT]` serves it by itself, for `--target`.
"""

import sys

from pullcord import RunServer
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


def make_server() -> RunServer:
    """A server that has not begun."""
    settings = Settings(heartbeat=HEARTBEAT, engine=BOUNDS)
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
