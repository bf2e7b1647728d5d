"""A process with many live logs, and the journal that brings what they make to a store.

It answers with how much was stored in how long, again and again, until it is ended.
"""

import gc
import json
import sys
import threading
import time

from pullcord.engine.clock import ThreadClock
from pullcord.engine.journal import Journal
from pullcord.engine.live.live import LiveRun
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import LOCAL, CancelRequest, RunStore
from pullcord.run.cancel import Cancellation
from pullcord.run.record import DisconnectPolicy, RunSpec
from pullcord.stores.opening import open_store

from tests.bench.process import answer, end_with_parent

TICKS = 20
TEXT = "x" * 150
"""With its envelope, about 200 bytes."""


def main() -> None:
    end_with_parent()
    gc.set_threshold(10_000)  # as a server does
    job = json.loads(sys.argv[1])
    clock, options = ThreadClock(), EngineOptions()
    store = open_store(job["store"], clock, options).store
    journal = Journal(store, options)
    lives = [_live(store, clock, options, n) for n in range(job["logs"])]
    for live in lives:
        journal.add(live)
    store.admit(LOCAL, RunSpec("agents/a", run_id="stopped"))
    _wait(journal, lives)
    gc.freeze()
    while True:
        stops: list[float] = []
        over = threading.Event()
        thread = threading.Thread(target=_stop, args=(store, stops, over))
        thread.start()
        begun = time.perf_counter()
        for _ in range(TICKS):
            for live in lives:
                live.log.write(TEXT)
            _wait(journal, lives)
        seconds = time.perf_counter() - begun
        over.set()
        thread.join()
        answer({"records": TICKS * len(lives), "seconds": seconds, "stops": stops})


def _live(store: RunStore, clock: ThreadClock, options: EngineOptions, n: int) -> LiveRun:
    spec = RunSpec("agents/a", run_id=f"r{n}")
    store.admit(LOCAL, spec)
    return LiveRun(
        spec,
        options=options,
        clock=clock,
        policy=DisconnectPolicy.CONTINUE,
        on_end=lambda live: None,
        on_abandon=lambda live, stack: None,
        reserved=256,
        holds_end=True,
    )


def _wait(journal: Journal, lives: list[LiveRun]) -> None:
    """Until the store has all that was written."""
    for live in reversed(lives):
        assert journal.wait_written(live, 60.0)


def _stop(store: RunStore, took: list[float], over: threading.Event) -> None:
    """Records stops, one after the other, with a pause."""
    request = CancelRequest(Cancellation(actor="bench"))
    while not over.wait(0.01):
        begun = time.perf_counter()
        store.request_stop(LOCAL, "stopped", request, before_start=False)
        took.append(time.perf_counter() - begun)


if __name__ == "__main__":
    main()
