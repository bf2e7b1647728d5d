"""What callers that do not read may hold of runs that have ended."""

import asyncio

import pytest
from pullcord.engine.log.log import EventLog
from pullcord.engine.log.watch import Watcher
from pullcord.run.errors import ServerBusy
from pullcord.run.events import Custom, RunCompleted
from pullcord.service.following import Following
from pullcord.service.notifier import Notifier
from pullcord.service.readers import _STALLED, Readers


class Loop:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now


class Streams:
    """Followings of logs of about 100,000 bytes each."""

    def __init__(self) -> None:
        self.clock = Loop()
        self.readers = Readers(self.clock, 250_000, lambda: None)  # type: ignore[arg-type]  # its time
        self.notifier = Notifier(asyncio.get_running_loop(), 60)

    def log(self) -> EventLog:
        log = EventLog(2**24, 10_000, 2**24, lambda: None)
        for _ in range(99):
            log.append(Custom("said", {"text": "x" * 800}))
        return log

    async def sending(self, log: EventLog) -> Following:
        """A following whose first message is being sent."""
        watcher = Watcher("r", log, 0, lambda: pytest.fail("nobody lags"), lambda **_: None)
        following = Following(watcher, self.notifier, self.readers)
        assert await following.ready() is not None
        following.take()
        self.clock.now += 0.001
        return following

    def stand_still(self) -> None:
        self.clock.now += _STALLED + 0.001
        self.readers.trim()


def ended(log: EventLog) -> EventLog:
    log.finish(lambda _: RunCompleted())
    return log


async def test_promise_11_those_that_stand_still_longest_let_go() -> None:
    """Of four ended logs of which two fit the bound, the two last ones stay readable."""
    streams = Streams()
    followings = [await streams.sending(ended(streams.log())) for _ in range(4)]
    streams.stand_still()
    assert [f.ended_log() is None for f in followings] == [True, True, False, False]
    with pytest.raises(ServerBusy, match="watch it again"):
        await followings[0].ready()
    assert await followings[3].ready() is not None
    for following in followings:
        following.close()
    streams.readers.trim()
    assert not streams.readers._sending


async def test_live_runs_and_those_that_read_keep_theirs() -> None:
    """A stream of a live run is not touched, nor one that read a moment ago."""
    streams = Streams()
    live = [await streams.sending(streams.log()) for _ in range(4)]
    reading = [await streams.sending(ended(streams.log())) for _ in range(4)]
    streams.readers.trim()
    streams.clock.now += _STALLED + 0.001
    for following in reading:
        await following.ready()
        following.take()
    streams.readers.trim()
    for following in (*live, *reading):
        assert await following.ready() is not None


async def test_many_streams_of_one_run_hold_it_once() -> None:
    """Ten streams of one log count as one."""
    streams = Streams()
    log = ended(streams.log())
    followings = [await streams.sending(log) for _ in range(10)]
    streams.stand_still()
    assert all(following.ended_log() is log for following in followings)


async def test_a_message_that_waits_for_room_is_let_go_too() -> None:
    """What is ready but not taken is no longer there once its stream has let go."""
    streams = Streams()
    followings = [await streams.sending(ended(streams.log())) for _ in range(4)]
    assert await followings[0].ready() is not None
    for following in followings[1:]:
        await following.ready()
        following.take()
    streams.stand_still()
    with pytest.raises(ServerBusy):
        followings[0].take()
