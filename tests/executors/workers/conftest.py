"""A real control process in the test's own, with real workers that import an app of the test's."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord.client import RunClient
from pullcord.control import ControlServer
from pullcord.engine.options import EngineOptions
from pullcord.settings import Settings

from tests.transports.harness import until


class Served:
    """A server, a client of it, and its worker processes."""

    def __init__(self, server: ControlServer, address: str) -> None:
        self.server = server
        self.address = address
        self.client = RunClient(address)

    def workers(self) -> set[int]:
        """Process ids of the workers that are alive."""
        return self.server.worker_pids()

    def worker(self) -> int:
        """The one worker there is."""
        until(lambda: len(self.workers()) == 1)
        return self.workers().pop()

    def freed(self) -> None:
        """Until no run holds capacity."""
        until(lambda: self.server.engine.occupied == 0)


ServeApp = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServeApp]:
    """Serves the source of an app; the options are those of the engine, or settings."""
    made: list[Served] = []
    monkeypatch.chdir(tmp_path)

    def start(source: str, workers: int = 1, settings: Any = None, **engine: Any) -> Served:
        (tmp_path / "app.py").write_text(source)
        # No warm spares, so that the shared worker is the only one.
        given = Settings(engine=EngineOptions(**engine), **{"spares": 0, **(settings or {})})
        server = ControlServer("app.py:server", given, workers=workers)
        made.append(Served(server, server.start()))
        return made[-1]

    yield start
    for served in made:
        served.client.close()
        served.server.stop()
        until(lambda served=served: not served.workers())  # type: ignore[misc]  # binds the loop variable
