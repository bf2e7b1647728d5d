"""What all tests rely on, wherever they are started from and however slow the machine is."""

import functools
import signal
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from pullcord import local
from pullcord.engine.options import EngineOptions

from tests.postgres import Database, Postgres, started
from tests.steady import PATIENCE

# The same examples each time, and none is too slow: whoever looks for new ones says
# --hypothesis-profile=default.
settings.register_profile(
    "steady", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Ctrl-C reaches the processes that tests start, also where a shell has put us in the
    background and had us ignore it: a process inherits that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def patient_in_process() -> Iterator[None]:
    """The engine of in-process programs takes nobody for deaf because the machine stood still."""
    waits = {"grace_period": PATIENCE, "abandon_after": PATIENCE, "stall_after": PATIENCE}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "EngineOptions", functools.partial(EngineOptions, **waits))
        yield


@pytest.fixture
def hurry() -> Iterator[None]:
    """Threads that take turns every few microseconds, so that races happen."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL that all tests of this process share; none stops it or stands in its way."""
    yield from started()


@pytest.fixture(scope="session")
def database(postgres: Postgres) -> Iterator[Database]:
    """One of its databases, with the store's tables."""
    made = Database(postgres, "stores")
    yield made
    made.close()
