"""Many runs through one control process whose workers are replaced, and what that leaves behind.

The same seed plays the same runs. What is measured is printed; what must be flat is checked by the
caller, since only it knows how long the soak was.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from pullcord.client import AsyncRunClient
from pullcord.run.cancel import CancelMode
from pullcord.run.record import RunFilter
from pullcord.run.state import RunState

_TOGETHER = 16
"""Runs at a time."""


@dataclass(frozen=True)
class Weight:
    """What the control process holds, and below it the worker that is alive now."""

    runs: int
    mebibytes: float
    threads: int
    descriptors: int
    children: int
    """Processes, zombies included."""
    worker_mebibytes: float
    worker_threads: int
    worker_descriptors: int
    worker_pid: int
    """Weights of a worker can be compared only as long as it is the same one."""


class Soak:
    """One server, under load."""

    def __init__(self, process: "subprocess.Popen[str]", address: str, seed: int) -> None:
        self._control = psutil.Process(process.pid)
        self._address = address
        self._random = random.Random(seed)
        self.ends: dict[str, int] = {}
        self.deaths = 0

    def _workers(self) -> list[psutil.Process]:
        """Beside them the control process has a guard, which ends them if it dies."""
        found = []
        for child in self._control.children():
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if "pullcord.worker" in child.cmdline():
                    found.append(child)
        return found

    def weight(self, runs: int) -> Weight:
        (worker,) = self._workers()
        with self._control.oneshot(), worker.oneshot():
            return Weight(
                runs,
                self._control.memory_info().rss / 2**20,
                self._control.num_threads(),
                self._control.num_fds(),
                len(self._control.children()),
                worker.memory_info().rss / 2**20,
                worker.num_threads(),
                worker.num_fds(),
                worker.pid,
            )

    async def play(
        self,
        count: int,
        rounds: int,
        deaths: int,
        pause: float = 0.5,
        on_round: Callable[[Weight], None] = lambda weight: None,
    ) -> list[Weight]:
        """Plays so many runs; the weights after each of the rounds, in which workers die.

        `on_round` is called with each weight as it is taken.

        A worker that dies within ten seconds is started again later and later, so a long soak
        leaves a longer `pause`, in seconds, before each death.
        """
        found = []
        async with AsyncRunClient(self._address) as client:
            for number in range(rounds):
                lanes = [self._lane(client, count // rounds // _TOGETHER) for _ in range(_TOGETHER)]
                await asyncio.gather(self._replace(client, deaths, pause), *lanes)
                await self._settled(client)
                found.append(self.weight((number + 1) * (count // rounds)))
                on_round(found[-1])
        return found

    async def _lane(self, client: AsyncRunClient, count: int) -> None:
        for number in range(count):
            name = self._random.choice(("thread", "task", "parent", "waits"))
            run = await client.start(f"agents/{name}", str(number))
            if name == "waits":
                await client.cancel(run.run_id, mode=self._random.choice(list(CancelMode)))
            run = await client.wait(run.run_id, 60)
            ended = run.error.type if run.error is not None else run.state.value
            self.ends[ended] = self.ends.get(ended, 0) + 1

    async def _replace(self, client: AsyncRunClient, deaths: int, pause: float) -> None:
        """Workers are killed, and one is retired with code that does not stop."""
        for number in range(deaths):
            await asyncio.sleep(pause * self._random.uniform(0.8, 1.2))
            if number % 2:
                run = await client.start("agents/clings", "")
                while (await client.get(run.run_id)).state is RunState.PENDING:
                    await _a_moment()
                await client.cancel(run.run_id, mode=CancelMode.IMMEDIATE, wait=30)
            else:
                for worker in self._workers():
                    os.kill(worker.pid, signal.SIGKILL)
            self.deaths += 1

    async def _settled(self, client: AsyncRunClient) -> None:
        """Until no run is live, and no process is there but the worker and the guard."""
        live = RunFilter(states=frozenset(s for s in RunState if not s.is_terminal))
        while (
            [r async for r in client.list(live)]
            or len(self._workers()) != 1
            or len(self._control.children()) != 2  # one that died may not have been waited for yet
        ):
            await _a_moment()


async def _a_moment() -> None:
    """Another process's doings are not announced: one looks again and again."""
    await asyncio.sleep(0.02)


@contextmanager
def served(seed: int, **variables: str) -> Iterator[Soak]:
    """A real `pullcord serve`, which keeps few ended runs, so that what grows is seen."""
    environment = os.environ | {
        "PULLCORD_ENGINE__MAX_FINISHED_RUNS": "500",
        "PULLCORD_ENGINE__ABANDON_AFTER": "0.3",
        "PULLCORD_LOG_LEVEL": "error",
        **variables,
    }
    target = f"{Path(__file__).with_name('app.py')}:server"
    process = subprocess.Popen(
        [sys.executable, "-m", "pullcord", "serve", target, "--listen", "127.0.0.1:0", "--json"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Soak(process, json.loads(process.stdout.readline())["address"], seed)
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
