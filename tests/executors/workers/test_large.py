"""Runs that are given much: their frames are what protobuf would make, and wait for who reads."""

import asyncio
import os
import socket
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pullcord.executors.workers.connection import FULL, Connection
from pullcord.executors.workers.kinds import SHARED, Kind
from pullcord.executors.workers.placing import Placing
from pullcord.link import frames_pb2 as pb
from pullcord.link.framing import Deframer
from pullcord.link.large import start_frame
from pullcord.link.values import Offer, fill_spec, spec_of
from pullcord.run.events import SourceKind
from pullcord.run.message import Message, Part, Role
from pullcord.run.record import RunSpec

_TEXTS = st.text(max_size=300)
_PARTS = st.lists(
    st.builds(Part, text=_TEXTS, name=_TEXTS)
    | st.builds(Part, uri=_TEXTS, media_type=_TEXTS)
    | st.builds(Part, data=st.binary(max_size=300), media_type=_TEXTS, name=_TEXTS)
    | st.builds(Part, media_type=_TEXTS),
    max_size=3,
).map(tuple)
_MESSAGES = st.lists(
    st.builds(Message, st.sampled_from(Role), _PARTS, _TEXTS),
    max_size=3,
).map(tuple)


@given(st.builds(RunSpec, st.just("agents/a"), _TEXTS, parts=_PARTS, messages=_MESSAGES))
def test_a_start_arrives_as_it_was_sent(spec: RunSpec) -> None:
    """A frame that is put together of pieces says the same as one that protobuf makes."""
    start = pb.Start(run=7, trace={"a": "b"})
    fill_spec(start.spec, replace(spec, input=""), with_input=False)
    (frame,) = pb.Down.FromString(b"".join(start_frame(start, spec))).frames
    whole = pb.Start(run=7, trace={"a": "b"})
    fill_spec(whole.spec, spec)
    assert frame.start == whole
    assert spec_of(frame.start.spec, None) == spec


class Pool:
    """As much of a pool as a connection and the placing need: one worker, and no other."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []
        self.killed: list[str] = []
        self.placing = Placing(self, self)  # type: ignore[arg-type]  # a part of both

    def answers(self, connection: Connection) -> None: ...
    def fill(self) -> None: ...

    def free(self, kind: Kind) -> list[Connection]:
        return self.connections

    def is_slow(self, connection: Connection) -> bool:
        return False

    def loop_soon(self, call: Any) -> None:
        asyncio.get_running_loop().call_soon(call)

    def has_room(self) -> None:
        self.placing.assign()

    def kill(self, connection: Connection, reason: str) -> None:
        self.killed.append(reason)


def run_given(part: Part) -> Any:
    """As much of an execution as a connection needs."""
    spec = RunSpec("agents/a", parts=(part,))
    offer = Offer(SourceKind.AGENT, "a", "", "", (), is_async=True)
    port = SimpleNamespace(spec=spec, scope=("", ""), resumed=None)
    run = SimpleNamespace(offer=offer, port=port, released=False, kind=SHARED)
    run.parent, run.trace = None, {}
    return _Hashed(run)


class _Hashed:
    def __init__(self, run: SimpleNamespace) -> None:
        self.__dict__.update(run.__dict__)


@pytest.mark.parametrize("runs", [50])
async def test_runs_that_are_given_much_wait_for_a_worker_that_does_not_read(runs: int) -> None:
    """A burst of starts kills no worker: few are ahead of it, the others wait until it reads."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    pipes = [os.pipe() for _ in range(3)]
    stdout, stderr, exit_fd = (read for read, _ in pipes)
    process: Any = SimpleNamespace(
        sock=ours, stdout=stdout, stderr=stderr, exit_fd=exit_fd, pid=os.getpid(), is_cut=False
    )
    pool = Pool()
    connection = Connection(pool, process, kind=SHARED, on_output=lambda *_: None)  # type: ignore[arg-type]  # a part of one
    connection.ready = True
    pool.connections.append(connection)
    part = Part(data=bytes(8 * 1024 * 1024), media_type="image/png")
    for _ in range(runs):
        pool.placing.place(run_given(part))
    assert connection._unsent_bytes < FULL + 9 * 1024 * 1024

    def read() -> int:
        deframer, seen = Deframer(), 0
        while seen < runs:
            for message in deframer.feed(theirs.recv(1024 * 1024)):
                (frame,) = pb.Down.FromString(message).frames
                assert frame.start.spec.parts[0].data == part.data
                seen += 1
        return seen

    assert await asyncio.to_thread(read) == runs
    assert pool.killed == []
    assert not any(pool.placing.waiting.values())
    for fd in (ours.fileno(), stdout, stderr, exit_fd):
        asyncio.get_running_loop().remove_reader(fd)
    for end in (ours, theirs):
        end.close()
    for pair in pipes:
        for fd in pair:
            os.close(fd)
