"""One link for all runs of a worker: a run that floods it delays others by a bounded amount."""

import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pullcord.link import frames_pb2 as pb
from pullcord.link.framing import Deframer
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.events import ContentDelta, Custom, RunCancelled, RunCompleted, RunFailed
from pullcord.run.record import RunSpec
from pullcord.run.scope import LOCAL
from pullcord.run.state import RunState
from pullcord.worker.outbox import _MOST, Outbox
from pullcord.worker.port import LinkPort

from tests.executors.workers.conftest import ServeApp

APP = """
import asyncio, threading, time
from pullcord import RunContext, RunServer, runnable

go = threading.Event()

@runnable
def floods(ctx: RunContext):
    while True:
        ctx.emit("flood", {"text": "x" * 2000})

@runnable
async def floods_too(ctx: RunContext):
    while True:
        ctx.emit("flood", {"text": "x" * 2000})
        await asyncio.sleep(0)

@runnable
async def ticks(ctx: RunContext):
    for n in range(40):
        ctx.emit("tick", {"n": n})
        await asyncio.sleep(0.002)

@runnable
async def waits():
    yield "begun"
    await asyncio.sleep(3600)

@runnable
def says_much(input: str, ctx: RunContext):
    if input == "in events":
        for _ in range(400):
            ctx.emit("page", {"text": "x" * 200_000})
    elif input == "in one text":
        yield "x" * 70_000_000
    else:
        ctx.start(ticks, "x" * 70_000_000)

server = RunServer(agents=[floods, floods_too, ticks, waits, says_much])
"""


@pytest.mark.parametrize("name", ["agents/floods", "agents/floods-too"])
def test_a_run_that_floods_starves_no_other(serve: ServeApp, name: str) -> None:
    """In one worker, events of a run beside it arrive while it goes on, and so does its stop."""
    served = serve(APP, abandon_after=60.0)  # a busy machine delivers a stop late
    client = served.client
    flood = client.run(name)
    next(event for event in flood if isinstance(event.payload, Custom))
    before = client.get(flood.run_id).last_sequence
    ticks = [
        e.payload.data["n"] for e in client.run("agents/ticks") if isinstance(e.payload, Custom)
    ]
    assert ticks == list(range(40))
    assert client.get(flood.run_id).last_sequence > before
    receipt = client.cancel(flood.run_id, mode=CancelMode.IMMEDIATE, wait=60)
    assert receipt.run is not None
    assert receipt.run.state.is_terminal
    assert not receipt.run.abandoned
    served.freed()


def test_a_run_that_says_more_than_a_message_holds_harms_no_other(serve: ServeApp) -> None:
    """Large events go in several messages, and so does a text; what would be too large to ask for
    is refused to the code that asks."""
    served = serve(APP)
    beside = served.client.run("agents/waits")
    next(event for event in beside if isinstance(event.payload, ContentDelta))
    *_, end = served.client.run("agents/says-much", "in events")
    assert isinstance(end.payload, RunCompleted)
    *_, end = served.client.run("agents/says-much", "in one text")
    assert isinstance(end.payload, RunCancelled)
    assert end.payload.cancellation.cause is CancelCause.BUDGET
    *_, end = served.client.run("agents/says-much", "in a question")
    assert isinstance(end.payload, RunFailed)
    assert end.payload.error.type == "InvalidArgument"
    assert served.client.get(beside.run_id).state is RunState.RUNNING
    served.client.cancel(beside.run_id)


class Read:
    """The other end of a link: every text that arrives, in order."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair()
        self.texts: list[tuple[int, str]] = []

    def until(self, run: int) -> int:
        """Reads until something of this run has come; how many texts of others came before it."""
        deframer = Deframer()
        others = 0
        while data := self._theirs.recv(64 * 1024):
            for message in deframer.feed(data):
                for frame in pb.Up.FromString(message).frames:
                    if run in frame.texts.runs or frame.said.run == run:
                        return others
                    others += len(frame.texts.runs) + len(frame.said.lengths)
        raise AssertionError("the link was closed")

    def close(self) -> None:
        self._theirs.close()
        self.ours.close()


@pytest.fixture
def read() -> Iterator[Read]:
    read = Read()
    yield read
    read.close()


def port(number: int) -> Any:
    """As much of a run as an outbox needs."""
    own = SimpleNamespace(number=number)
    own.tree = own
    return _Hashed(own)


class _Hashed:
    def __init__(self, own: SimpleNamespace) -> None:
        self.number = own.number
        self.tree = self


def test_few_items_of_others_are_ahead_of_one(read: Read) -> None:
    """While a run writes as fast as it can, at most so many of its items are not sent yet."""
    outbox = Outbox(read.ours)
    flooding, other = port(1), port(2)
    full = threading.Event()
    over = threading.Event()

    def flood() -> None:
        count = 0
        while not over.is_set():
            outbox.write(flooding, "x" * 1000)
            count += 1
            if count == 2 * _MOST:
                full.set()

    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    # Nobody reads yet, so that the thread waits once as much as may be is ahead.
    threading.Thread(target=outbox.write, args=(other, "y"), daemon=True).start()
    ahead = read.until(2)
    over.set()
    assert ahead <= 2 * _MOST


class Busy:
    """A socket beside which others are always quicker: something new is there after each write."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.again: Any = None
        self.writes = 0

    def sendall(self, data: bytes) -> None:
        self.writes += 1
        assert self.writes < 100, "a thread that flushes is kept by others"
        if self.again is not None:
            self.again()


def test_a_thread_that_flushes_is_not_kept_by_others(read: Read) -> None:
    """It sends what was there when it began; what came meanwhile is sent by others."""
    busy = Busy(read.ours)
    outbox = Outbox(busy)  # type: ignore[arg-type]  # as much of a socket as it needs
    own = port(1)
    outbox.pending = True  # as if the flusher were about to send, so that this thread sends alone
    busy.again = lambda: outbox._items.append((own, "more", None, False))
    for _ in range(10):
        outbox.write(own, "mine")
    outbox.flush()
    assert 1 <= busy.writes < 20


def test_the_end_of_a_run_is_sent_at_once(read: Read) -> None:
    """It waits for no other items, however many its worker has just sent."""
    busy = Busy(read.ours)
    outbox = Outbox(busy)  # type: ignore[arg-type]  # as much of a socket as it needs
    link: Any = SimpleNamespace(outbox=outbox)
    run = LinkPort(cast(Any, None), link, 1, LOCAL, RunSpec("agents/a", "", run_id="r"), None)
    outbox.pending = True  # as if the flusher were about to send: nobody else hastens then
    run.write("the last word")
    assert busy.writes == 0
    run.ended(None)
    assert busy.writes == 1
