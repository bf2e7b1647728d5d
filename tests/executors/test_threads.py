"""The thread pools: bounded, interruptible, and no interrupt ever hits the wrong job."""

import asyncio
import contextvars
import functools
import io
import itertools
import operator
import os
import shutil
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pullcord.executors.threads as threads_module
import pytest
from pullcord.engine.log.log import EventLog
from pullcord.executors.threads import Job, ThreadPool
from pullcord.run.errors import RunInterrupted, ServerBusy
from pullcord.testing import remains


class Outcome:
    """What became of a job."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.result: Any = None
        self.error: BaseException | None = None
        self.times = 0

    def __call__(self, result: Any, error: BaseException | None) -> None:
        self.result, self.error = result, error
        self.times += 1
        self.done.set()

    def wait(self) -> "Outcome":
        assert self.done.wait(30)
        return self


@pytest.fixture
def make_pool() -> Iterator[Callable[..., ThreadPool]]:
    pools: list[ThreadPool] = []

    def make(size: int = 1, queue: int = 10) -> ThreadPool:
        pools.append(ThreadPool(f"t{len(pools)}", size, queue))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def occupy(pool: ThreadPool) -> tuple[Job, Callable[[], None], Outcome]:
    """A job that blocks in C until let go."""
    started, gate, outcome = threading.Event(), threading.Lock(), Outcome()
    gate.acquire()

    def work() -> None:
        started.set()
        gate.acquire()

    job = pool.submit(work, outcome)
    assert started.wait(30)
    return job, gate.release, outcome


def interrupt(job: Job) -> None:
    """As the engine does: again, as long as the thread is in our own code."""
    while not job.interrupt():
        pass


def test_a_job_is_done_once(make_pool: Callable[..., ThreadPool]) -> None:
    """A job's result, or what it raised, is handed over once, in the job's own thread."""
    pool = make_pool()
    ok, bad = Outcome(), Outcome()
    pool.submit(lambda: threading.current_thread().name, ok)
    pool.submit(lambda: 1 // 0, bad)
    assert ok.wait().result == "pullcord-t0-1"
    assert isinstance(bad.wait().error, ZeroDivisionError)
    assert (ok.times, bad.times) == (1, 1)


def test_promise_11_more_than_the_queue_holds_is_refused(
    make_pool: Callable[..., ThreadPool],
) -> None:
    """With every thread at work and the queue full, a job is refused at once, not kept waiting."""
    pool = make_pool(size=2, queue=1)
    releases = [occupy(pool)[1] for _ in range(2)]
    queued = Outcome()
    pool.submit(lambda: None, queued)
    with pytest.raises(ServerBusy):
        pool.submit(lambda: None, Outcome())
    for release in releases:
        release()
    queued.wait()
    late = Outcome()
    pool.submit(lambda: 5, late)
    assert late.wait().result == 5


def test_a_queued_job_can_be_dropped(make_pool: Callable[..., ThreadPool]) -> None:
    """A dropped job never runs; one that has begun cannot be dropped."""
    pool = make_pool()
    job, release, outcome = occupy(pool)
    never, after = Outcome(), Outcome()
    queued = pool.submit(lambda: pytest.fail("ran"), never)
    pool.submit(lambda: None, after)
    assert not job.drop()
    assert queued.drop()
    assert not queued.drop()
    release()
    outcome.wait()
    after.wait()
    assert never.times == 0


def test_threads_are_made_only_when_needed(make_pool: Callable[..., ThreadPool]) -> None:
    """Jobs one after the other share a thread."""
    pool = make_pool(size=8)
    names = set()
    for _ in range(50):
        outcome = Outcome()
        pool.submit(lambda: threading.current_thread().name, outcome)
        names.add(outcome.wait().result)
        while not pool._idle:  # the thread is about to wait for work
            pass
    assert names == {"pullcord-t0-1"}


def test_every_job_runs_however_they_come(make_pool: Callable[..., ThreadPool]) -> None:
    """Two thousand jobs from four threads are all done: no wake-up of a worker is lost."""
    pool = make_pool(size=3, queue=2000)
    outcomes = [Outcome() for _ in range(2000)]

    def submit(part: int) -> None:
        for outcome in outcomes[part::4]:
            pool.submit(lambda: None, outcome)

    submitters = [threading.Thread(target=submit, args=(n,)) for n in range(4)]
    for thread in submitters:
        thread.start()
    for thread in submitters:
        thread.join(30)
    for outcome in outcomes:
        outcome.wait()


def test_promise_04_an_interrupt_raises_in_python_code(
    make_pool: Callable[..., ThreadPool],
) -> None:
    """Code that computes in Python and looks at nothing is interrupted where it is."""
    pool, started, outcome = make_pool(), threading.Event(), Outcome()

    def work() -> None:
        started.set()
        while True:
            pass

    job = pool.submit(work, outcome)
    assert started.wait(30)
    assert "in work" in job.stack()
    interrupt(job)
    assert isinstance(outcome.wait().error, RunInterrupted)
    assert job.stack() == ""


def test_promise_04_code_that_blocks_in_c_is_interrupted_when_it_returns(
    make_pool: Callable[..., ThreadPool],
) -> None:
    """A read that blocks in C ends first; then the interrupt is raised."""
    pool, started, outcome = make_pool(), threading.Event(), Outcome()
    reader, writer = os.pipe()

    def work() -> None:
        started.set()
        os.read(reader, 1)
        while True:
            pass

    job = pool.submit(work, outcome)
    assert started.wait(30)
    interrupt(job)
    assert not outcome.done.is_set()
    os.write(writer, b"x")
    assert isinstance(outcome.wait().error, RunInterrupted)
    os.close(reader)
    os.close(writer)


def test_promise_04_a_job_of_the_standard_library_is_interrupted_too(
    make_pool: Callable[..., ThreadPool],
) -> None:
    """A job that is nothing but a stdlib function written in Python can be interrupted."""
    pool, outcome = make_pool(), Outcome()
    reader, writer = socket.socketpair()
    with reader, writer:
        file = reader.makefile("rwb", buffering=0)
        job = pool.submit(functools.partial(shutil.copyfileobj, file, io.BytesIO(), 1), outcome)
        while "copyfileobj" not in job.stack():
            writer.send(b"x")
        interrupt(job)
        writer.send(b"x")
        assert isinstance(outcome.wait().error, RunInterrupted)
        file.close()


ROUNDS = 3000


@pytest.mark.usefixtures("hurry")
def test_an_interrupt_never_hits_the_next_job(
    make_pool: Callable[..., ThreadPool], request: pytest.FixtureRequest
) -> None:
    """In 3000 interrupts sent just as a job ends, no later job is hit and no thread dies."""
    pool = make_pool(size=1, queue=10)
    hits = 0
    often = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # or the job is over before the sender gets the interpreter
    request.addfinalizer(lambda: sys.setswitchinterval(often))
    for n in range(ROUNDS):
        started, victim, next_job = threading.Event(), Outcome(), Outcome()

        def work(started: threading.Event = started, n: int = n) -> int:
            started.set()
            # Every tenth works until it is hit; the others end about when the interrupt comes.
            for _ in itertools.repeat(None) if n % 10 == 0 else range(n % 60 * 50):
                pass
            return n

        def innocent(n: int = n) -> int:
            for _ in range(50):
                pass
            return n

        job = pool.submit(work, victim)
        pool.submit(innocent, next_job)
        started.wait(30)
        interrupt(job)
        victim.wait()
        assert next_job.wait().error is None, f"round {n}"
        assert next_job.result == n
        hits += isinstance(victim.error, RunInterrupted)
        assert victim.error is None or isinstance(victim.error, RunInterrupted)
        assert (victim.times, next_job.times) == (1, 1)
    assert hits >= ROUNDS / 10
    assert pool._threads == 1


@pytest.mark.parametrize("where", range(40))
def test_an_interrupt_that_surfaces_late_kills_no_thread(
    make_pool: Callable[..., ThreadPool], monkeypatch: pytest.MonkeyPatch, where: int
) -> None:
    """An interrupt that surfaces after the code has ended, wherever, changes nothing."""
    pool, outcome = make_pool(), Outcome()
    seen = 0

    def trace(frame: Any, event: str, arg: Any) -> Any:
        # Raises where the interpreter would: at a call, after the job's code has ended.
        nonlocal seen
        if frame.f_code.co_name == "work":
            seen = 1
        elif event == "call" and seen and frame.f_globals.get("__name__") != __name__:
            seen += 1
            if seen == where + 2 and job_holder[0].thread is not None:
                threads_module.raise_in_thread(threading.get_ident())
        return None

    job_holder: list[Job] = []
    ready = threading.Event()

    def work() -> int:
        return 7

    def prepare() -> None:
        ready.wait(30)
        sys.setprofile(trace)

    first = Outcome()
    pool.submit(prepare, first)
    job_holder.append(pool.submit(work, outcome))
    ready.set()
    first.wait()
    outcome.wait()
    after = Outcome()

    def reset() -> None:
        sys.setprofile(None)

    pool.submit(reset, after)
    assert after.wait().error is None
    assert outcome.result == 7
    assert outcome.times == 1


def test_an_interrupt_waits_while_the_thread_is_in_our_own_code(
    make_pool: Callable[..., ThreadPool],
) -> None:
    """While the thread is inside the log, also in what the log calls, it is not torn: ask again."""
    pool, outcome = make_pool(), Outcome()
    inside, go_on = threading.Event(), threading.Event()
    log = EventLog(1 << 20, 1000, 1 << 20, lambda: None)

    def bell() -> None:  # as a watcher's: called by the log, in the producer's thread
        inside.set()
        go_on.wait(30)

    assert log.arm(0, bell)

    def work() -> None:
        log.write("kept")
        while True:
            pass

    job = pool.submit(work, outcome)
    assert inside.wait(30)
    assert not job.interrupt()
    assert not job.interrupt()
    go_on.set()
    interrupt(job)
    assert isinstance(outcome.wait().error, RunInterrupted)
    assert log.output() == ("kept", 1)


def test_a_raising_done_kills_no_thread(
    make_pool: Callable[..., ThreadPool], caplog: pytest.LogCaptureFixture
) -> None:
    """Should handing over a result fail, that is logged, and the thread serves the next job."""
    pool, outcome = make_pool(), Outcome()

    def broken(_: Any, __: BaseException | None) -> None:
        raise ValueError("a bug of ours")

    pool.submit(lambda: None, broken)
    pool.submit(lambda: 3, outcome)
    assert outcome.wait().result == 3
    assert "a bug of ours" in caplog.text


def test_no_thread_to_be_had_is_an_answer(
    make_pool: Callable[..., ThreadPool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the system gives no thread, the job is refused and not kept; later ones are served."""
    pool = make_pool()

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ServerBusy):
            pool.submit(lambda: pytest.fail("ran"), Outcome())
    outcome = Outcome()
    pool.submit(lambda: 1, outcome)
    assert outcome.wait().result == 1


def test_promise_12_a_closed_pool_has_no_threads(make_pool: Callable[..., ThreadPool]) -> None:
    """Closing ends idle threads at once and busy ones after their job; it takes no more jobs."""
    pool = make_pool(size=3)
    busy = [occupy(pool) for _ in range(3)]
    busy[0][1]()
    busy[0][2].wait()
    pool.close()
    with pytest.raises(ServerBusy):
        pool.submit(lambda: None, Outcome())
    for _, release, _ in busy[1:]:
        release()
    for thread in threading.enumerate():
        if thread.name.startswith("pullcord-t0-"):
            thread.join(30)
            assert not thread.is_alive()
    assert not any(name.startswith("pullcord-t0") for name in remains().threads)


async def test_call_gives_results_errors_and_context(make_pool: Callable[..., ThreadPool]) -> None:
    """An awaited call returns the result, raises what was raised, and sees context variables."""
    pool, variable = make_pool(), contextvars.ContextVar("variable", default="")
    variable.set("mine")
    assert await pool.call(variable.get) == "mine"
    with pytest.raises(ZeroDivisionError):
        await pool.call(lambda: 1 // 0)

    def stop() -> None:
        raise StopIteration

    with pytest.raises(RuntimeError, match="StopIteration"):
        await pool.call(stop)


async def test_promise_12_a_cancelled_call_waits_until_the_thread_has_let_go(
    make_pool: Callable[..., ThreadPool],
) -> None:
    """When the awaiting task ends, its thread has ended its work too, never later."""
    pool = make_pool()
    started, unwound = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    def work() -> None:
        try:
            loop.call_soon_threadsafe(started.set)
            while True:
                pass
        finally:
            unwound.append(True)

    task = asyncio.create_task(pool.call(work))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert unwound == [True]
    assert remains().tasks == 0


async def test_a_cancelled_call_waits_for_c_code_even_when_cancelled_again(
    make_pool: Callable[..., ThreadPool],
) -> None:
    """However often the task is cancelled, it does not claim that a blocked thread has stopped."""
    pool = make_pool()
    started, gate = asyncio.Event(), threading.Lock()
    gate.acquire()
    reader, writer = os.pipe()
    asyncio.get_running_loop().add_reader(reader, started.set)
    # One step in C from the sign to the block: an interrupt finds no bytecode between them.
    in_c = map(operator.call, [functools.partial(os.write, writer, b"x"), gate.acquire])
    task = asyncio.create_task(pool.call(functools.partial(deque, in_c, 0)))
    await started.wait()
    asyncio.get_running_loop().remove_reader(reader)
    for _ in range(5):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    gate.release()
    with pytest.raises(asyncio.CancelledError):
        await task
    os.close(reader)
    os.close(writer)


async def test_a_queued_call_is_dropped_at_once(make_pool: Callable[..., ThreadPool]) -> None:
    """A call that still waits for a thread is cancelled without waiting, and never runs."""
    pool = make_pool()
    _, release, outcome = occupy(pool)
    task = asyncio.create_task(pool.call(lambda: pytest.fail("ran")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)
    release()
    outcome.wait()
    assert await pool.call(lambda: 4) == 4
