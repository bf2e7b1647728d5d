"""Workers elsewhere that are killed, frozen and cut off, and a control process that fares no
better, under load; and what must hold when it is over.

One seed makes one order of operations and faults; the machine's timing is its own. All processes
are real, and there is a network between the workers and their server.
"""

import asyncio
import contextlib
import os
import random
import shlex
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pullcord.client import AsyncRunClient
from pullcord.executors.processes import WORKER_MARK, descendants, marked
from pullcord.run.cancel import CancelMode, CancelOutcome
from pullcord.run.errors import PullcordError, RunNotFound
from pullcord.run.events import RunCancelled, RunCompleted, RunFailed
from pullcord.run.record import Decision
from pullcord.run.state import RunState

from tests.chaos.elsewhere_app import BEGUN
from tests.chaos.shown import Shown
from tests.cli.commands import PULLCORD, environment
from tests.executors.workers.network import Network

LEASE = 2.0
_BELOW, _BEYOND = (0.2, 1.2), (4.0, 6.0)
"""Seconds that a fault lasts. Between the two, the machine decides who is first."""
_QUIET = 120.0
"""Seconds in which everything must have ended once the faults are over."""
_MARK = "CHAOS_MARK"
"""A variable that all processes have which descend from the server."""
_APP = Path(__file__).with_name("elsewhere_app.py")


@dataclass
class _Started:
    """What is known of one run beside what its watchers were shown."""

    kind: str
    confirmed: bool = False
    """Whether a server has said that it has it."""
    stopped: bool = False
    """Whether a cancel was accepted."""
    decided: bool | None = None
    """What was decided, if a server has said so."""


class Elsewhere:
    """One run of the test."""

    def __init__(self, seed: int, seconds: float) -> None:
        self._random = random.Random(seed)
        self._seconds = seconds
        self._folder = tempfile.TemporaryDirectory(prefix="pullcord-chaos-")
        self._begun = Path(self._folder.name) / "begun"
        self._begun.touch()
        self._mark = uuid.uuid4().hex
        self._network = Network()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `play`
        self._frozen: set[int] = set()
        """Processes that were frozen at some time."""
        self._server: subprocess.Popen[bytes] | None = None
        self._clients = contextlib.AsyncExitStack()
        self._client: AsyncRunClient
        """Of the server that serves now, or is about to."""
        self._serves = asyncio.Event()
        self._started: dict[str, _Started] = {}
        self._shown: list[Shown] = []
        self._watchers: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []
        self.said: list[str] = []

    async def play(self) -> None:
        """All of it."""
        try:
            self._start()
            await self._until_it_serves()
            self._ends = time.monotonic() + self._seconds
            load = [asyncio.create_task(self._load(n)) for n in range(2)]
            await self._faults()
            await asyncio.gather(*load)
            await self._end_all()
            await self._check_runs()
            await self._check_processes()
        finally:
            for watcher in self._watchers:
                watcher.cancel()
            await self._clients.aclose()
            self._close()

    # --- the server

    def _start(self) -> None:
        worker = [*PULLCORD, "worker", f"{_APP}:server", "--connect"]
        worker.append(f"127.0.0.1:{self._network.port}")
        if self._random.random() < 0.7:
            # As on another machine: a kill of the command does not reach it.
            words = shlex.join(["env", "-u", WORKER_MARK, "setsid", *worker])
            worker = ["sh", "-c", f"({words} &) ; exec sleep 600"]
        listen = f"127.0.0.1:{self._network.target}"
        given = {
            BEGUN: str(self._begun),
            _MARK: self._mark,
            "PULLCORD_STORE": "runs.db",
            "PULLCORD_LISTEN": self._address,
            "PULLCORD_WORKERS": "2",
            "PULLCORD_MAX_POOL_WORKERS": "2",
            "PULLCORD_DRAIN_TIME": "1",
            "PULLCORD_WORKER_COMMAND": shlex.join(worker),
            "PULLCORD_WORKER_LISTEN": listen,
            "PULLCORD_WORKER_LEASE": str(LEASE),
            "PULLCORD_ENGINE__ABANDON_AFTER": "0.5",
            "PULLCORD_ENGINE__GRACE_PERIOD": "1",
            "PULLCORD_ENGINE__MAX_FINISHED_BYTES": str(2**40),  # all are looked at in the end
        }
        self._server = subprocess.Popen(
            [*PULLCORD, "serve", f"{_APP}:server"],
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            env=environment(**given),
            cwd=self._folder.name,
            start_new_session=True,
        )

    async def _until_it_serves(self) -> None:
        async with asyncio.timeout(_QUIET):
            while True:
                assert self._server is not None
                if self._server.poll() is not None:  # as whoever supervises processes does
                    self.counts["ended by itself"] += 1
                    self._start()
                # One that knows nothing of the failures of earlier ones at that address.
                options = [("grpc.use_local_subchannel_pool", 1)]
                client = AsyncRunClient(self._address, options=options)
                self._client = await self._clients.enter_async_context(client)
                with contextlib.suppress(PullcordError, TimeoutError):
                    async with asyncio.timeout(5):
                        await self._client.runnables()
                        self._serves.set()
                        return
                await asyncio.sleep(0.2)

    async def _kill_the_server(self) -> None:
        assert self._server is not None
        self._serves.clear()
        self._server.kill()
        await asyncio.to_thread(self._server.wait)

    def _close(self) -> None:
        self._network.close()
        for pid in marked(_MARK, self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._server is not None:
            self._server.wait()
        self._said.seek(0)
        self.said = [self._said.read().decode(errors="replace")]
        self._said.close()
        self._folder.cleanup()

    # --- load

    async def _load(self, place: int) -> None:
        number = 0
        while time.monotonic() < self._ends:
            number += 1
            try:
                await self._serves.wait()
                async with asyncio.timeout(10):
                    await self._operate(self._client, f"r{place}-{number}")
            except (PullcordError, TimeoutError) as error:
                self.counts[f"heard {type(error).__name__}"] += 1
            await asyncio.sleep(0.3)

    async def _operate(self, client: AsyncRunClient, run_id: str) -> None:
        what = self._random.random()
        waiting = [id for id, one in self._started.items() if one.kind == "agents/asks"]
        if what < 0.2 and waiting:
            await self._decide(client, self._random.choice(waiting[-20:]))
        elif what < 0.4 and self._started:
            await self._cancel(client, self._random.choice(list(self._started)[-15:]))
        else:
            kind = self._random.choice(
                ["agents/tells"] * 3
                + ["agents/alone", "agents/heavy", "agents/floods", "agents/waits", "agents/asks"]
                + ["workflows/both"]
            )
            words = str(self._random.choice([1, 20, 100, 300]))
            self._started[run_id] = _Started(kind)
            if self._random.random() < 0.7:
                self._watch(run_id)
            await client.start(kind, words, run_id=run_id)
            self._started[run_id].confirmed = True
            self.counts[f"started {kind}"] += 1

    async def _cancel(self, client: AsyncRunClient, run_id: str) -> None:
        mode = self._random.choice(list(CancelMode))
        with contextlib.suppress(RunNotFound):
            receipt = await client.cancel(run_id, mode=mode)
            if receipt.outcome is not CancelOutcome.ALREADY_FINISHED:
                self._started[run_id].stopped = True
            self.counts[f"cancel {receipt.outcome}"] += 1

    async def _decide(self, client: AsyncRunClient, run_id: str) -> None:
        approved = self._random.random() < 0.5
        note = "" if approved else "no"
        await client.continue_run(run_id, [Decision("c", approved=approved, note=note)])
        if self._started[run_id].decided is None:
            self._started[run_id].decided = approved
        self.counts["decided"] += 1

    def _watch(self, run_id: str) -> None:
        shown = Shown(run_id)
        self._shown.append(shown)
        task = asyncio.create_task(self._follow(shown))
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)

    async def _follow(self, shown: Shown) -> None:
        while shown.end is None:
            await self._serves.wait()
            with contextlib.suppress(PullcordError, TimeoutError):
                async with asyncio.timeout(10):
                    async for event in self._client.watch(shown.run_id, shown.last):
                        self.violations += shown.note(event)
            await asyncio.sleep(0.2)

    # --- faults

    async def _faults(self) -> None:
        faults = [
            self._kill_worker,
            self._kill_link,
            self._kill_guard,
            self._freeze_worker,
            self._freeze_link,
            self._freeze_machine,
            self._freeze_server,
            self._kill_server,
            self._cut,
            self._refuse,
            self._partition,
            self._kill_server_in_a_partition,
        ]
        while time.monotonic() < self._ends:
            self._random.shuffle(faults)
            for fault in faults:
                await asyncio.sleep(self._random.uniform(0.5, 2.5))
                if time.monotonic() > self._ends:
                    return
                name = fault.__name__.strip("_")
                self.counts[name] += 1
                os.write(self._said.fileno(), f"{datetime.now(UTC)} --- {name}\n".encode())
                await fault()

    def _find(self, words: str) -> Iterator[int]:
        """Processes of ours whose command line has these words."""
        for pid in marked(_MARK, self._mark):
            if words in _command_of(pid):
                yield pid

    def _one(self, words: str) -> list[int]:
        found = sorted(self._find(words))
        return [self._random.choice(found)] if found else []

    def _length(self) -> float:
        return self._random.uniform(*self._random.choice([_BELOW, _BEYOND]))

    async def _kill(self, pids: list[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def _kill_worker(self) -> None:
        await self._kill(self._one("-m pullcord.worker "))

    async def _kill_link(self) -> None:
        await self._kill(self._one("-m pullcord worker "))

    async def _kill_guard(self) -> None:
        """Until it is replaced, nobody sees to what it guards: so nothing else is killed."""
        guards = "-m pullcord.executors.guard "
        before = set(self._find(guards))
        await self._kill(self._one(guards))
        with contextlib.suppress(TimeoutError):  # what it guarded may be gone meanwhile
            async with asyncio.timeout(10):
                while set(self._find(guards)) <= before:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

    async def _freeze(self, pids: list[int]) -> None:
        self._send(pids, signal.SIGSTOP)
        await asyncio.sleep(self._length())
        self._send(pids, signal.SIGCONT)

    def _send(self, pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _freeze_worker(self) -> None:
        pids = self._one("-m pullcord.worker ")
        self._frozen |= set(pids)
        await self._freeze(pids)

    async def _freeze_link(self) -> None:
        await self._freeze(self._one("-m pullcord worker "))

    async def _freeze_machine(self) -> None:
        """All of one worker's."""
        pids = self._one("-m pullcord worker ")
        for pid in list(pids):
            pids += descendants(pid)
        self._frozen |= set(pids)
        await self._freeze(pids)

    async def _freeze_server(self) -> None:
        assert self._server is not None
        await self._freeze([self._server.pid])

    async def _kill_server(self) -> None:
        await self._kill_the_server()
        await asyncio.sleep(self._random.uniform(0.0, 0.5))
        self._start()
        await self._until_it_serves()

    async def _cut(self) -> None:
        """Both ends hear it, and may come back at once; several times."""
        for _ in range(self._random.randrange(1, 6)):
            self._network.cut()
            await asyncio.sleep(self._random.uniform(0.0, 0.3))

    async def _refuse(self) -> None:
        self._network.cut(for_good=True)
        await asyncio.sleep(self._length())
        self._network.restore()

    async def _partition(self) -> None:
        """No end hears of it."""
        self._network.swallow()
        await asyncio.sleep(self._length())
        self._network.restore()

    async def _kill_server_in_a_partition(self) -> None:
        """What the workers have said meanwhile reaches nobody."""
        self._network.swallow()
        await asyncio.sleep(self._random.uniform(*_BELOW))
        await self._kill_the_server()
        self._network.restore()
        self._start()
        await self._until_it_serves()

    # --- the end

    async def _end_all(self) -> None:
        """Everything that lives is stopped; a run that nobody knows was never started."""
        await self._until_it_serves()
        left, client = dict(self._started), self._client
        async with asyncio.timeout(_QUIET):
            while left:
                for run_id in list(left):
                    try:
                        run = await client.get(run_id)
                        if run.state.is_terminal:
                            del left[run_id]
                        else:
                            await self._cancel(client, run_id)
                    except RunNotFound:
                        if left.pop(run_id).confirmed:
                            self.violations.append(f"{run_id} was started, and nobody knows it")
                        del self._started[run_id]
                    except PullcordError:
                        await asyncio.sleep(0.3)
                await asyncio.sleep(0.2)
        self._shown = [shown for shown in self._shown if shown.run_id in self._started]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_QUIET):
                while any(shown.end is None for shown in self._shown):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

    async def _check_runs(self) -> None:
        lines = [line.split() for line in self._begun.read_text().splitlines()]
        begun = Counter(tuple(words[:2]) for words in lines if words[0] != "at")
        for (what, run_id), times in begun.items():
            if times > 1:
                self.violations.append(f"{run_id} {what} {times} times")
        latest = {words[1]: (float(words[2]), int(words[3])) for words in lines if words[0] == "at"}
        stored: dict[str, Shown] = {}
        for run_id, known in self._started.items():
            stored[run_id] = await self._check_run(run_id, known, latest.get(run_id))
            if known.decided is False and begun["paid", run_id]:
                self.violations.append(f"{run_id} was declined, and paid")
        for shown in self._shown:
            self._check_shown(shown, stored[shown.run_id])

    async def _check_run(
        self, run_id: str, known: _Started, at_work: tuple[float, int] | None
    ) -> Shown:
        """What is kept of one run."""
        wrong = self.violations.append
        run, told = await self._client.get(run_id), Shown(run_id)
        async for event in self._client.watch(run_id):
            if told.end is not None:
                wrong(f"{run_id}: {event} came after its end")
            self.violations += told.note(event)
        end = event.payload
        assert isinstance(end, RunCompleted | RunCancelled | RunFailed)
        if told.end is None or told.end[0] != run.last_sequence:
            wrong(f"{run_id}: its last event is not its end")
        lost = isinstance(end, RunFailed) and end.cancellation is not None
        if told.gaps > (lost or isinstance(end, RunCancelled)):  # its server has died
            wrong(f"{run_id}: there is a gap in its events, and it ended as {told.end}")
        if not told.gaps and known.kind.startswith("agents/") and end.output != told.text:
            wrong(f"{run_id}: its output is not what its deltas say: {end.output[-80:]!r}")
        if known.stopped and run.state is not RunState.CANCELLED:
            wrong(f"{run_id}: its cancel was accepted, and it ended {run.state}")
        if isinstance(end, RunFailed) and not lost and end.error.type != "WorkerDied":
            wrong(f"{run_id} failed of something else: {end.error}")
        if isinstance(end, RunFailed) and not lost and at_work is not None:
            seconds, pid = at_work
            if seconds > event.create_time and pid not in self._frozen:
                late = seconds - event.create_time
                wrong(f"{run_id} was at work {late:.2f} s after its end: {end.error.message}")
        words = "lost" if lost else str(run.state)
        self.counts[f"ended {words}"] += 1
        return told

    def _check_shown(self, shown: Shown, stored: Shown) -> None:
        """What one watcher was shown of it."""
        wrong = self.violations.append
        if shown.end is None:
            wrong(f"{shown.run_id}: a watcher did not see its end")
        elif shown.end != stored.end:
            wrong(f"{shown.run_id}: end {shown.end} was shown, and {stored.end} is kept")
        if not shown.gaps and not stored.gaps and shown.text != stored.text:
            wrong(f"{shown.run_id}: a watcher was shown another text than is kept")
        self.counts["watched"] += 1

    async def _check_processes(self) -> None:
        """Whatever was killed and cut, no process stays behind."""
        assert self._server is not None
        self._server.terminate()
        try:
            code = await asyncio.to_thread(self._server.wait, _QUIET)
        except subprocess.TimeoutExpired:
            self.violations.append("the server does not end")
            return
        if code != 0:
            self.violations.append(f"the server ended with exit code {code}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_QUIET):
                while marked(_MARK, self._mark):  # noqa: ASYNC110 # nobody announces it
                    await asyncio.sleep(0.1)
        for pid in marked(_MARK, self._mark):
            self.violations.append(f"process {pid} was left behind: {_command_of(pid)}")


def _command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""
