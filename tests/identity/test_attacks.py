"""Attacks: any request at all, connections that do nothing, and a caller that wants everything."""

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.executors.turns import Turns
from pullcord.service.quotas import QuotaOptions
from pullcord.transports.grpc.server import GrpcOptions
from pullcord.v1 import run_service_pb2 as v1

from tests.identity.callers import bearer, guarded
from tests.identity.fuzz import fuzz
from tests.identity.raw import HEADERS, PREFACE, RESET, connected, frame, head
from tests.steady import PATIENCE
from tests.transports.harness import make_spec, refusal, until


@pytest.mark.parametrize("seed", [1, 2])
def test_no_request_is_a_mistake_of_the_servers_or_tells_of_others(seed: int) -> None:
    """More: make fuzz."""
    seen = fuzz(400, seed)
    assert {"OK", "UNAUTHENTICATED", "INVALID_ARGUMENT"} <= seen.keys()


class Holds:
    """A sync runnable that keeps its thread until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Semaphore(0)
        self.began: list[str] = []

        @runnable(id="holds")
        def holds(input: str, ctx: RunContext) -> None:
            self.began.append(ctx.scope.owner)
            while not self.let_go.acquire(timeout=0.05):
                ctx.cancel_token.raise_if_cancelled()

        self.runnable: Any = holds


def test_a_tenant_that_takes_every_thread_delays_anothers_run_by_one_end(tmp_path: Path) -> None:
    """Ann has every thread and twenty runs waiting; bob's begins as soon as one of hers ends."""
    holds = Holds()
    with guarded(tmp_path, holds.runnable, workers=2) as served:
        stub = served.stub()

        def start(who: str, run_id: str) -> None:
            request = v1.StartRunRequest(spec=make_spec("holds", run_id=run_id))
            stub.StartRun(request, metadata=bearer(who))

        for n in range(22):
            start("ann", f"a{n}")
        until(lambda: len(holds.began) == 2)
        start("bob", "b")
        for n in range(2):
            holds.let_go.release()
            until(lambda n=n: len(holds.began) == 3 + n)
        assert "bob" in holds.began[2:4]
        stopped = stub.CancelRuns(
            v1.CancelRunsRequest(runnable="agents/holds", mode=2), metadata=bearer("ann")
        ).results
        assert len(stopped) >= 19, "a caller at its limits can still stop its runs"
        holds.let_go.release(30)


def test_owners_take_turns() -> None:
    """In any mixture each owner's items keep their order, and one owner alone has a plain queue."""
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        turns.append(item[0], item)
    turns.remove("a", "a2")
    with pytest.raises(ValueError, match="wait"):
        turns.remove("d", "d1")
    assert len(turns) == 5
    assert [turns.popleft() for _ in range(5)] == ["a1", "b1", "c1", "a3", "b2"]
    with pytest.raises(IndexError):
        turns.popleft()


@runnable
async def echo(input: str) -> str:
    return input


def test_connections_that_say_nothing_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that never speak HTTP/2 in the handshake's time, and those without a call for long."""
    monkeypatch.setattr(
        "pullcord.server.GrpcOptions", lambda **o: GrpcOptions(**{**o, "handshake": 0.3})
    )
    with guarded(tmp_path, echo, max_idle=1.0) as served:
        for said in (b"", PREFACE):
            with connected(served.address, 20, said) as made:
                for one in made:
                    while one.recv(4096):
                        pass
        assert served.client("ann").runnables()


def test_a_stream_that_is_reset_at_once_takes_nothing_from_others(tmp_path: Path) -> None:
    """10,000 calls that are opened and reset in one go; afterwards nothing of them is left."""
    with guarded(tmp_path, echo) as served:
        stub = served.stub()
        cancel = v1.CancelRunRequest(run_id="x", before_start=True)
        with connected(served.address, 1, PREFACE) as (attacker,):
            done = threading.Event()

            def attack() -> None:
                with contextlib.suppress(OSError):  # it was thrown out, which is as good
                    for number in range(10_000):
                        stream = 2 * number + 1
                        attacker.sendall(
                            frame(HEADERS, 4, stream, head("Run"))
                            + frame(RESET, 0, stream, b"\0\0\0\x08")
                        )
                done.set()

            thread = threading.Thread(target=attack)
            thread.start()
            while not done.is_set():
                stub.CancelRun(cancel, metadata=bearer("bob"), timeout=PATIENCE)
            thread.join()
        background = served.server._background
        assert background is not None
        assert background._loop is not None
        loop = background._loop
        until(lambda: len(asyncio.all_tasks(loop)) < 30)
        assert served.server.engine.remains().live == 0


def test_early_cancels_of_one_tenant_leave_those_of_others_alone(tmp_path: Path) -> None:
    quotas = QuotaOptions(early_cancels_per_tenant=50)
    with guarded(tmp_path, echo, quotas=quotas) as served:
        stub = served.stub()

        def early(who: str, run_id: str) -> Any:
            request = v1.CancelRunRequest(run_id=run_id, before_start=True)
            return stub.CancelRun(request, metadata=bearer(who))

        for n in range(50):
            early("ann", f"r{n}")
        refused = refusal(lambda: early("bob", "r"))
        assert refused.info.metadata["quota"] == "early_cancels_per_tenant"
        assert early("eve", "r").outcome == 3
