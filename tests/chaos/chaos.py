"""Replicas that are killed, frozen and cut off from a PostgreSQL that fares no better, under load;
and what must hold when it is over.

One seed makes one order of operations and faults; the machine's timing is its own. The replicas'
clocks are ten seconds apart.
"""

import asyncio
import contextlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
from pullcord.client import AsyncRunClient
from pullcord.run.cancel import CancelOutcome
from pullcord.run.errors import PullcordError
from pullcord.run.events import TERMINAL_PAYLOADS
from pullcord.run.record import Decision, Run, SessionPolicy

from tests.chaos.shown import Shown
from tests.postgres import Postgres

_QUIET = 60.0
"""Seconds in which everything must have ended once the faults are over."""


class Replica:
    """One process."""

    def __init__(self, url: str, begun: Path, skew: float) -> None:
        """Its clock is wrong by `skew` seconds."""
        self.address = f"127.0.0.1:{_free_port()}"
        self._command = [
            *(sys.executable, "-m", "tests.chaos.replica"),
            *(url, self.address, str(begun), str(skew)),
        ]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 # closed by `close`
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=self._said, start_new_session=True
        )

    def send(self, number: signal.Signals) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def close(self) -> str:
        for number in (signal.SIGCONT, signal.SIGKILL):
            self.send(number)
        self.process.wait()
        self._said.seek(0)
        words = self._said.read().decode(errors="replace")
        self._said.close()
        return words


def _free_port() -> int:
    """Below the ports that connections take for themselves: a replica must get it back."""
    for port in random.sample(range(20_000, 32_000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise OSError("no port is free between 20000 and 32000")


class Chaos:
    """One run of the test."""

    def __init__(self, postgres: Postgres, seed: int, seconds: float) -> None:
        self._postgres = postgres
        self._random = random.Random(seed)
        self._ends = time.monotonic() + seconds
        self._folder = tempfile.TemporaryDirectory(prefix="pullcord-chaos-")
        self._begun = Path(self._folder.name) / "begun"
        self._replicas: list[Replica] = []
        self._watchers: set[asyncio.Task[None]] = set()
        self.shown: list[Shown] = []
        self.accepted: set[str] = set()
        self.started: list[str] = []
        self.waiting: list[str] = []
        """Runs that wait for a decision, as their store knows."""
        self.decided: set[str] = set()
        """Of those, the ones that somebody has tried to decide about."""
        self.heard: dict[str, set[bool]] = {}
        """Which decisions were accepted."""
        self.counts: Counter[str] = Counter()
        self.violations: list[str] = []

    async def play(self) -> None:
        """All of it."""
        url = self._postgres.url()
        self._replicas = [Replica(url, self._begun, skew) for skew in (-5.0, 0.0, 5.0)]
        try:
            await self._until_all_serve()
            load = [asyncio.create_task(self._load(n)) for n in range(3)]
            await self.faults()
            await asyncio.gather(*load)
            await self._end_all()
            await self._check()
        finally:
            for watcher in self._watchers:
                watcher.cancel()
            self.said = [replica.close() for replica in self._replicas]
            self._folder.cleanup()

    # --- load

    @contextlib.asynccontextmanager
    async def _client(self) -> Any:
        async with AsyncRunClient(self._random.choice(self._replicas).address) as client:
            yield client

    async def _until_all_serve(self) -> None:
        for replica in self._replicas:
            async with AsyncRunClient(replica.address) as client, asyncio.timeout(30):
                while True:
                    with contextlib.suppress(PullcordError):
                        await client.runnables()
                        break
                    await asyncio.sleep(0.1)

    async def _load(self, worker: int) -> None:
        number = 0
        while time.monotonic() < self._ends:
            number += 1
            run_id = f"r{worker}-{number}"
            with contextlib.suppress(PullcordError, TimeoutError):
                async with asyncio.timeout(5):
                    await self._operate(run_id)
            await asyncio.sleep(0.02)

    async def _operate(self, run_id: str) -> None:
        what = self._random.random()
        if what < 0.12:
            await self._ask_somebody(run_id)
            return
        if what < 0.2 and self.waiting:
            await self._decide()
            return
        what = self._random.random()
        words = str(self._random.choice([1, 10, 100, 400]))
        if what < 0.45 or not self.started:
            self.started.append(run_id)
            self._watch(run_id)
            async with self._client() as client:
                await client.start("agents/talk", words, run_id=run_id)
            self.counts["started"] += 1
        elif what < 0.55:  # the same start twice at once
            self.started.append(run_id)
            self._watch(run_id)
            async with self._client() as a, self._client() as b:
                both = [c.start("agents/talk", words, run_id=run_id) for c in (a, b)]
                await asyncio.gather(*both, return_exceptions=True)
            self.counts["started twice"] += 1
        elif what < 0.65:
            self.started.append(run_id)
            async with self._client() as client:
                await client.start(
                    "agents/talk",
                    "20",
                    run_id=run_id,
                    session_id=f"s{self._random.randrange(5)}",
                    session_policy=self._random.choice(list(SessionPolicy)),
                )
            self.counts["in a session"] += 1
        else:
            early = what > 0.95
            target = run_id if early else self._random.choice(self.started[-30:])
            async with self._client() as client:
                receipt = await client.cancel(target, before_start=early)
                if receipt.outcome is not CancelOutcome.ALREADY_FINISHED:
                    self.accepted.add(target)
                self.counts[f"cancel {receipt.outcome}"] += 1
                if early:
                    self.started.append(target)
                    await client.start("agents/talk", words, run_id=target)

    async def _ask_somebody(self, run_id: str) -> None:
        """A run that waits for a decision, from when on its store has that."""
        self._watch(run_id)
        async with self._client() as client:
            await client.start("agents/asks", run_id=run_id)
        self.counts["asked"] += 1
        has = f"select 1 from pullcord.run where run_id = '{run_id}' and continuation is not null"
        while not await self._has(has):  # noqa: ASYNC110 # another process writes it
            await asyncio.sleep(0.05)
        self.waiting.append(run_id)

    async def _has(self, query: str) -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return bool(await self._ask(query))
        return False

    async def _decide(self) -> None:
        """A decision, or two different ones at once."""
        run_id = self._random.choice(self.waiting)
        self.decided.add(run_id)
        made = [Decision("c", approved=True)]
        if self._random.random() < 0.5:
            made.append(Decision("c", note="no"))
        async with self._client() as a, self._client() as b:
            asked = [c.continue_run(run_id, [one]) for c, one in zip((a, b), made, strict=False)]
            answers = await asyncio.gather(*asked, return_exceptions=True)
        heard = [one for one, answer in zip(made, answers, strict=True) if isinstance(answer, Run)]
        if len(heard) > 1:
            self.violations.append(f"{run_id}: two decisions were accepted")
        if heard:
            self.heard.setdefault(run_id, set()).add(heard[0].approved)
            self.counts["decided"] += 1

    def _watch(self, run_id: str) -> None:
        if self._random.random() < 0.5:
            shown = Shown(run_id)
            self.shown.append(shown)
            task = asyncio.create_task(self._follow(shown))
            self._watchers.add(task)
            task.add_done_callback(self._watchers.discard)

    async def _follow(self, shown: Shown) -> None:
        while shown.end is None:
            with contextlib.suppress(PullcordError, TimeoutError):
                async with self._client() as client, asyncio.timeout(4):
                    async for event in client.watch(shown.run_id, shown.last):
                        self.violations += shown.note(event)
            await asyncio.sleep(0.1)

    # --- faults

    async def faults(self) -> None:
        faults = [
            self._kill,
            self._kill,
            self._freeze_briefly,
            self._freeze_for_long,
            self._restart_store,
            self._freeze_store,
            self._kill_while_store_stands_still,
            self._cut_connections,
        ]
        while time.monotonic() < self._ends:
            await asyncio.sleep(self._random.uniform(1.5, 2.5))
            self._revive()
            fault = self._random.choice(faults)
            self.counts[fault.__name__.strip("_")] += 1
            await fault()

    async def rolling_restart(self) -> None:
        """Each replica in turn is asked to stop, does so once its runs have ended, and is back."""
        for replica in self._replicas:
            await asyncio.sleep(1)
            replica.send(signal.SIGTERM)
            await asyncio.to_thread(replica.process.wait, 60)
            self.counts["restarted"] += 1
            replica.start()
            await self._until_all_serve()
        self._ends = time.monotonic()

    def _revive(self) -> None:
        """As whoever supervises processes does: one may have met a store that was away."""
        for replica in self._replicas:
            if replica.process.poll() is not None:
                self.counts["ended by itself"] += 1
                replica.start()

    async def _kill(self) -> None:
        replica = self._random.choice(self._replicas)
        replica.send(signal.SIGKILL)
        await asyncio.to_thread(replica.process.wait)
        await asyncio.sleep(self._random.uniform(0, 1))
        replica.start()

    async def _freeze(self, seconds: float) -> None:
        replica = self._random.choice(self._replicas)
        replica.send(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        replica.send(signal.SIGCONT)

    async def _freeze_briefly(self) -> None:
        await self._freeze(0.7)

    async def _freeze_for_long(self) -> None:
        await self._freeze(3.5)

    async def _restart_store(self) -> None:
        await asyncio.to_thread(self._postgres.stop)
        await asyncio.to_thread(self._postgres.start)

    async def _freeze_store(self) -> None:
        self._postgres.freeze()
        await asyncio.sleep(self._random.choice([0.5, 4.0]))
        self._postgres.thaw()

    async def _kill_while_store_stands_still(self) -> None:
        """What its watchers have seen meanwhile is nowhere but with them."""
        self._postgres.freeze()
        await asyncio.sleep(0.7)
        replica = self._random.choice(self._replicas)
        replica.send(signal.SIGKILL)
        await asyncio.to_thread(replica.process.wait)
        self._postgres.thaw()
        replica.start()

    async def _cut_connections(self) -> None:
        await self._ask(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where application_name like 'pullcord %'"
        )

    # --- the end

    async def _ask(self, query: str) -> list[Any]:
        connection = await asyncpg.connect(self._postgres.url(), timeout=20)
        try:
            return await connection.fetch(query, timeout=20)
        finally:
            await connection.close()

    async def _end_all(self) -> None:
        self._revive()
        await self._until_all_serve()
        async with asyncio.timeout(_QUIET):
            while rows := await self._ask(
                "select run_id from pullcord.run where state between 1 and 4"
            ):
                for row in rows:
                    with contextlib.suppress(PullcordError, TimeoutError):
                        async with self._client() as client, asyncio.timeout(4):
                            receipt = await client.cancel(row["run_id"])
                            if receipt.outcome is not CancelOutcome.ALREADY_FINISHED:
                                self.accepted.add(row["run_id"])
                await asyncio.sleep(0.3)
        known = {row["run_id"] for row in await self._ask("select run_id from pullcord.run")}
        for shown in self.shown:
            if shown.run_id not in known:
                shown.end = (0, "never started")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(20):
                await asyncio.gather(*self._watchers)

    async def _check(self) -> None:
        wrong = self.violations.append
        runs = {
            row["run_id"]: row
            for row in await self._ask("select * from pullcord.run where state > 0")
        }
        names = {row["id"]: run_id for run_id, row in runs.items()}
        events: dict[str, list[Any]] = {}
        for event in await self._ask("select id, prev, seq from pullcord.event order by id, prev"):
            if event["id"] in names:
                events.setdefault(names[event["id"]], []).append(event)
        for run_id, run in runs.items():
            if run["state"] < 5:
                wrong(f"{run_id} has not ended: state {run['state']}")
            chain = events.get(run_id, [])
            if not chain or chain[-1]["seq"] != run["last_seq"]:
                wrong(f"{run_id}: its last event is not its end")
            holes = [b for a, b in zip(chain, chain[1:]) if b["prev"] != a["seq"]]  # noqa: B905, RUF007
            if any(hole is not chain[-1] for hole in holes):
                wrong(f"{run_id}: there is a hole in its events")
            if run_id in self.accepted and run["state"] != 6:
                wrong(f"{run_id}: its cancel was accepted, and it ended in state {run['state']}")
        for shown in self.shown:
            if shown.run_id not in runs:
                continue
            end = runs[shown.run_id]["last_seq"]
            if shown.end is None:
                wrong(f"{shown.run_id}: a watcher did not see its end")
            elif shown.end[0] != end:
                wrong(f"{shown.run_id}: end {shown.end} was shown, and the store has {end}")
            if any(number >= end for number in shown.numbers[:-1]):
                wrong(f"{shown.run_id}: something at or above its end {end} was shown")
        begun = Counter(self._begun.read_text().split())
        self._check_pauses(runs, begun)
        for run_id, times in begun.items():
            if times > 1:
                wrong(f"{run_id} was executed {times} times")
        for row in runs.values():
            self.counts[{5: "completed", 6: "cancelled", 7: "lost"}.get(row["state"], "live")] += 1
        self.counts["watched"] = len(self.shown)
        assert TERMINAL_PAYLOADS

    def _check_pauses(self, runs: dict[str, Any], begun: Counter[str]) -> None:
        """A run that waits is not lost, whatever dies; and goes on by one decision, once."""
        wrong = self.violations.append
        for run_id in self.waiting:
            state, paid = runs[run_id]["state"], begun[f"{run_id}-paid"]
            if run_id not in self.decided and state != 6:
                wrong(f"{run_id} waited until it was cancelled, and ended in state {state}")
            heard = self.heard.get(run_id, set())
            if len(heard) > 1:
                wrong(f"{run_id}: two different decisions were accepted")
            if paid and heard == {False}:
                wrong(f"{run_id} was declined, and paid")
            if state == 5 and heard == {True} and not paid:
                wrong(f"{run_id} was approved, and completed without paying")
        self.counts["waited"] = sum(run_id not in self.decided for run_id in self.waiting)
