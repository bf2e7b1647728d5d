"""The short form of `make soak`: some hundred runs over workers that die."""

import asyncio

from tests.soak.soak import served


def test_a_few_hundred_runs_over_dying_workers_leave_nothing_behind() -> None:
    """Every run ends once; threads, descriptors and processes are what they were."""
    with served(seed=7) as soak:
        first, *_, last = asyncio.run(soak.play(count=480, rounds=2, deaths=2))
    assert sum(soak.ends.values()) == 480
    assert set(soak.ends) <= {"completed", "cancelled", "WorkerDied"}
    assert last.threads <= first.threads + 2
    assert last.descriptors <= first.descriptors + 4
    assert last.children == first.children
