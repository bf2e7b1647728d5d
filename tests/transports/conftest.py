"""Servers for one test each, and the check that nothing of them is left behind.

`@in_both_modes` runs a test once more with its runnables in a worker process.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord.control import ControlServer
from pullcord.server import RunServer
from pullcord.stores.memory import MemoryStore

from tests.transports.harness import (
    WORKERS,
    Served,
    app_of,
    make_settings,
    threads_of_ours,
    until,
)

FRAMEWORKS = ("agent_framework", "agno", "google_adk")
"""Whose loggers say what an author's tool or a model raised."""


@pytest.fixture
def serve(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> Iterator[Callable[..., Served]]:
    """Serves runnables, engine options as keywords.

    Afterwards no thread of ours may be left, and neither we nor gRPC may have logged an error
    (a test that wants one clears `caplog`).
    """
    made: list[Served] = []
    before = threads_of_ours()
    in_workers = getattr(request, "param", "") == WORKERS

    def start(
        *agents: Any,
        observer: Any = None,
        store: Any = MemoryStore,
        teams: Any = (),
        workflows: Any = (),
        **options: Any,
    ) -> Served:
        settings = make_settings(**options)
        server: RunServer
        if in_workers:
            assert (observer, store) == (None, MemoryStore), "a control process makes its own"
            app = tmp_path / f"app{len(made)}.py"
            app.write_text(app_of(agents))
            server = ControlServer(f"{app}:server", settings)
        else:
            server = RunServer(
                agents=agents,
                teams=teams,
                workflows=workflows,
                settings=settings,
                observer=observer,
                store=store,
            )
        made.append(Served(server))
        return made[-1]

    yield start
    for served in made:
        served.close()
    until(lambda: not threads_of_ours() - before)
    for phase in ("setup", "call", "teardown"):
        found = [r for r in caplog.get_records(phase) if r.levelno >= logging.ERROR]
        # A framework of others may log what it raises as well.
        errors = [r for r in found if not r.name.startswith(FRAMEWORKS)]
        not_ours = (_is_of_a_caller_that_left, _is_of_a_run, _is_of_two_loops)
        ours = [r for r in errors if not any(is_so(r) for is_so in not_ours)]
        assert [r.getMessage() for r in ours] == []


def _is_of_two_loops(record: logging.LogRecord) -> bool:
    """Whether the event loops of an async client and of a server in this process, which share the
    queue of gRPC's completions, both looked into it at once: the later one finds it empty."""
    error = record.exc_info[1] if record.exc_info else None
    return isinstance(error, BlockingIOError) and "PollerCompletionQueue" in record.getMessage()


def _is_of_a_run(record: logging.LogRecord) -> bool:
    """Whether it says that a run failed, which is its author's mistake."""
    return record.name == "pullcord.run" or record.getMessage() == "run ended"


def _is_of_a_caller_that_left(record: logging.LogRecord) -> bool:
    """Whether gRPC says that a status could not be sent any more, which is nobody's mistake."""
    return record.name.startswith("grpc.") and "ExecuteBatchError" in record.getMessage()
