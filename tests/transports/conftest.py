"""Servers for one test each, and the check that nothing of them is left behind."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pullcord.server import RunServer
from pullcord.stores.memory import MemoryStore

from tests.transports.harness import Served, make_settings, threads_of_ours, until


@pytest.fixture
def serve(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Served]]:
    """Serves runnables, engine options as keywords.

    Afterwards no thread of ours may be left, and neither we nor gRPC may have logged an error
    (a test that wants one clears `caplog`).
    """
    made: list[Served] = []
    before = threads_of_ours()

    def start(
        *agents: Any, observer: Any = None, store: Any = MemoryStore, **options: Any
    ) -> Served:
        settings = make_settings(**options)
        server = RunServer(agents=agents, settings=settings, observer=observer, store=store)
        made.append(Served(server))
        return made[-1]

    yield start
    for served in made:
        served.close()
    until(lambda: not threads_of_ours() - before)
    for phase in ("setup", "call", "teardown"):
        errors = [r for r in caplog.get_records(phase) if r.levelno >= logging.ERROR]
        assert [r.getMessage() for r in errors if not _is_of_a_caller_that_left(r)] == []


def _is_of_a_caller_that_left(record: logging.LogRecord) -> bool:
    """Whether gRPC says that a status could not be sent any more, which is nobody's mistake."""
    return record.name.startswith("grpc.") and "ExecuteBatchError" in record.getMessage()
