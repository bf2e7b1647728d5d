"""An agent of another framework as `pullcord serve` runs it: this control process, and a worker.

Which one, and where its model is, says the job; the worker reads both from its environment.
"""

import importlib
import json
import os
import sys
from typing import Any

from pullcord.control import ControlServer
from pullcord.settings import read_settings

from tests.bench.process import answer, end_with_parent


def main() -> None:
    end_with_parent()
    job = json.loads(sys.argv[1])
    os.environ["BENCH_FRAMEWORK"], os.environ["BENCH_BASE_URL"] = job["framework"], job["base_url"]
    server = ControlServer("tests.bench.servers.adapted:agent", read_settings())
    server.serve("127.0.0.1:0", on_ready=lambda address: answer({"address": address}))


def __getattr__(name: str) -> Any:
    """The agent, for the worker alone: the control process imports no framework."""
    if name != "agent":
        raise AttributeError(name)
    return made(os.environ["BENCH_FRAMEWORK"], os.environ["BENCH_BASE_URL"])


def made(framework: str, base_url: str) -> Any:
    """An agent of this framework, as the adapters' tests make it."""
    kind = importlib.import_module(f"tests.adapters.foreign.kinds.{framework}_kind")
    return kind.agent(base_url)


if __name__ == "__main__":
    main()
