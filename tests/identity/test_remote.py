"""Servers that call servers: with their own credentials, and for whom the run belongs to."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.adapters.remote import RemoteRunnable
from pullcord.run.errors import RunNotFound
from pullcord.run.events import RunCompleted, RunFailed
from pullcord.run.scope import Scope
from pullcord.v1 import run_service_pb2 as v1

from tests.identity.callers import Guarded, bearer, guarded, token_of


class There:
    """A server of a runnable that says whose it is."""

    def __init__(self, folder: Path) -> None:
        self.seen: list[Scope] = []

        @runnable(id="tells")
        async def tells(ctx: RunContext) -> str:
            self.seen.append(ctx.scope)
            return "told"

        self.folder = folder
        self.agents: Any = [tells]


@pytest.fixture
def there(tmp_path: Path) -> Iterator[tuple[There, Guarded]]:
    made = There(tmp_path)
    (tmp_path / "there").mkdir()
    with guarded(tmp_path / "there", *made.agents) as served:
        yield made, served


def remote(served: Guarded, token: str, **more: Any) -> RemoteRunnable:
    return RemoteRunnable(served.address, "agents/tells", id="remote", token=token, **more)


@pytest.mark.parametrize(
    ("service", "delegates", "owner"),
    [("robot", True, "ann"), ("robot", False, "robot"), ("bob", True, "bob")],
)
def test_the_remote_run_belongs_to_whom_it_is_done_for(
    tmp_path: Path, there: tuple[There, Guarded], service: str, delegates: bool, owner: str
) -> None:
    """If the service says so and may; a caller's own token never goes on."""
    made, other = there
    agent = remote(other, token_of(service), delegates=delegates)
    with guarded(tmp_path, agent) as here, here.client("ann") as client:
        *_, last = client.run("agents/remote", "hi", run_id="r")
        assert isinstance(last.payload, RunCompleted), last.payload
        assert made.seen == [Scope("acme", owner)]
        seen = other.stub().GetRun(v1.GetRunRequest(run_id="r"), metadata=bearer(owner)).run
        assert seen.owner == owner
        if owner != "ann":
            with other.client("ann") as ann, pytest.raises(RunNotFound):
                ann.get("r")


def test_a_service_that_is_not_known_there_fails_its_run(
    tmp_path: Path, there: tuple[There, Guarded]
) -> None:
    """In words that hold no token."""
    _, other = there
    agent = remote(other, "wrong", delegates=True)
    with guarded(tmp_path, agent) as here, here.client("ann") as client:
        *_, last = client.run("agents/remote", "hi")
        assert isinstance(last.payload, RunFailed)
        assert last.payload.error.type == "Unauthenticated"
        assert "wrong" not in last.payload.error.message
