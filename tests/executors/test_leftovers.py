"""What a run's code leaves at work ends with the run, or is reported and counted."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pullcord import RunContext, runnable
from pullcord.client import RunClient
from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.run.errors import RunInterrupted
from pullcord.run.events import ContentDelta
from pullcord.run.record import RunSpec
from pullcord.run.runnable import Runnable
from pullcord.run.state import RunState
from pullcord.testing import RecordingObserver, make_engine, remains

from tests.cli.commands import Command
from tests.engine.driving import cancel, ended
from tests.transports.harness import until


@pytest.fixture
def observer() -> RecordingObserver:
    return RecordingObserver()


@pytest.fixture
def engine(observer: RecordingObserver) -> Iterator[Engine]:
    engine = make_engine(ThreadClock(), observer)
    yield engine
    engine.close()


def start(engine: Engine, code: Runnable) -> None:
    engine.start(code, RunSpec(f"agents/{code.id}", run_id="r"))


def test_a_task_that_a_run_leaves_ends_with_it(engine: Engine, observer: RecordingObserver) -> None:
    """A task on the run's loop is cancelled when the run's code has ended, and holds nothing."""
    over = threading.Event()

    @runnable
    async def leaves() -> str:
        async def beat() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                over.set()

        kept.append(asyncio.create_task(beat()))
        await asyncio.sleep(0)
        return "made"

    kept: list[asyncio.Task[None]] = []
    start(engine, leaves)
    run = ended(engine)
    assert (run.state, run.output) == (RunState.COMPLETED, "made")
    assert over.is_set()
    assert kept[0].cancelled()
    assert (engine.occupied, observer.abandoned) == (0, [])


def test_a_task_that_is_about_to_end_is_not_torn() -> None:
    """What was left has a moment to end by itself, such as a connection that is being closed."""
    engine = make_engine()  # whose clock stands still
    closed: list[str] = []

    @runnable
    async def leaves() -> str:
        async def close() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            closed.append("all")

        kept.append(asyncio.create_task(close()))
        return "made"

    kept: list[asyncio.Task[None]] = []
    start(engine, leaves)
    ended(engine)
    assert closed == ["all"]
    engine.close()


def test_a_task_that_ignores_its_cancel_is_reported(
    engine: Engine, observer: RecordingObserver
) -> None:
    """The run ends without it; it counts against capacity until it ends."""
    let_go: list[asyncio.Event] = []

    @runnable
    async def leaves() -> str:
        async def stubborn() -> None:
            while not let_go[0].is_set():
                try:
                    await let_go[0].wait()
                except asyncio.CancelledError:
                    continue

        let_go.append(asyncio.Event())
        loops.append(asyncio.get_running_loop())
        kept.append(asyncio.create_task(stubborn()))
        return "made"

    kept: list[asyncio.Task[None]] = []
    loops: list[asyncio.AbstractEventLoop] = []
    start(engine, leaves)
    assert ended(engine).state is RunState.COMPLETED
    observer.wait_for(lambda told: told.abandoned)
    assert "stubborn" in observer.abandoned[0][1]
    assert engine.occupied == 1
    loops[0].call_soon_threadsafe(let_go[0].set)
    until(lambda: engine.occupied == 0)


def test_a_callback_that_hangs_is_reported(engine: Engine, observer: RecordingObserver) -> None:
    """The run ends without it; it counts against capacity until it ends."""
    begun, hangs, let_go = threading.Event(), threading.Event(), threading.Lock()
    let_go.acquire()

    def hang(_: object) -> None:
        hangs.set()
        let_go.acquire()

    @runnable
    async def listens(ctx: RunContext) -> None:
        ctx.cancel_token.on_cancel(hang)
        begun.set()
        await asyncio.Event().wait()

    start(engine, listens)
    assert begun.wait(30)
    cancel(engine)
    assert ended(engine).state is RunState.CANCELLED
    assert hangs.wait(30)
    observer.wait_for(lambda told: told.abandoned)
    assert "in hang" in observer.abandoned[0][1]
    assert engine.occupied == 1
    let_go.release()
    until(lambda: engine.occupied == 0)


def test_a_callback_that_computes_is_interrupted(
    engine: Engine, observer: RecordingObserver
) -> None:
    """A callback still in Python code after the run's end is ended there."""
    begun, interrupted = threading.Event(), threading.Event()

    def compute(_: object) -> None:
        try:
            while True:
                pass
        except RunInterrupted:
            interrupted.set()
            raise

    @runnable
    def listens(ctx: RunContext) -> None:
        ctx.cancel_token.on_cancel(compute)
        begun.set()
        ctx.cancel_token.wait()

    start(engine, listens)
    assert begun.wait(30)
    cancel(engine)
    ended(engine)
    assert interrupted.wait(30)
    until(lambda: engine.occupied == 0)


def test_callbacks_have_few_threads(engine: Engine) -> None:
    """However many callbacks hang, they take a bounded number of threads, and others' wait."""
    begun, let_go = threading.Semaphore(0), threading.Event()

    @runnable
    async def listens(ctx: RunContext) -> None:
        ctx.cancel_token.on_cancel(lambda _: let_go.wait())
        begun.release()
        await asyncio.Event().wait()

    for n in range(24):
        engine.start(listens, RunSpec("agents/listens", run_id=f"r{n}"))
    assert all(begun.acquire(timeout=30) for _ in range(24))
    for n in range(24):
        cancel(engine, f"r{n}")
    for n in range(24):
        assert ended(engine, f"r{n}").state is RunState.CANCELLED
    assert sum(name.startswith("pullcord-callback") for name in remains().threads) == 16
    let_go.set()
    until(lambda: engine.occupied == 0)


APP = """
import asyncio, os, time
from pullcord import RunContext, RunServer, runnable

@runnable
async def hangs(ctx: RunContext):
    ctx.cancel_token.on_cancel(lambda _: time.sleep(600))
    yield "begun"
    await asyncio.sleep(600)

@runnable
async def leaves():
    async def beat():
        while True:
            await asyncio.sleep(1)
    asyncio.create_task(beat())
    yield "made"

@runnable
async def looks():
    return f"{os.getpid()} {len(asyncio.all_tasks())}"

server = RunServer(agents=[hangs, leaves, looks])
"""


def test_a_worker_in_which_callbacks_hang_is_replaced(tmp_path: Path) -> None:
    """A few are borne; too many, and the worker is killed once its other runs have ended."""
    (tmp_path / "app.py").write_text(APP)
    with (
        Command("serve", "app:server", "--listen", "127.0.0.1:0", cwd=tmp_path) as serving,
        RunClient(serving.until("\n").split()[-1]) as client,
    ):

        def looks() -> list[str]:
            return client.wait(client.start("agents/looks", "").run_id, 60).output.split()

        for _ in range(3):
            client.wait(client.start("agents/leaves", "").run_id, 60)
        worker, tasks = looks()
        assert tasks == "1"
        for _ in range(8):
            assert looks()[0] == worker
            stream = client.run("agents/hangs", "")
            for event in stream:
                if isinstance(event.payload, ContentDelta):
                    stream.cancel()
        assert looks()[0] != worker
        until(lambda: not Path(f"/proc/{worker}").exists())
