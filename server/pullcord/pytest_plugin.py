"""Fixtures for the tests of people who write agents: a server, a client, and what must not remain.

pytest loads this in every project where Pullcord is installed, so it imports nothing before a
fixture is asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pullcord.client import RunClient
    from pullcord.testing import ManualClock


@pytest.fixture
def pullcord_serve() -> "Iterator[Callable[..., RunClient]]":
    """Serves runnables: `client = pullcord_serve(agent, function)`, as RunServer takes them.

    Each call has a server of its own, on a free port, that keeps runs in memory. When the test has
    ended its runs are stopped, and nothing of them may be left at work.
    """
    from pullcord.client import RunClient
    from pullcord.server import RunServer
    from pullcord.settings import read_settings
    from pullcord.testing import nothing_left

    with nothing_left(), ExitStack() as stack:

        def serve(*agents: Any, **options: Any) -> RunClient:
            settings = read_settings(listen="127.0.0.1:0", drain_time=0.0, store="memory")
            server = RunServer(agents, **{"settings": settings, **options})
            address = stack.enter_context(server)
            return stack.enter_context(RunClient(address))

        yield serve


@pytest.fixture
def pullcord_clock() -> "ManualClock":
    """A clock that the test moves: `pullcord_serve(agent, clock=pullcord_clock)`."""
    from pullcord.testing import ManualClock

    return ManualClock()
