"""Databases and servers for the tests of the store that many share."""

from collections.abc import Iterator

import pytest

from tests.postgres import Database, Postgres, started


@pytest.fixture(scope="session")
def shared(postgres: Postgres) -> Iterator[Database]:
    """A database whose time is the real one."""
    made = Database(postgres, "shared", real_time=True)
    yield made
    made.close()


@pytest.fixture
def fragile() -> Iterator[Postgres]:
    """A server of the test's own, which it may stop and freeze."""
    yield from started()


@pytest.fixture
def alone(fragile: Postgres) -> Iterator[Database]:
    """An empty database there."""
    made = Database(fragile, "alone", real_time=True)
    yield made
    made.close()


@pytest.fixture
def empty(shared: Database) -> Database:
    """The same, with nothing in it."""
    shared.clear()
    return shared
