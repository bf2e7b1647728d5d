"""Deadlines as gRPC sends them: rounded up, the longer the more."""

from collections.abc import Iterator

import pytest
from pullcord import RunContext, RunServer, runnable
from pullcord.client import RunClient
from pullcord.control import ControlServer
from pullcord.run.events import RunCompleted
from pullcord.settings import read_settings

from tests.steady import steady
from tests.transports.harness import WORKERS


@runnable
async def tells(ctx: RunContext) -> dict[str, float | None]:
    """Tells how long it may take."""
    return {"remaining": ctx.cancel_token.time_remaining()}


def served() -> RunServer:
    return RunServer(agents=[tells])


@pytest.fixture(scope="module", params=["in-process", WORKERS])
def client(request: pytest.FixtureRequest) -> Iterator[RunClient]:
    in_worker = request.param == WORKERS
    server = ControlServer(f"{__name__}:served", read_settings()) if in_worker else served()
    with server as address, RunClient(address) as client:
        yield client


@pytest.mark.parametrize("timeout", [5.001, 50.01, 100.2, 301.5, 1001, 3601, 10_001, 86_401])
@steady
def test_promise_09_long_deadlines_leave_time_for_the_last_event(
    client: RunClient, timeout: float
) -> None:
    """However long a deadline is, the run ends before it, and not much earlier than it must."""
    stream = client.run("agents/tells", timeout=timeout)
    for _ in stream:
        pass
    assert isinstance(stream.result, RunCompleted)
    assert stream.result.output_data is not None
    remaining = stream.result.output_data["remaining"]
    assert 0.98 * timeout - 2.5 < remaining < timeout - 0.4
