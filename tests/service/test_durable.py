"""A server whose store outlives it, while that is slow, hangs or fails: what callers are told."""

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from pullcord import RunContext, RunServer, runnable
from pullcord import server as serving
from pullcord.client import RunClient
from pullcord.engine import recording
from pullcord.engine.clock import Clock
from pullcord.engine.options import EngineOptions
from pullcord.probe import is_serving
from pullcord.run.cancel import CancelOutcome
from pullcord.run.errors import StoreUnavailable
from pullcord.run.state import RunState
from pullcord.settings import Settings
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.engine.durable import Door, DurableMemory
from tests.transports.harness import Signal, until


@runnable
async def waits(ctx: RunContext) -> None:
    """Says a word and waits for its stop."""
    ctx.write("said")
    await Signal().come()


@runnable
async def nothing() -> None:
    """Ends."""


class Served:
    def __init__(self) -> None:
        self.door: Any = None
        settings = Settings(_env_file=None)  # type: ignore[call-arg]  # of pydantic-settings
        self.server = RunServer([waits, nothing], settings=settings, store=self._store)

    def _store(self, clock: Clock, options: EngineOptions) -> Any:
        self.door = Door(DurableMemory(clock, options))
        return self.door.store


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setattr(serving, "_LOOK", 0.02)
    monkeypatch.setattr(serving, "_SILENT", 0.1)
    made = Served()
    yield made
    made.door.open()
    made.server.stop()


@pytest.fixture
def client(served: Served) -> Iterator[RunClient]:
    with RunClient(served.server.start()) as client:
        yield client


def begun(client: RunClient, run_id: str = "r") -> None:
    """A run whose code has said its word."""
    client.start("agents/waits", run_id=run_id)
    until(lambda: client.get(run_id).output == "said")


def test_promise_05_a_hung_store_keeps_no_call_waiting(
    served: Served, client: RunClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code stops at once; the cancel's answer says that it does, and that the stop is not
    recorded; GetRun, WatchRun and others go on; once the store answers, the run has ended."""
    monkeypatch.setattr(recording, "PATIENCE", 0.1)
    begun(client)
    served.door.shut("request_stop", "write", "finish")
    stub = RunServiceStub(grpc.insecure_channel(served.server._background._address))
    with pytest.raises(grpc.RpcError) as refused:
        stub.CancelRun(v1.CancelRunRequest(run_id="r"))
    status = rpc_status.from_call(refused.value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert (info.reason, info.metadata["stopping"]) == ("STORE_UNAVAILABLE", "true")
    until(lambda: served.server.engine.occupied == 0)
    assert client.get("r").state is RunState.CANCELLING
    with pytest.raises(StoreUnavailable) as said:
        client.cancel("r")
    assert said.value.stopping
    served.door.open()
    assert client.wait("r").state is RunState.CANCELLED
    assert client.cancel("r").outcome is CancelOutcome.STOPPED


def test_a_wait_for_the_end_waits_for_the_store(served: Served, client: RunClient) -> None:
    """WaitRun and a cancel with `wait` answer with the end once it is stored."""
    served.door.shut("finish")
    client.start("agents/nothing", run_id="r")
    served.door.wait_asked("finish")
    assert client.wait("r", 0.05).state is RunState.RUNNING
    opener = threading.Timer(0.05, served.door.open)
    opener.start()
    assert client.wait("r").state is RunState.COMPLETED
    opener.join()
    begun(client, "s")
    receipt = client.cancel("s", wait=30)
    assert (receipt.outcome, receipt.run and receipt.run.state) == (
        CancelOutcome.STOPPED,
        RunState.CANCELLED,
    )


@pytest.mark.parametrize("how", ["fail", "shut"])
def test_health_says_that_the_store_is_away(served: Served, client: RunClient, how: str) -> None:
    """NOT_SERVING while the store fails, or hangs; SERVING once it answers again."""
    address = served.server._background._address
    assert is_serving(address, 30)
    getattr(served.door, how)("write")
    until(lambda: not is_serving(address, 30))
    served.door.open()
    until(lambda: is_serving(address, 30))
    begun(client)
    client.cancel("r")
