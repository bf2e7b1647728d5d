"""A worker whose threads compute gets no new runs, as these have a worker to themselves."""

import os
from collections.abc import Iterator

import pytest
from pullcord.executors.workers.contention import Contention
from pullcord.run.cancel import CancelMode

from tests.executors.workers.conftest import ServeApp, Served
from tests.transports.harness import until

APP = """
import os
from pullcord import RunServer, runnable

@runnable
def computes():
    yield str(os.getpid())
    turns = 0
    while True:
        turns = (turns * 31 + 7) % 1_000_003

@runnable
async def says_where():
    return str(os.getpid())

server = RunServer(agents=[computes, says_where])
"""


def test_promise_5_new_runs_go_to_a_fresh_worker_while_threads_compute(serve: ServeApp) -> None:
    """Once their worker is known to be slow, another is started, which executes all new runs."""
    served = serve(APP)
    client = served.client
    first = str(served.worker())
    runs = [client.start("agents/computes").run_id for _ in range(32)]

    def place() -> str:
        return client.wait(client.start("agents/says-where").run_id).output

    assert {next(iter(_said(served, run))) for run in runs} == {first}
    until(lambda: len(served.workers()) == 2)
    fresh = {place() for _ in range(30)}
    assert first not in fresh
    assert len(fresh) == 1, "one fresh worker is enough"
    for run_id in runs:
        client.cancel(run_id, mode=CancelMode.IMMEDIATE)
    until(lambda: len(served.workers()) == 1)


def _said(served: Served, run_id: str) -> Iterator[str]:
    for event in served.client.watch(run_id):
        if text := getattr(event.payload, "text", ""):
            yield text


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        pytest.param([(0.0003, 0.0)] * 10, False, id="idle"),
        pytest.param([(0.001, 1.0)] * 10, False, id="one thread computes"),
        pytest.param([(0.050, 0.05)] * 10, False, id="the machine is busy, the worker is not"),
        pytest.param([(0.050, 1.0)] * 4, False, id="too few to know"),
        pytest.param([(0.034, 1.0), (0.004, 1.0), (0.001, 1.0)] * 2, True, id="most are late"),
        pytest.param([(0.034, 1.0)] * 5 + [(0.001, 1.0)] * 4, True, id="it may only seem quick"),
        pytest.param([(0.034, 1.0)] * 5 + [(0.001, 1.0)] * 5, False, id="it is quick again"),
        pytest.param([(0.5, 0.0)] * 5, True, id="frozen"),
    ],
)
def test_a_worker_contends_where_most_answers_are_late(
    answers: list[tuple[float, float]], found: bool
) -> None:
    """Computing threads let some answers through in time, so one of those proves nothing."""
    contention = Contention(5)
    for after, share in answers:
        contention.answered(after, share)
    assert contention.found is found


def test_where_every_worker_seems_slow_there_are_no_more_of_them_than_help(
    serve: ServeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most one worker for each processor beside the one that was asked for."""
    served = serve(APP)
    client = served.client
    served.worker()
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(served.server._pool.staff, "is_slow", lambda connection: True)
    held = [client.start("agents/computes").run_id for _ in range(2)]
    for _ in range(8):
        run_id = client.start("agents/says-where").run_id
        assert client.wait(run_id, 60).output
        assert len(served.workers()) <= 3
    assert len(served.workers()) == 3
    for run_id in held:
        client.cancel(run_id)


@pytest.mark.parametrize(
    ("answers", "share", "may"),
    [
        pytest.param([(0.0003, 0.0)] * 5, 0.0, False, id="idle"),
        pytest.param([(0.0003, 0.0)] * 5, 0.5, True, id="at work"),
        pytest.param([(0.034, 1.0)] * 5, 0.0, True, id="it was late"),
        pytest.param([(0.034, 1.0)] + [(0.0, 0.0)] * 5, 0.0, False, id="that is long ago"),
    ],
)
def test_a_worker_that_hardly_works_need_not_be_asked_often(
    answers: list[tuple[float, float]], share: float, may: bool
) -> None:
    """Only a worker that uses the processor, or was late lately, can be late by itself."""
    contention = Contention(5)
    for answer in answers:
        contention.answered(*answer)
    assert contention.may_be_late(share) is may
