"""Kills a server again and again while clients work with it, and finds out what it has forgotten.

Seeded: the same seed asks the same of the server and kills it at the same times, as far as two
processes can agree on that. `python -m tests.restarts --kills 50 --seed 7` is the long form.
"""

import random
import sqlite3
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pullcord.client import RunClient
from pullcord.run.cancel import CancelOutcome
from pullcord.run.errors import PullcordError
from pullcord.run.events import Event
from pullcord.run.record import Run, SessionPolicy
from pullcord.run.state import RunState

from tests.restarts.serving import Served

_THREADS = 6
_LEAST, _MOST = 0.1, 1.2
"""Seconds of life of a server that is about to be killed."""


@dataclass
class Known:
    """What clients were told of one run. From then on it must stay so."""

    started: bool = False
    stopped: bool = False
    """Whether a cancel was accepted."""
    recorded: bool = False
    """Whether one was accepted before the run came."""
    seen: int = 0
    """The number of the last event that a client was shown, its end aside."""
    end: int | None = None
    """The number of its end, if a client was shown that."""
    ended: Run | None = None


@dataclass
class Ledger:
    """What clients were told, by run."""

    runs: dict[str, Known] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: Counter[str] = field(default_factory=Counter)

    def of(self, run_id: str) -> Known:
        with self.lock:
            return self.runs.setdefault(run_id, Known())


def play(folder: Path, kills: int, seed: int) -> Ledger:
    """Kills a server so often under load; what clients were told, once a last one was asked.

    Raises AssertionError: something that was acknowledged is not so.
    """
    served, ledger = Served(folder), Ledger()
    try:
        _kill_under_load(served, ledger, kills, seed)
        with served.client() as client:
            for run_id, known in ledger.runs.items():
                _check(client, run_id, known)
        served.stop()
    finally:
        served.close()
    database = sqlite3.connect(folder / "runs.db")
    assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    database.close()
    return ledger


def _kill_under_load(served: Served, ledger: Ledger, kills: int, seed: int) -> None:
    chance, over = random.Random(seed), threading.Event()
    served.start()
    threads = [
        threading.Thread(target=_load, args=(served.address, ledger, over, seed * 100 + n))
        for n in range(_THREADS)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            over.wait(chance.uniform(_LEAST, _MOST))
            served.kill()
            served.start()
    finally:
        over.set()
        for thread in threads:
            thread.join(60)
    served.kill()


def _load(address: str, ledger: Ledger, over: threading.Event, seed: int) -> None:
    chance, number = random.Random(seed), 0
    with RunClient(address, options=[("grpc.use_local_subchannel_pool", 1)]) as client:
        while not over.is_set():
            number += 1
            run_id = f"{seed}-{number}"
            try:
                _ask(client, ledger, run_id, chance)
            except PullcordError as error:
                ledger.asked[type(error).__name__] += 1
                over.wait(0.02)  # it is being started again


def _ask(client: RunClient, ledger: Ledger, run_id: str, chance: random.Random) -> None:
    """One client's way with one run; each answer that comes is entered."""
    known = ledger.of(run_id)
    what = chance.choice(["count", "story", "queued", "early", "watch"])
    ledger.asked[what] += 1
    if what == "early":
        outcome = client.cancel(run_id, "early", before_start=True).outcome
        known.recorded = outcome is CancelOutcome.RECORDED
    more: dict[str, Any] = {}
    if what == "queued":
        more = {"session_id": f"s{chance.randrange(3)}", "session_policy": SessionPolicy.QUEUE}
    runnable, input = ("story", "never") if what == "story" else ("count", "500")
    client.start(f"agents/{runnable}", input, run_id=run_id, **more)
    known.started = True
    if what in {"story", "watch"}:
        with client.watch(run_id) as stream:
            for event in stream:
                if event.is_terminal:
                    known.end = event.sequence
                    break
                known.seen = max(known.seen, event.sequence)
                if what == "story" and event.sequence >= 6:
                    break
    if what == "story":
        outcome = client.cancel(run_id, "enough").outcome
        known.stopped = outcome in {CancelOutcome.REQUESTED, CancelOutcome.STOPPED}
    if chance.random() < 0.7:
        run = client.wait(run_id, 0.5)
        known.ended = run if run.state.is_terminal else None


def _check(client: RunClient, run_id: str, known: Known) -> None:
    if not known.started:
        if known.recorded:  # its cancel must still be waiting, or have been taken by its run
            client.start("agents/count", "500", run_id=run_id)
            assert client.wait(run_id, 60).state is RunState.CANCELLED, (
                f"{run_id}: cancel forgotten"
            )
        return
    run = client.wait(run_id, 60)
    assert run.state.is_terminal, f"{run_id} does not end: {run.state}"
    if known.ended is not None:
        assert run == known.ended, f"{run_id} ended in another way: {run} after {known.ended}"
    if known.stopped or known.recorded:
        assert run.state is RunState.CANCELLED, f"{run_id}: an accepted cancel was forgotten: {run}"
    told: list[Event] = list(client.watch(run_id))
    ends = [event for event in told if event.is_terminal]
    assert ends == [told[-1]], f"{run_id} has {len(ends)} ends"
    assert told[-1].sequence == run.last_sequence
    assert known.seen < run.last_sequence, (
        f"{run_id} was shown event {known.seen}, and ends with {run.last_sequence}"
    )
    assert known.end in {None, run.last_sequence}, f"{run_id} has ended twice"
    if run.state is RunState.COMPLETED:
        assert run.output == "".join(f"{n} " for n in range(500)), f"{run_id} lacks text"
