"""Work on thousands of runs: never in one turn of whoever asks. Promise 5."""

import threading

import pytest
from pullcord.engine.aside import BATCH, each
from pullcord.run.cancel import CancelCause
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
        if n == 50:
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
