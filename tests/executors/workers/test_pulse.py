"""The pulse of workers, with a pool of one that never answers."""

import asyncio
from typing import Any

import pytest
from pullcord.executors.workers.kinds import SHARED
from pullcord.executors.workers.options import WorkerOptions
from pullcord.executors.workers.pulse import Pulse


class Mute:
    """A worker, its connection, its pool and the staff of that: it answers nothing."""

    def __init__(self, *, is_cut: bool) -> None:
        self.process = self.staff = self.placing = self
        self.is_cut = self.was_passed_over = is_cut
        self.ready, self.exclusive, self.retiring = True, False, ""
        self.kind = SHARED
        self.pid, self.runs = 1, {}  # type: ignore[var-annotated]  # there is none
        self.beats = self.rooms = 0
        self.pings: list[int] = []
        self.fates: list[str] = []

    def connections(self) -> list["Mute"]:
        return [self]

    def processor_time(self) -> float:
        return 0.0

    def resident(self) -> int:
        return 0

    def send(self, frame: Any) -> None:
        self.pings.append(frame.ping)

    def retire(self, connection: Any, words: str) -> None:
        self.fates.append("retired")

    def kill(self, connection: Any, words: str) -> None:
        self.fates.append("killed")

    def pace_changed(self) -> None:
        self.fates.append("slow")

    def has_room(self) -> None:
        self.rooms += 1

    def trim(self) -> None:
        self.beats += 1


async def beaten(mute: Mute, done: Any) -> None:
    """Lets the pulse beat until that is so."""
    options = WorkerOptions("app:server", silence=0.5, max_silence=0.7, slow_after=0.4)
    beating = asyncio.create_task(Pulse(mute, options).beat())  # type: ignore[arg-type]  # a fake
    try:
        async with asyncio.timeout(60):
            while not done():  # noqa: ASYNC110 # it announces nothing
                await asyncio.sleep(0.01)
    finally:
        beating.cancel()


@pytest.mark.parametrize("is_cut", [False, True])
async def test_a_worker_out_of_reach_is_not_taken_for_a_silent_one(is_cut: bool) -> None:
    """One that is silent is slow, retired, and killed. One whose link is cut is none of that: its
    lease is its launcher's; and as soon as it is back it may be given runs."""
    mute = Mute(is_cut=is_cut)
    if not is_cut:
        await beaten(mute, lambda: "killed" in mute.fates)
        assert {"slow", "retired"} < set(mute.fates)
        return
    await beaten(mute, lambda: mute.beats >= 8)
    assert (mute.fates, mute.pings, mute.rooms) == ([], [], 0)

    def comes_back() -> bool:
        mute.is_cut = mute.beats < 12
        return mute.rooms > 0

    await beaten(mute, comes_back)
    assert mute.fates == []
