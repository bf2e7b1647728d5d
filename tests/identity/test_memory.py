"""What clients that keep no rule make the server's process hold: it is bounded, by its memory.

What is refused meanwhile is in `test_limits`, and what others notice in `test_attacks`.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import grpc
import pytest
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub

from tests.identity.apart import Apart, apart
from tests.identity.callers import bearer
from tests.identity.raw import (
    DATA,
    END_HEADERS,
    HEADERS,
    NO_WINDOW,
    PREFACE,
    RESET,
    answer_pings,
    call,
    connected,
    frame,
    head,
)
from tests.transports.harness import make_spec, until

MOST = 160
"""MiB that an attack may take beside what the server has at rest. Resets take most; no other takes
half of it."""
CONTINUATION = 9


@pytest.fixture(scope="module")
def served() -> Iterator[Apart]:
    with apart() as served:
        with grpc.insecure_channel(served.address) as channel:
            stub = RunServiceStub(channel)
            spec = make_spec("big", run_id="r")
            stub.StartRun(v1.StartRunRequest(spec=spec), metadata=bearer("ann"))
            stub.WaitRun(v1.WaitRunRequest(run_id="r"), metadata=bearer("ann"))
            list(stub.WatchRun(v1.WatchRunRequest(run_id="r"), metadata=bearer("ann")))
        yield served


def _send(one: socket.socket, *said: bytes) -> None:
    with contextlib.suppress(OSError):  # it was thrown out, which is as good
        for part in said:
            one.sendall(part)


def _entry(name: bytes, size: int) -> bytes:
    """Metadata with a value of so many bytes, a few thousand, as HPACK has it."""
    rest = size - 127
    length = bytes([127, rest % 128 | 128, rest // 128])
    return b"\0" + bytes([len(name)]) + name + length + b"x" * size


def unread_streams(address: str) -> Iterator[None]:
    """400 streams of a megabyte on four connections that take nothing."""
    request = v1.WatchRunRequest(run_id="r").SerializeToString()
    calls = b"".join(call(2 * n + 1, "WatchRun", "ann", request) for n in range(100))
    with connected(address, 4, NO_WINDOW + calls) as made:
        for one in made:
            answer_pings(one)
        yield


def many_connections(address: str) -> Iterator[None]:
    """300 connections, each with a call that has begun and does not go on."""
    begun = frame(HEADERS, END_HEADERS, 1, head("Run", "ann"))
    with connected(address, 300, PREFACE + begun):
        yield


def big_headers(address: str) -> Iterator[None]:
    """A thousand calls with 15 KiB of metadata each, which is within the bound."""
    pair = _entry(b"x-much", 15_000)
    calls = [frame(HEADERS, END_HEADERS, 2 * n + 1, head("Run", "ann") + pair) for n in range(1000)]
    with connected(address, 1, PREFACE) as (one,):
        _send(one, *calls)
        yield


def endless_headers(address: str) -> Iterator[None]:
    """64 MiB of one call's headers, which never end."""
    part = frame(CONTINUATION, 0, 1, _entry(b"x", 16_000))
    with connected(address, 1, PREFACE) as (one,):
        _send(one, frame(HEADERS, 0, 1, head("Run")), *[part] * 4096)
        yield


def half_sent(address: str) -> Iterator[None]:
    """500 requests that announce 64 KiB and send 60 of them."""
    body = b"\0\0\1\0\0" + b"x" * 15_000
    calls = [
        frame(HEADERS, END_HEADERS, n, head("Run", "ann")) + frame(DATA, 0, n, body) * 4
        for n in range(1, 1000, 2)
    ]
    with connected(address, 1, PREFACE) as (one,):
        answer_pings(one)
        one.settimeout(2)
        _send(one, *calls)
        yield


def resets(address: str) -> Iterator[None]:
    """Four connections open and reset 20,000 streams each, as fast as they can."""
    whole = [
        frame(HEADERS, END_HEADERS, n, head("GetRun", "ann")) + frame(RESET, 0, n, b"\0\0\0\x08")
        for n in range(1, 40_000, 2)
    ]
    said = [b"".join(whole[n : n + 100]) for n in range(0, len(whole), 100)]
    with connected(address, 4, PREFACE) as made:
        threads = [threading.Thread(target=_send, args=(one, *said)) for one in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        yield


def _is_answered(stub: RunServiceStub) -> bool:
    """Whether another caller's cancel is: while too many calls wait, gRPC sheds some."""
    try:
        request = v1.CancelRunRequest(run_id="any", before_start=True)
        stub.CancelRun(request, metadata=bearer("bob"))
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.CANCELLED:
            raise
        return False
    return True


@pytest.mark.parametrize(
    "attack",
    [unread_streams, many_connections, big_headers, endless_headers, half_sent, resets],
)
def test_an_attack_takes_a_bounded_amount_of_memory(
    served: Apart, attack: Callable[[str], Iterator[None]]
) -> None:
    """Another caller is answered while it lasts, and by then all of it has been taken in."""
    served.rest()
    before = served.most()
    with contextlib.contextmanager(attack)(served.address):
        with grpc.insecure_channel(served.address) as channel:
            stub = RunServiceStub(channel)
            for _ in range(20):
                until(lambda: _is_answered(stub))
        assert served.most() - before < MOST
