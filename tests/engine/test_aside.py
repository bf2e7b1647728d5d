"""Work on thousands of runs: never in one turn of whoever asks. Promise 5."""

import threading

import pytest
from pullcord.engine.aside import BATCH, each
from pullcord.engine.ports import CancelRequest
from pullcord.run.cancel import CancelCause, Cancellation
from pullcord.run.context import RunContext
from pullcord.run.record import RunSpec, SessionPolicy
from pullcord.run.state import RunState
from pullcord.testing import Gate, RecordingObserver, Script

from tests.engine.conftest import MakeEngine


def test_a_few_are_done_at_once() -> None:
    """As many as one batch are done before the call returns, in order."""
    done: list[int] = []
    each(range(BATCH), done.append)
    assert done == list(range(BATCH))


def test_the_rest_is_done_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    """More than one batch is done in another thread, each one, though some fail."""
    done: dict[int, int] = {}
    over = threading.Event()

    def do(n: int) -> None:
        done[n] = threading.get_ident()
        if n == 99:
            over.set()
        if n in {5, 50}:
            raise ValueError

    each(range(100), do)
    assert over.wait(30)
    assert list(done) == list(range(100))
    here = [n for n in done if done[n] == threading.get_ident()]
    assert here == list(range(BATCH))
    assert "the others go on" in caplog.text


def test_promise_05_superseding_thousands_does_not_keep_the_caller(
    make: MakeEngine, observer: RecordingObserver
) -> None:
    """A start that supersedes 2000 waiting runs stops a batch of them itself, and begins last."""
    engine, gate = make(), Gate()

    def run(run_id: str, policy: SessionPolicy, script: Script) -> None:
        engine.start(
            script, RunSpec("agents/a", run_id=run_id, session_id="s", session_policy=policy)
        )

    run("first", SessionPolicy.QUEUE, Script(gate))
    gate.wait_reached()
    waits, newest = Script(), Script()
    for n in range(2000):
        run(f"r{n}", SessionPolicy.QUEUE, waits)
    threads: list[int] = []
    heard = observer.run_ended
    observer.run_ended = lambda run: (threads.append(threading.get_ident()), heard(run))[1]  # type: ignore[method-assign, func-returns-value]  # this test listens
    run("newest", SessionPolicy.SUPERSEDE, newest)
    assert threads.count(threading.get_ident()) <= BATCH
    gate.open()
    observer.wait_for(lambda o: len(o.ended) == 2002)
    assert (waits.runs, newest.runs) == (0, 1)
    assert engine.get("newest").state is RunState.COMPLETED
    for run_id in ("first", "r0", "r1999"):
        stop = engine.get(run_id).cancellation
        assert stop is not None
        assert stop.cause is CancelCause.SUPERSEDED


def test_promise_05_a_cancel_of_many_children_does_not_keep_the_caller(
    make: MakeEngine, observer: RecordingObserver
) -> None:
    """A cancel of a run with 400 children stops a batch of them itself, and the others follow."""
    engine, gate = make(workers=1), Gate(deaf=True)
    child = Script(id="child")
    ready = Gate()

    async def delegate(ctx: RunContext) -> None:
        for _ in range(400):
            ctx.start(child)
        made = ready(ctx)
        assert made is not None
        await made

    engine.start(Script(gate), RunSpec("agents/a", run_id="busy"))  # so that no child begins
    gate.wait_reached()
    engine.start(Script(delegate, is_async=True), RunSpec("agents/a", run_id="parent"))
    ready.wait_reached()
    threads: list[int] = []
    heard = observer.run_ended
    observer.run_ended = lambda run: (threads.append(threading.get_ident()), heard(run))[1]  # type: ignore[method-assign, func-returns-value]  # this test listens
    engine.cancel("parent", CancelRequest(Cancellation()))
    assert threads.count(threading.get_ident()) <= BATCH + 1
    observer.wait_for(lambda o: len(o.ended) == 401)
    gate.open()
    observer.wait_for(lambda o: len(o.ended) == 402)
    assert child.runs == 0
    children = [run for run in observer.ended if run.parent_run_id == "parent"]
    causes = {run.cancellation.cause for run in children if run.cancellation}
    assert (len(children), causes) == (400, {CancelCause.PARENT})
