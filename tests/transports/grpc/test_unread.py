"""Clients that open calls and do not read: what the server keeps for them."""

import asyncio
import gc
import logging
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from pullcord import RunContext, runnable
from pullcord.run.errors import ServerBusy
from pullcord.run.record import Run
from pullcord.stores.sqlite import SqliteStore
from pullcord.testing import HookedStore
from pullcord.transports.grpc import outgoing as bounds
from pullcord.transports.grpc import service
from pullcord.transports.grpc.outgoing import MAX_BYTES, Outgoing
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.transports.harness import Serve, Stream, make_spec, refusal, until, v1

MIB = 1024 * 1024


@runnable
async def says_much(ctx: RunContext):
    for _ in range(1000):
        ctx.write("x" * 1000)
        await asyncio.sleep(0)


def test_promise_11_a_stream_that_is_never_read_lets_go_of_its_run(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the bound of ended runs an unread stream ends SERVER_BUSY; others are served."""
    caplog.set_level(logging.WARNING)
    served = serve(says_much, max_finished_bytes=MIB)
    # Without its probe a client takes 64 KiB ahead, and not megabytes.
    stub = RunServiceStub(served.connect(("grpc.http2.bdp_probe", 0)))
    specs = [make_spec("says-much", run_id=f"r{n}") for n in range(3)]
    unread = [Stream(stub.Run(v1.RunRequest(spec=spec))) for spec in specs]
    for stream in unread:
        stream.next()
    until(lambda: caplog.text.count("were let go") >= 2)
    refused = refusal(unread[0].rest)
    assert (refused.code, refused.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER_BUSY")
    assert "watch it again" in refused.words
    assert refused.retry.HasField("retry_delay")
    assert served.run("says-much").end().run_completed.output == "x" * 1_000_000


def test_large_answers_take_turns_in_their_connection(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many large answers and streams at once arrive whole, though few have room at a time."""
    monkeypatch.setattr(bounds, "MAX_BYTES", 3 * MIB)
    served = serve(says_much)
    served.run("says-much", run_id="r").end()
    calls = [served.stub.GetRun.future(v1.GetRunRequest(run_id="r")) for _ in range(50)]
    streams = [
        Stream(served.stub.Run(v1.RunRequest(spec=make_spec("says-much", run_id=f"s{n}"))))
        for n in range(10)
    ]
    for call in calls:
        assert call.result(60).run.output == "x" * 1_000_000
    for stream in streams:
        assert stream.end().run_completed.output == "x" * 1_000_000
    assert served.get("r").output


@pytest.mark.parametrize("rpc", ["GetRun", "WaitRun", "CancelRun"])
def test_promise_11_calls_that_wait_for_room_hold_no_runs(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, rpc: str
) -> None:
    """A client that opens its window at 0 and asks forty times for a run that is in a file: what
    the server holds of the answers is bounded, whether they wait or were refused."""
    monkeypatch.setattr(bounds, "MAX_BYTES", 3 * MIB)
    monkeypatch.setattr(service, "PATIENCE", 1e6)
    asked: list[str] = []

    def store(clock: Any, options: Any) -> HookedStore:
        made = HookedStore(SqliteStore(clock, options, tmp_path / "runs.db"))
        made.after = asked.append
        return made

    served = serve(says_much, store=store, keepalive_timeout=600)
    served.run("says-much", run_id="r").end()
    gc.collect()
    before = len(runs_held())
    looks = "request_stop" if rpc == "CancelRun" else "find"
    asked.clear()
    with window_closed(served.address, rpc, 40):
        until(lambda: asked.count(looks) >= 40)
        until(lambda: len(runs_held()) <= before + 7)
        assert served.get("r").output


def runs_held() -> list[Run]:
    """Whatever holds them: garbage that was not collected yet as well."""
    return [o for o in gc.get_objects() if type(o) is Run and len(o.output) > MIB / 2]


@contextmanager
def window_closed(address: str, rpc: str, count: int) -> Iterator[None]:
    """A client that takes no byte of any answer asks so often for run `r`."""

    def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
        return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body

    head = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", f"/pullcord.v1.RunService/{rpc}".encode()),
            (b":authority", b"x"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )
    message = v1.GetRunRequest(run_id="r").SerializeToString()
    body = struct.pack(">BI", 0, len(message)) + message
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as caller:
        window = struct.pack(">HI", 4, 0)
        caller.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, window))
        for n in range(count):
            stream = 2 * n + 1
            caller.sendall(frame(1, 4, stream, head) + frame(0, 1, stream, body))
        yield


async def test_what_has_no_room_waits_and_is_refused_in_the_end() -> None:
    """Room is taken in order; what waits too long, or behind too many, is refused in words."""
    outgoing = Outgoing()
    await outgoing.room("a", MAX_BYTES - 10)
    await outgoing.room("b", 2 * MAX_BYTES)  # another connection; the first always has room
    with pytest.raises(ServerBusy, match="not read"):
        await outgoing.room("a", 20, patience=0)
    waiting = [asyncio.create_task(outgoing.room("a", 20)) for _ in range(bounds.MAX_WAITING)]
    await asyncio.sleep(0)
    with pytest.raises(ServerBusy, match="not read"):
        await outgoing.room("a", 5, patience=60)  # it would fit, and must not overtake
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    outgoing.free("a", MAX_BYTES - 10)
    await asyncio.gather(*waiting[1:])
    for _ in waiting[1:]:
        outgoing.free("a", 20)
    outgoing.free("b", 2 * MAX_BYTES)
    assert not outgoing._connections


async def test_a_caller_that_leaves_lets_others_through() -> None:
    """A large answer that is given up holds up no smaller one behind it."""
    outgoing = Outgoing()
    await outgoing.room("a", MAX_BYTES - 10)
    large = asyncio.create_task(outgoing.room("a", 1000))
    small = asyncio.create_task(outgoing.room("a", 5))
    await asyncio.sleep(0)
    large.cancel()
    await small
