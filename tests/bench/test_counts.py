"""What costs time, counted instead of timed: messages, serializations and wake-ups."""

import asyncio
import sys
import threading
from collections.abc import Callable

import pytest
from pullcord.engine.log.log import EventLog
from pullcord.engine.log.watch import BATCH, Watcher
from pullcord.run.events import Custom, RunCompleted, RunStarted
from pullcord.service.following import Following
from pullcord.service.notifier import Notifier
from pullcord.service.readers import Readers
from pullcord.transports.encoding import Encoder
from pullcord.transports.grpc import streams
from pullcord.transports.grpc.outgoing import Outgoing
from pullcord.transports.grpc.streams import send
from pullcord.v1 import event_pb2
from pullcord.v1 import run_service_pb2 as v1


class Line:
    """A caller's end of a stream, which can be held up."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.flows = asyncio.Event()
        self.flows.set()

    async def write(self, message: bytes) -> None:
        self.messages.append(message)
        await self.flows.wait()

    def events(self) -> list[event_pb2.RunEvent]:
        return [v1.RunResponse.FromString(message).event for message in self.messages]


class Counted:
    """A function, and how often it was called."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, *args: object) -> object:
        self.calls += 1
        return self.function(*args)


@pytest.fixture
def log() -> EventLog:
    log = EventLog(2**24, 10_000, 2**24, lambda: None)
    log.append(RunStarted("agents/a"))
    return log


@pytest.fixture
def serialized(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counted = Counted(streams.response_bytes)
    monkeypatch.setattr(streams, "response_bytes", counted)
    return counted


def watcher(log: EventLog) -> Watcher:
    return Watcher(
        "run", log, 0, snapshot=lambda: pytest.fail("nobody lags"), on_close=lambda **_: None
    )


def following(log: EventLog) -> Following:
    loop = asyncio.get_running_loop()
    return Following(watcher(log), Notifier(loop, heartbeat=60), Readers(loop, 2**24))


async def sending_to(line: Line, log: EventLog) -> None:
    """A stream of this log, from its first event to its last."""
    await send(following(log), line, Outgoing(), Encoder())  # type: ignore[arg-type]  # no context


async def settle() -> None:
    """Lets everybody go on until all wait: far more turns than any hand-over here takes."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_watchers_that_keep_up_share_one_serialization(
    log: EventLog, serialized: Counted
) -> None:
    """An event is serialized once, however many watch."""
    lines = [Line() for _ in range(100)]
    sending = [asyncio.create_task(sending_to(line, log)) for line in lines]
    await settle()
    for _ in range(10):
        log.write("tok ")
        await settle()
    log.finish(lambda _: RunCompleted())
    await asyncio.gather(*sending)
    assert [len(line.messages) for line in lines] == [12] * 100
    assert serialized.calls == 12


async def test_a_watcher_that_keeps_up_gets_every_delta_by_itself(log: EventLog) -> None:
    """Merging costs no watcher its pace: while it keeps up, one delta is one message."""
    line = Line()
    sending = asyncio.create_task(sending_to(line, log))
    await settle()
    for _ in range(10):
        log.write("tok ")
        await settle()
    log.finish(lambda _: RunCompleted())
    await sending
    assert [event.content_delta.count for event in line.events()[1:-1]] == [0] * 10
    assert [event.sequence for event in line.events()] == list(range(1, 13))


async def test_deltas_that_come_while_a_write_is_under_way_become_one_message(
    log: EventLog, serialized: Counted
) -> None:
    """A caller that reads slowly gets fewer and bigger messages, and loses nothing."""
    line = Line()
    line.flows.clear()
    sending = asyncio.create_task(sending_to(line, log))
    await settle()
    for _ in range(10_000):
        log.write("tok ")
    log.finish(lambda _: RunCompleted())
    line.flows.set()
    await sending
    started, delta, completed = line.events()
    assert (started.sequence, delta.sequence, completed.sequence) == (1, 10_001, 10_002)
    assert delta.content_delta.count == 10_000
    assert delta.content_delta.text == "tok " * 10_000
    assert serialized.calls == 3


async def test_custom_events_never_merge(log: EventLog, serialized: Counted) -> None:
    """An author's own event is one message each, however far the caller lags."""
    line = Line()
    for number in range(1000):
        log.append(Custom("progress", {"n": number}))
    log.finish(lambda _: RunCompleted())
    await sending_to(line, log)
    assert [event.custom.data["n"] for event in line.events()[1:-1]] == list(range(1000))
    assert serialized.calls == 1002


def test_a_delta_takes_few_calls_on_its_way_to_the_wire(log: EventLog) -> None:
    """From the text to its bytes, a delta that merges with none costs at most eleven calls."""
    reader = watcher(log)
    reader.take()

    def send_all() -> int:
        sent = 0
        for _ in range(10):
            for _ in range(BATCH // 2):
                log.write("tok ")
                log.write_as("hm ", None, True)
            for record in reader.take():
                assert streams._serialized("run", record)
                sent += 1
        return sent

    sent, calls = calls_of(send_all)
    assert sent == 10 * BATCH
    assert calls / sent <= 11


def calls_of(work: Callable[[], int]) -> tuple[int, int]:
    """What it returns, and how many functions of Python's it called."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        made = work()
    finally:
        sys.setprofile(before)
    return made, calls


def test_a_waiting_watcher_is_woken_once(log: EventLog) -> None:
    """Until the watcher has looked, whatever else comes wakes nobody."""
    reader = watcher(log)
    reader.take()
    wakes: list[None] = []
    assert reader.arm(lambda: wakes.append(None))
    for _ in range(1000):
        log.write("tok ")
    assert len(wakes) == 1
    (record,) = reader.take()
    assert record.count == 1000


def test_a_watcher_that_has_something_to_take_is_not_armed(log: EventLog) -> None:
    """No wake-up is spent on what is there already."""
    reader = watcher(log)
    assert not reader.arm(lambda: pytest.fail("it was told to look"))
    log.write("tok ")
    assert [record.count for record in reader.take()] == [1, 1]


async def test_many_wake_ups_are_one_call_into_the_loop(log: EventLog) -> None:
    """A thread that wakes many streams while the loop is busy costs it one call."""
    loop = asyncio.get_running_loop()
    calls = Counted(loop.call_soon_threadsafe)
    notifier = Notifier(loop, heartbeat=60)
    notifier._loop = Loop(loop, calls)  # type: ignore[assignment]
    readers = [watcher(log) for _ in range(100)]
    for reader in readers:
        reader.take()
    waiting = [asyncio.create_task(notifier.wait(reader.arm)) for reader in readers]
    await settle()
    producer = threading.Thread(target=log.write, args=("tok ",))
    producer.start()
    producer.join()  # the loop cannot answer meanwhile
    assert await asyncio.gather(*waiting) == [True] * 100
    assert calls.calls == 1


async def test_a_wake_up_on_the_loop_itself_is_no_call_into_it(log: EventLog) -> None:
    """What is written on the loop, as a worker's frames are, wakes a stream directly."""
    loop = asyncio.get_running_loop()
    notifier = Notifier(loop, heartbeat=60)
    calls = Counted(loop.call_soon_threadsafe)
    notifier._loop = Loop(loop, calls)  # type: ignore[assignment]
    reader = watcher(log)
    reader.take()
    waiting = asyncio.create_task(notifier.wait(reader.arm))
    await settle()
    log.write("tok ")
    assert await waiting
    assert calls.calls == 0


class Loop:
    """A loop whose calls from threads are counted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, calls: Counted) -> None:
        self.create_future = loop.create_future
        self.time = loop.time
        self.call_soon = loop.call_soon
        self.call_soon_threadsafe = calls
