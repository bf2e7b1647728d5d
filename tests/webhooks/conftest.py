"""A receiver, and servers that notify it."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pullcord.server import RunServer
from pullcord.settings import Settings

from tests.postgres import Database, Postgres
from tests.transports.harness import Served, threads_of_ours, until
from tests.webhooks.receiver import SECRET, Receiver

Notify = Callable[..., Served]


@pytest.fixture(scope="session")
def shared(postgres: Postgres) -> Iterator[Database]:
    """A database whose time is the real one."""
    made = Database(postgres, "webhooks", real_time=True)
    yield made
    made.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def notify(receiver: Receiver) -> Iterator[Notify]:
    """Serves runnables and notifies the receiver; settings as keywords. Nothing is left of it."""
    made: list[Served] = []
    before: Counter[str] = Counter()

    def start(*agents: Any, store: Any = None, authenticator: Any = None, **given: Any) -> Served:
        values = {
            "listen": "127.0.0.1:0",
            "webhook_url": receiver.url,
            "webhook_secret": SECRET,
            "webhook_private": True,
            **given,
        }
        if not made:  # a database of the test's own has a thread as well
            before.update(threads_of_ours())
        settings = Settings(_env_file=None, **values)  # type: ignore[call-arg]  # pydantic's own
        server = RunServer(
            agents=agents, settings=settings, store=store, authenticator=authenticator
        )
        made.append(Served(server))
        return made[-1]

    yield start
    for served in made:
        served.close()
    until(lambda: not threads_of_ours() - before)
