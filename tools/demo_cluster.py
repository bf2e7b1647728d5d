"""`make demo-cluster`: two replicas of `pullcord serve` on one PostgreSQL, and what that brings.

It starts a PostgreSQL of its own in a temporary folder, from the system's package. No Docker.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass

from pullcord.client import RunClient
from pullcord.run.events import ContentDelta

from tests.postgres import Postgres, programs

_WORDS = 40


@dataclass
class Replica:
    """One `pullcord serve`, and its address."""

    name: str
    process: "subprocess.Popen[str]"
    address: str


def main() -> None:
    """Shows it all, and leaves nothing behind."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if programs() is None:
        raise SystemExit("this needs PostgreSQL (Debian: apt-get install postgresql)")
    with contextlib.closing(Postgres()) as postgres, contextlib.ExitStack() as replicas:
        store = postgres.url()
        print(f"PostgreSQL is up: {store}")
        a = replicas.enter_context(_serving("A", store))
        b = replicas.enter_context(_serving("B", store))
        at_a = replicas.enter_context(RunClient(a.address, actor="the reader"))
        at_b = replicas.enter_context(RunClient(b.address, actor="the editor"))
        _stop_through_the_other(at_a, at_b)
        _lose_a_replica(a, at_a, at_b)


def _stop_through_the_other(at_a: RunClient, at_b: RunClient) -> None:
    _head("1. A story is told by replica A, and stopped through replica B")
    stream = at_a.run("agents/storyteller", "a lighthouse that hums", run_id="demo-story")
    words, stopped = 0, False
    for event in stream:
        if isinstance(event.payload, ContentDelta):
            print(event.payload.text, end="", flush=True)
            words += len(event.payload.text.split())
        if words >= _WORDS and not stopped:
            stopped = True
            receipt = at_b.cancel("demo-story", "that will do", wait=5)
    run = at_b.get("demo-story")
    assert run.cancellation is not None
    print(
        f"\n\nB answered {receipt.outcome.name}, and {_ms(receipt.stop_time, receipt.accept_time)}"
    )
    print(f"later the run had stopped at A: {run.state.name}, by {run.cancellation.actor}.")
    print(f"B has all {len(run.output.split())} words of it, and lists it as A does:")
    for listed in at_b.list():
        print(f"  {listed.run_id}  {listed.runnable}  {listed.state.name}")


def _lose_a_replica(a: Replica, at_a: RunClient, at_b: RunClient) -> None:
    _head("2. Replica A is killed with -9 while it counts; B is watching")
    at_a.start("agents/counter", "1000", run_id="demo-count")
    begun = killed = 0.0
    for event in at_b.watch("demo-count"):
        begun = begun or time.monotonic()
        if isinstance(event.payload, ContentDelta):
            print(event.payload.text, end="", flush=True)
        if not killed and time.monotonic() - begun > 2:
            os.kill(a.process.pid, signal.SIGKILL)
            killed = time.monotonic()
            print("\n\nkilled; the others notice when it has not beaten for 10 s …", flush=True)
    run = at_b.get("demo-count")
    assert run.cancellation is not None
    print(
        f"\n{time.monotonic() - killed:.0f} s later the run has ended {run.state.name}, cause",
        end="",
    )
    print(f" {run.cancellation.cause.name}, and its text is kept:\n“{run.output}”")


@contextlib.contextmanager
def _serving(name: str, store: str) -> Iterator[Replica]:
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "pullcord", "serve", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            start_new_session=True,
            env=os.environ | {"PULLCORD_STORE": store},
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if process.poll() is not None or not line:
                said.seek(0)
                raise SystemExit(f"replica {name} did not start: {said.read()}")
            replica = Replica(name, process, line.split()[-1])
            print(f"Replica {name} is up on {replica.address}")
            yield replica
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _ms(later: float, earlier: float) -> str:
    return f"{(later - earlier) * 1000:.0f} ms"


def _head(title: str) -> None:
    print(f"\n{title}\n", flush=True)


if __name__ == "__main__":
    main()
