"""The server of the suite: scripted runnables in a worker of a real server, with small bounds.

`python -m tests.conformance.server [HOST:PORT]` serves it by itself, for `--target`. `Apart` is
such a process, which can be frozen.
"""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

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


SETTINGS = Settings(heartbeat=HEARTBEAT, engine=BOUNDS, http="127.0.0.1:0")


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


KEEPALIVE = 1.0
"""Seconds of silence before a ping, and until it must be answered, where a peer is to be frozen."""


class Apart:
    """The same server in a process of its own, which notices a frozen client within seconds.

    Use it in `with`.
    """

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.conformance.server", "127.0.0.1:0", "--apart"]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().split()[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.thaw()
        self._process.terminate()
        self._process.communicate()

    def freeze(self) -> None:
        """Stops the process where it is: it closes no connection, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets the process go on; nothing, if it was not frozen."""
        self._process.send_signal(signal.SIGCONT)


if __name__ == "__main__":
    if "--apart" in sys.argv:
        short = {"keepalive": KEEPALIVE, "keepalive_timeout": KEEPALIVE}
        SETTINGS = SETTINGS.model_copy(update=short)
    make_server().serve(
        sys.argv[1] if len(sys.argv) > 1 else None,
        on_ready=lambda address: print(f"Serving on {address}", flush=True),
    )
