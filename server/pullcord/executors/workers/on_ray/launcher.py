"""The launcher whose workers are placed by Ray, by way of a helper process.

A worker has its own link back, as one that a command has started. Its stop goes there, and so never
waits for Ray, or for the helper. A helper that dies is started again with the next worker.
"""

import importlib.util
import itertools
import json
import logging
import os
import platform
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from pullcord import lines
from pullcord.executors.workers.linked import LinkedLauncher, LinkObserver
from pullcord.executors.workers.on_ray.options import RayOptions
from pullcord.executors.workers.on_ray.placed import Placed
from pullcord.executors.workers.on_ray.sources import fingerprint
from pullcord.executors.workers.process import ROOT, Process, start_process
from pullcord.extras import missing
from pullcord.link.greeting import Ticket
from pullcord.run.resources import Resources

_log = logging.getLogger("pullcord.workers")

HELPER = "pullcord.worker.on_ray.helper"
"""The module that is started: it imports Ray, and this process does not."""
_LEAVING = 3.0
"""Seconds that the helper has to end."""


def expected(target: str) -> dict[str, str]:
    """What a worker must have, too."""
    return {
        "Pullcord": version("pullcord"),
        "Python": platform.python_version(),
        "module": fingerprint(target),
    }


@dataclass(frozen=True)
class _Helper:
    """The process that speaks with Ray, and the workers that it has placed."""

    process: Process
    orders: socket.socket
    workers: dict[int, Placed] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)
    """Set once it has ended."""


class RayLauncher(LinkedLauncher):
    """Has Ray place an actor for each worker."""

    may_wait = True

    def __init__(
        self, target: str, options: RayOptions, listen: str, lease: float, observer: LinkObserver
    ) -> None:
        """`target` is what workers import. The rest is as for a LinkedLauncher."""
        super().__init__(listen, lease, observer)
        self._target = target
        self._options = options
        self._numbers = itertools.count(1)
        self._starting = threading.Lock()
        """Held for long, while the helper is started; the other only for a moment."""
        self._lock = threading.Lock()
        self._helper: _Helper | None = None

    def open(self) -> None:
        """Listens for workers. Raises OSError, and MissingExtra."""
        if importlib.util.find_spec("ray") is None:
            raise missing("--launcher ray", "ray", ModuleNotFoundError(name="ray"))
        super().open()

    def check(self, resources: Resources) -> None:
        """What there is, or may come, Ray knows: a run waits until it has placed a worker."""

    def begin(self, ours: socket.socket, ticket: Ticket, resources: Resources | None) -> Placed:
        """Asks for an actor. It may be long in coming, if the cluster has no room."""
        wanted = resources or Resources(cpu=self._options.cpu)
        worker = Placed(next(self._numbers), ours, self._kill)
        host, _, port = self.address.rpartition(":")
        order = {
            "start": worker.pid,
            "cpu": wanted.cpu,
            "gpu": wanted.gpu,
            "memory": wanted.memory_bytes,
            "address": (host.strip("[]"), int(port)),
            "ticket": str(ticket),
            "expected": expected(self._target),
        }
        with self._starting:
            helper = self._helper or self._start_helper()
            with self._lock:
                self._helper = helper
                helper.workers[worker.pid] = worker
        self._order(helper, order)
        return worker

    def _kill(self, number: int) -> None:
        with self._lock:
            helper = self._helper
            if helper is None or helper.workers.pop(number, None) is None:
                return
        self._order(helper, {"kill": number})

    def close(self) -> None:
        """The helper ends, and Ray ends what it still has of it."""
        with self._lock:
            helper, self._helper = self._helper, None
        if helper is not None:
            with suppress(OSError):
                helper.orders.shutdown(socket.SHUT_WR)
            if not helper.over.wait(_LEAVING):
                helper.process.kill()
                helper.over.wait()
        super().close()

    # --- the helper

    def _start_helper(self) -> _Helper:
        ours, theirs = socket.socketpair()
        path = os.environ.get("PYTHONPATH", "")
        with theirs:
            process = start_process(
                self.guardian,
                [sys.executable, "-m", HELPER, str(theirs.fileno())],
                ours,
                pass_fds=[theirs.fileno()],
                variables={
                    "PYTHONPATH": f"{path}{os.pathsep}{ROOT}" if path else ROOT,
                    "PYTHONUNBUFFERED": "1",
                },
            )
        helper = _Helper(process, ours)
        given = {
            "address": self._options.address,
            "runtime_env": dict(self._options.runtime_env or {}),
            "target": self._target,
        }
        self._order(helper, given)
        for name, fd in (("stdout", process.stdout), ("stderr", process.stderr)):
            _thread(_pass_on, name, fd, process.pid)
        _thread(self._listen_to, helper)
        return helper

    def _order(self, helper: _Helper, order: dict[str, Any]) -> None:
        """Never waits: a helper that stands still is killed, and its workers end with it."""
        line = f"{json.dumps(order)}\n".encode()
        try:
            if helper.orders.send(line, socket.MSG_DONTWAIT) == len(line):
                return
        except OSError:
            pass
        helper.process.kill()

    def _listen_to(self, helper: _Helper) -> None:
        """In a thread of its own: hears what becomes of the workers, until the helper has ended."""
        words = "lost the process that speaks with Ray"
        sock = helper.orders.dup()
        sock.setblocking(True)
        with sock, sock.makefile("r", encoding="utf-8") as news, suppress(OSError, ValueError):
            for line in news:
                told = json.loads(line)
                words = told.get("refused", words)
                self._heard(helper, told)
        helper.process.kill()
        self.guardian.forget(helper.process.pid)
        helper.process.process.wait()
        with self._lock:
            if self._helper is helper:
                self._helper = None
            left = list(helper.workers.values())
            helper.workers.clear()
        for worker in left:
            worker.gone(words)
        helper.orders.close()
        os.close(helper.process.exit_fd)
        helper.over.set()

    def _heard(self, helper: _Helper, told: dict[str, Any]) -> None:
        if "placed" in told:
            where = (told["machine"], told["pid"])
            _log.info("worker %d is a Ray actor on %s, process %d", told["placed"], *where)
        elif "gone" in told:
            with self._lock:
                worker = helper.workers.pop(told["gone"], None)
            if worker is None:  # it was killed
                return
            if "code" in told:
                worker.ended(told["code"])
            else:
                worker.gone(told["words"])


def _thread(target: Any, *args: Any) -> None:
    threading.Thread(target=target, args=args, name="pullcord-ray", daemon=True).start()


def _pass_on(name: str, fd: int, pid: int) -> None:
    """Passes on what workers write, which Ray's logs bring to the helper."""
    writer = lines.stdout() if name == "stdout" else lines.stderr()
    os.set_blocking(fd, True)
    data = b"!"
    while data:
        data = os.read(fd, 64 * 1024)
        writer.write(data, (name, pid))
    os.close(fd)
