"""A process beside the benchmark's own: started, asked, weighed, and always ended.

Both sides of its pipes are here: a child answers in lines of JSON on stdout, and ends when its
stdin does, so that none outlives a benchmark that was killed. What a child does is its module's.
"""

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

_PATIENCE = 60.0
"""Seconds after which a child that does not answer is given up."""


class Child:
    """`async with Child(module) as child:` one process, running one module of this package."""

    def __init__(
        self,
        module: str,
        job: object = None,
        python: str | Path = sys.executable,
        **settings: object,
    ) -> None:
        self._command = [str(python), "-m", f"tests.bench.{module}", json.dumps(job)]
        self._environment = os.environ | {
            f"PULLCORD_{name.upper()}": str(value) for name, value in settings.items()
        }

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            limit=2**24,
        )
        self._weighed = psutil.Process(self._process.pid)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def answer(self) -> Mapping[str, Any]:
        """The next line that the child says."""
        assert self._process.stdout is not None
        async with asyncio.timeout(_PATIENCE):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._command[2]} ended early")
        answer: Mapping[str, Any] = json.loads(line)
        return answer

    async def tell(self, word: str) -> None:
        """Says a line to a child that listens (`asked`)."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n".encode())
        await self._process.stdin.drain()

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.returncode is not None

    # --- weighing

    def cpu(self) -> float:
        """Seconds of processor time that it has used so far, without its workers."""
        return _cpu(self._weighed)

    def workers_cpu(self) -> float:
        """The same of the processes that it has started, also of those that have ended."""
        ended = self._weighed.cpu_times()
        living = sum(map(_cpu, self._weighed.children(recursive=True)))
        return living + float(ended.children_user + ended.children_system)

    def memory(self) -> int:
        """Bytes of memory resident now, without its workers."""
        resident: int = self._weighed.memory_info().rss
        return resident

    def workers_memory(self) -> int:
        """The same of the processes that it has started."""
        return sum(each.memory_info().rss for each in self._weighed.children(recursive=True))

    def threads(self) -> int:
        """Threads now."""
        return self._weighed.num_threads()

    def files(self) -> int:
        """File descriptors open now."""
        return self._weighed.num_fds()


def _cpu(process: psutil.Process) -> float:
    if sys.platform == "linux":
        # The clock of another process, in nanoseconds; /proc counts in hundredths of a second.
        return time.clock_gettime((~process.pid << 3) | 2)
    times = process.cpu_times()
    return float(times.user + times.system)


# --- the child's side


def answer(answer: Mapping[str, object]) -> None:
    """Says a line to the benchmark."""
    print(json.dumps(answer), flush=True)


def end_with_parent() -> None:
    """Ends this process, in whatever state it is, when the benchmark has gone."""

    def wait() -> None:
        sys.stdin.buffer.read()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()


async def asked() -> AsyncIterator[str]:
    """What the benchmark says, line by line; ends this process when the benchmark has gone."""
    loop, words = asyncio.get_running_loop(), asyncio.Queue[str]()

    def wait() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(words.put_nowait, line.strip())
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
    while True:
        yield await words.get()
