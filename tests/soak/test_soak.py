"""The short form of `make soak`: some hundred runs over workers that die."""

import asyncio

from tests.soak.soak import Weight, served


def test_a_few_hundred_runs_over_dying_workers_leave_nothing_behind() -> None:
    """Every run ends once; threads, descriptors and processes are what they were."""
    with served(seed=7) as soak:
        first, *_, last = asyncio.run(soak.play(count=480, rounds=2, deaths=2))
    assert sum(soak.ends.values()) == 480
    assert set(soak.ends) <= {"completed", "cancelled", "WorkerDied"}
    assert last.threads <= first.threads + 2
    assert last.descriptors <= first.descriptors + 4
    assert last.children == first.children


def test_a_worker_that_lives_on_holds_what_it_held() -> None:
    """Some hundred runs in one worker add no thread, no descriptor and no memory to speak of."""
    shown: list[Weight] = []
    with served(seed=8) as soak:
        played = soak.play(count=960, rounds=4, deaths=0, on_round=shown.append)
        weights = asyncio.run(played)
    assert shown == weights
    assert set(soak.ends) <= {"completed", "cancelled"}
    _, first, _, last = weights
    assert last.worker_pid == first.worker_pid
    assert last.worker_threads <= first.worker_threads + 2
    assert last.worker_descriptors <= first.worker_descriptors + 2
    assert last.worker_mebibytes <= first.worker_mebibytes * 1.1
