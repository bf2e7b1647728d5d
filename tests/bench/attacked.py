"""How long one caller's cancel takes while another one does what it can to be in the way.

Both have tokens. The baseline is the same cancel on the same server at rest; the attacker is a
process of its own, `python -m tests.bench.attacked JOB`, which ends when its stdin does.
"""

import asyncio
import contextlib
import itertools
import json
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import grpc
import grpc.aio
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.bench.figures import Figure, Series, percentile
from tests.bench.plan import Plan
from tests.bench.process import Child, answer, end_with_parent
from tests.identity.callers import bearer, write_tokens
from tests.identity.raw import HEADERS, PREFACE, RESET, connected, frame, head

_CANCELS = 200
_THREADS = 8
_PATIENCE = 5.0
"""Seconds after which a cancel is given up, and counts as so long."""


async def measure(plan: Plan) -> list[Figure]:
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        tokens = write_tokens(Path(folder) / "tokens")
        async with Child("servers.product", tokens=tokens) as server:
            address = str((await server.answer())["address"])
            async with grpc.aio.insecure_channel(address) as channel:
                cancels = _Cancels(RunServiceStub(channel), plan.scaled(_CANCELS))
                await cancels.p99()
                for name in ATTACKS:
                    series = Series(f"a cancel while another caller {name}, p99", "ms")
                    for _ in range(plan.rounds):
                        idle = await cancels.p99()
                        async with Child("attacked", {"address": address, "how": name}) as attacker:
                            await attacker.answer()
                            attacked = await cancels.p99()
                        series.add(attacked, idle)
                    figures.append(series.figure())
    return figures


class _Cancels:
    """Cancels of runs that have not come, each with the whole way to the store and back."""

    def __init__(self, stub: Any, count: int) -> None:
        self._stub = stub
        self._count = count
        self._ids = itertools.count()

    async def p99(self) -> float:
        """Milliseconds."""
        took = []
        for _ in range(self._count):
            request = v1.CancelRunRequest(run_id=f"b{next(self._ids)}", before_start=True)
            started = perf_counter()
            with contextlib.suppress(grpc.RpcError):  # what is shed or too late took that long
                await self._stub.CancelRun(request, metadata=bearer("bob"), timeout=_PATIENCE)
            took.append((perf_counter() - started) * 1e3)
            await asyncio.sleep(0.001)
        return percentile(took, 0.99)


# --- the attacker's side


def _lists(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub, request = RunServiceStub(channel), v1.ListRunsRequest(page_size=1000)
        while True:
            stub.ListRuns(request, metadata=bearer("ann"))


def _starts(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub, request = RunServiceStub(channel), v1.StartRunRequest()
        request.spec.runnable = "agents/none"
        while True:
            try:
                stub.StartRun(request, metadata=bearer("ann"))
            except grpc.RpcError:
                continue


def _resets(address: str) -> None:
    call = head("GetRun", "ann")
    while True:
        with connected(address, 1, PREFACE) as (one,):
            for number in range(20_000):
                stream = 2 * number + 1
                one.sendall(
                    frame(HEADERS, 4, stream, call) + frame(RESET, 0, stream, b"\0\0\0\x08")
                )


ATTACKS: dict[str, Callable[[str], None]] = {
    "lists in a loop": _lists,
    "starts what there is not": _starts,
    "opens and resets streams": _resets,
}


def main() -> None:
    end_with_parent()
    job = json.loads(sys.argv[1])
    count = 1 if job["how"] == "opens and resets streams" else _THREADS
    for _ in range(count):
        attack = ATTACKS[job["how"]]
        threading.Thread(target=attack, args=(job["address"],), daemon=True).start()
    answer({})
    threading.Event().wait()


if __name__ == "__main__":
    main()
