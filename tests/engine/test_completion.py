"""From a run's end to its place in the store: in order, once, and nobody waits for it."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest
from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.engine.ports import Finish, RunStore
from pullcord.run.cancel import Cancellation, CancelOutcome
from pullcord.run.errors import ServerBusy, StoreUnavailable
from pullcord.run.record import Run, RunFilter
from pullcord.run.state import RunState
from pullcord.testing import Gate, HookedStore, ManualClock, RecordingObserver, Script, say

from tests.engine.conftest import MakeEngine
from tests.engine.driving import IMMEDIATE, cancel, freed, spec, start

_ALL = RunFilter()


class Hung:
    """A store behind a network that answers a verb only once it is let."""

    def __init__(self, *verbs: str) -> None:
        self.verbs = verbs
        self.asked = threading.Semaphore(0)
        self.go = threading.Event()
        self.threads: list[str] = []

    def __call__(self, store: RunStore) -> RunStore:
        hooked = HookedStore(store, blocking=True)
        hooked.before = self.hold_up
        return hooked

    def hold_up(self, verb: str) -> None:
        if verb in self.verbs:
            self.threads.append(threading.current_thread().name)
            self.asked.release()
            assert self.go.wait(30)

    def wait_asked(self) -> None:
        assert self.asked.acquire(timeout=30)


@pytest.fixture
def hang() -> Iterator[Callable[..., Hung]]:
    made: list[Hung] = []

    def make(*verbs: str) -> Hung:
        made.append(Hung(*verbs))
        return made[-1]

    yield make
    for hung in made:
        hung.go.set()


def over(engine: Engine, run_id: str = "r") -> Run:
    """The run once it has its terminal event, whether or not its store has it."""
    done = threading.Event()
    found = engine.find_here(run_id)
    assert found is not None
    found.on_end(done.set)
    assert done.wait(30)
    return found.snapshot()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("mode", [None, IMMEDIATE])
def test_promise_05_a_hung_store_keeps_no_cancel_waiting(
    make: MakeEngine,
    hang: Callable[..., Hung],
    real_clock: ThreadClock,
    is_async: bool,
    mode: object,
) -> None:
    """While the store hangs, cancels of runs here stop their code, and their ends are read."""
    hung = hang("finish", "find", "page")
    engine = make(real_clock, store=hung)
    gates = [Gate() for _ in range(8)]
    for n, gate in enumerate(gates):
        start(engine, Script(say("a"), gate, is_async=is_async), f"r{n}")
        gate.wait_reached()
    lost = threading.Thread(target=lambda: engine.list_page(_ALL, 10))
    lost.start()
    hung.wait_asked()
    for n, gate in enumerate(gates):
        assert cancel(engine, f"r{n}", **({"mode": IMMEDIATE} if mode else {})).outcome in {
            CancelOutcome.REQUESTED,
            CancelOutcome.STOPPED,
        }
        assert gate.left.wait(30), "the code was not stopped"
        run = over(engine, f"r{n}")
        assert (run.state, run.output) == (RunState.CANCELLED, "a")
        with_end = list(engine.watch(f"r{n}"))
        assert with_end[-1].is_terminal
    fired = threading.Event()
    real_clock.call_later(0, fired.set)
    assert fired.wait(30), "the clock is held up"
    assert not engine.wait_idle(0)
    hung.go.set()
    lost.join(30)
    assert engine.wait_idle(30)
    asked = {name for name in hung.threads if name != lost.name}
    assert asked == {"pullcord-completer"}, "a loop, a worker or the clock asked the store"
    assert engine.get("r0").output == "a"


async def test_a_blocking_store_is_not_asked_on_a_callers_loop(
    make: MakeEngine, hang: Callable[..., Hung], real_clock: ThreadClock
) -> None:
    """Code on a caller's own loop ends its run there, and the loop goes on."""
    hung = hang("finish")
    engine = make(real_clock, store=hung)
    run = await asyncio.to_thread(
        engine.start,
        Script(say("a"), is_async=True),
        spec(),
        loop=asyncio.get_running_loop(),
    )
    assert run.run_id == "r"
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    found = engine.find_here("r")
    assert found is not None
    found.on_end(lambda: loop.call_soon_threadsafe(ended.set))
    await asyncio.wait_for(ended.wait(), 30)
    await asyncio.to_thread(hung.wait_asked)
    assert found.snapshot().state is RunState.COMPLETED
    hung.go.set()
    assert await asyncio.to_thread(engine.wait_idle, 30)


def test_runs_that_end_while_the_store_is_busy_are_kept_together(
    make: MakeEngine, hang: Callable[..., Hung], real_clock: ThreadClock
) -> None:
    """What ended meanwhile is one transaction."""
    hung = hang("finish")
    engine = make(real_clock, store=hung)
    start(engine, Script())
    hung.wait_asked()
    for n in range(50):
        start(engine, Script(), f"r{n}")
        over(engine, f"r{n}")
    hung.go.set()
    assert engine.wait_idle(30)
    assert len(hung.threads) == 2
    assert engine.remains().ended == 51


class Picky(HookedStore):
    """A store that cannot keep one of the runs."""

    def finish(self, ends: "list[Finish]") -> "list[Cancellation | None]":  # type: ignore[override]  # narrower, as it is called
        if any(end.ended.run.run_id == "poison" for end in ends):
            raise ValueError("not to be stored")
        return super().finish(ends)


def test_one_run_that_cannot_be_kept_holds_up_no_other(
    make: MakeEngine, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that its store cannot take is offered again until it expires; the others are kept."""
    go = threading.Event()

    def picky(store: RunStore) -> RunStore:
        made = Picky(store, blocking=True)
        made.before = lambda verb: (go.wait(30), None)[1] if verb == "finish" else None
        return made

    engine = make(store=picky)
    for run_id in ("a", "poison", "b", "c"):
        start(engine, Script(), run_id)
        over(engine, run_id)
    go.set()
    freed(engine)
    while engine.remains().ended < 3:
        threading.Event().wait(0.001)
    assert [run.run_id for run in engine.list_page(_ALL, 9).runs if run.run_id != "poison"]
    assert engine.get("poison").state is RunState.COMPLETED
    for _ in range(200):
        clock.wait_for_timer(within=30.0)
        clock.advance(30.0)
        if engine.wait_idle(0.05):
            break
    assert engine.wait_idle(30)
    assert "did not take run poison" in caplog.text


def test_a_store_that_comes_back_gets_every_run(
    make: MakeEngine, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Runs that ended while the store was away are kept once it is back, each once."""
    away = threading.Event()
    away.set()
    tried = threading.Semaphore(0)

    def down(store: RunStore) -> RunStore:
        made = HookedStore(store, blocking=True)

        def refuse(verb: str) -> None:
            if verb == "finish":
                tried.release()
                if away.is_set():
                    raise StoreUnavailable()

        made.before = refuse
        return made

    engine = make(store=down)
    for n in range(20):
        start(engine, Script(), f"r{n}")
        over(engine, f"r{n}")
    assert tried.acquire(timeout=30)
    clock.wait_for_timer(within=1.0)
    clock.advance(1.0)
    assert not engine.wait_idle(0)
    away.clear()
    while not engine.wait_idle(0.05):
        clock.advance(30)
    assert engine.remains().ended == 20


def test_observers_hear_starts_before_ends(
    make: MakeEngine, observer: RecordingObserver, hurry: None
) -> None:
    """Of every run the start is heard before the end, however soon that comes."""

    heard: list[tuple[str, str]] = []
    observer.run_started = lambda run: heard.append((run.run_id, "start"))  # type: ignore[method-assign]  # this test listens
    observer.run_ended = lambda run: heard.append((run.run_id, "end"))  # type: ignore[method-assign]
    engine = make()
    cancel(engine, "early", before_start=True)
    start(engine, Script(), "early")
    for n in range(300):
        start(engine, Script(is_async=bool(n % 2)), f"r{n}")
    assert engine.wait_idle(30)
    freed(engine)
    while len(heard) < 602:
        threading.Event().wait(0.001)
    for run_id in ("early", *(f"r{n}" for n in range(300))):
        assert [what for name, what in heard if name == run_id] == ["start", "end"]


def test_a_refused_run_is_taken_back_when_the_store_answers_again(
    make: MakeEngine, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A start that cannot be executed gives everything back, its row as soon as the store is."""
    hooked: list[HookedStore] = []

    def wrap(store: RunStore) -> RunStore:
        hooked.append(HookedStore(store))
        return hooked[0]

    def refuse(verb: str) -> None:
        if verb == "withdraw":
            raise StoreUnavailable()

    engine, gate = make(workers=1, worker_queue=0, store=wrap), Gate()
    start(engine, Script(gate), "busy")
    gate.wait_reached()
    hooked[0].before = refuse
    with pytest.raises(ServerBusy):
        start(engine, Script())
    left = engine.remains()
    assert (engine.occupied, left.live, left.claims) == (1, 1, 2)
    hooked[0].before = lambda verb: None
    clock.advance(30)
    while engine.remains().claims > 1:
        threading.Event().wait(0.001)
    gate.open()
    assert engine.wait_idle(30)
    assert "did not take back run r" in caplog.text
