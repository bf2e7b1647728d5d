"""WatchRuns: what a follower of the list is shown, and that it misses nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pullcord import RunContext, runnable
from pullcord.client import AsyncRunClient, RunChange, RunClient
from pullcord.engine import roster as bounds
from pullcord.run.record import RunFilter
from pullcord.v1 import run_service_pb2 as v1

from tests.postgres import Postgres
from tests.transports.harness import Serve, Served, Signal, refusal


class Waits:
    """A runnable that says a word and ends when the test says so."""

    def __init__(self) -> None:
        self.release = Signal()

        @runnable(id="waits")
        async def waits(context: RunContext) -> Any:
            yield "a word"
            await self.release.come()

        self.runnable: Any = waits


@runnable
def quick(context: RunContext) -> Iterator[str]:
    """Ends at once."""
    yield "done"


@pytest.fixture
def waits() -> Waits:
    return Waits()


def _until(changes: Iterator[RunChange], what: Callable[[RunChange], bool]) -> list[RunChange]:
    """The changes up to the first of which this is so."""
    seen = []
    for change in changes:
        seen.append(change)
        if what(change):
            return seen
    raise AssertionError("the stream ended")


def _ended(run_id: str) -> Callable[[RunChange], bool]:
    return lambda change: (
        change.run is not None and change.run.run_id == run_id and change.run.state.is_terminal
    )


def test_a_follower_sees_what_is_live_and_then_every_change(serve: Serve, waits: Waits) -> None:
    """Live runs first, then caught_up, then each start, stop and end, also of runs that are over
    before anybody looks."""
    served: Served = serve(waits.runnable, quick)
    with RunClient(served.address) as client:
        client.start("agents/waits", "the input", run_id="r1", labels={"team": "blue"})
        changes = client.watch_runs()
        first, _ = _until(changes, lambda change: change.caught_up)
        assert first.run is not None
        assert (first.run.run_id, first.run.labels) == ("r1", {"team": "blue"})
        assert first.run.input == "", "what can be long is left out"
        for n in range(20):
            client.start("agents/quick", run_id=f"q{n}")
        for n in range(20):
            client.wait(f"q{n}")
        client.cancel("r1", "enough")
        seen = _until(changes, _ended("r1"))
        ended = {c.run.run_id: c.run.state for c in seen if c.run and c.run.state.is_terminal}
        assert ended == {f"q{n}": "completed" for n in range(20)} | {"r1": "cancelled"}
        assert seen[-1].run is not None
        assert seen[-1].run.cancellation is not None
        assert seen[-1].run.cancellation.reason == "enough"
        assert not any(change.missed for change in seen)
        changes.close()  # type: ignore[attr-defined]  # it is a generator
        served.until(lambda: not served.server._front.verbs._rosters._followers)


def test_a_follower_that_comes_back_goes_on_where_it_was(serve: Serve, waits: Waits) -> None:
    """With `after`, only what has changed since is sent; with one of another server, all is."""
    served = serve(waits.runnable, quick)
    with RunClient(served.address) as client:
        client.start("agents/waits", run_id="r1")
        changes = client.watch_runs()
        place = _until(changes, lambda change: change.caught_up)[-1].position
        changes.close()  # type: ignore[attr-defined]
        client.start("agents/quick", run_id="q1")
        client.wait("q1")
        seen = _until(client.watch_runs(after=place), _ended("q1"))
        assert not any(change.missed for change in seen)
        assert {change.run.run_id for change in seen if change.run} >= {"q1"}
        again = _until(client.watch_runs(after="elsewhere.7"), lambda change: change.caught_up)
        assert again[0].missed
        assert [change.run.run_id for change in again if change.run] == ["r1"]
        waits.release.set()


def test_a_follower_that_is_too_slow_is_told_that_it_missed_something(
    serve: Serve, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of changes is bounded."""
    monkeypatch.setattr(bounds, "MAX_CHANGES", 5)
    served = serve(waits.runnable, quick)
    with RunClient(served.address) as client:
        client.start("agents/waits", run_id="r1")
        place = _until(client.watch_runs(), lambda change: change.caught_up)[-1].position
        others = client.watch_runs()
        for n in range(9):
            client.start("agents/quick", run_id=f"q{n}")
            _until(others, _ended(f"q{n}"))
        again = _until(client.watch_runs(after=place), lambda change: change.caught_up)
        assert again[0].missed
        assert [change.run.run_id for change in again if change.run] == ["r1"]
        waits.release.set()


async def test_filters_hold_and_the_async_face_says_the_same(serve: Serve, waits: Waits) -> None:
    """Only runs that match are sent."""
    served = serve(waits.runnable, quick)
    async with AsyncRunClient(served.address) as client:
        await client.start("agents/waits", run_id="r1", session_id="s1")
        await client.start("agents/waits", run_id="r2", session_id="s2")
        changes = client.watch_runs(RunFilter(session_id="s2"))
        assert (await anext(changes)).run.run_id == "r2"  # type: ignore[union-attr]
        async for change in changes:
            if change.caught_up:
                break
        await client.cancel("r1", wait=10)
        await client.cancel("r2")
        async for change in changes:
            assert change.run is not None
            assert change.run.run_id == "r2"
            if change.run.state.is_terminal:
                break
        await changes.aclose()  # type: ignore[attr-defined]


def test_silence_is_filled_with_signs_of_life(serve: Serve) -> None:
    """A heartbeat has no run, and a position."""
    served = serve(quick, heartbeat=0.05)
    stream = served.stub.WatchRuns(v1.WatchRunsRequest())
    caught_up, beat = next(stream), next(stream)
    assert caught_up.caught_up
    assert not beat.HasField("run")
    assert len({caught_up.position, beat.position, ""}) == 3, "it tells nothing of other changes"
    stream.cancel()


def test_the_list_of_a_durable_store_is_followed_too(serve: Serve, waits: Waits, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """An end is sent once the store has it."""
    served = serve(waits.runnable, quick, store=str(tmp_path / "runs.db"))
    with RunClient(served.address) as client:
        changes = client.watch_runs()
        _until(changes, lambda change: change.caught_up)
        client.start("agents/waits", run_id="r1")
        client.cancel("r1")
        seen = _until(changes, _ended("r1"))
        assert seen[-1].run is not None
        assert client.get("r1").state is seen[-1].run.state


def test_runs_of_other_replicas_are_seen(serve: Serve, waits: Waits, postgres: Postgres) -> None:
    """Over a shared store: what is live there, what starts and ends there, and what is over
    before anybody looks."""
    url = postgres.url()
    here = serve(quick, store=url)
    there = serve(waits.runnable, quick, store=url)
    with RunClient(here.address) as client, RunClient(there.address) as other:
        other.start("agents/waits", run_id="r1")
        changes = client.watch_runs()
        live = _until(changes, lambda change: change.caught_up)
        assert [change.run.run_id for change in live if change.run] == ["r1"]
        for n in range(3):
            other.start("agents/quick", run_id=f"q{n}")
        other.cancel("r1", "enough")
        waiting = {"r1", "q0", "q1", "q2"}
        ends: list[str] = []
        for change in changes:
            if change.run is not None and change.run.state.is_terminal:
                ends.append(change.run.run_id)
                waiting.discard(change.run.run_id)
            if not waiting:
                break
        assert sorted(ends) == sorted(set(ends)), "each end is shown once"
        changes.close()  # type: ignore[attr-defined]


def test_a_server_that_stops_refuses_its_followers(serve: Serve) -> None:
    """A list never ends by itself: its streams end DRAINING, so that clients go elsewhere, and
    the server does not wait for them."""
    served = serve(quick)
    stream = served.stub.WatchRuns(v1.WatchRunsRequest())
    assert next(stream).caught_up
    served.server.drain()
    assert refusal(lambda: next(stream)).reason == "DRAINING"
