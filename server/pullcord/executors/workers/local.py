"""The launcher whose workers are processes of this machine, each at the end of a socketpair.

Of the room that runs ask for, memory is held: the pulse looks at how much a worker has.
"""

import os
import socket
import sys

from pullcord.executors.workers.guardian import Guardian
from pullcord.executors.workers.launcher import CannotGive
from pullcord.executors.workers.process import ROOT, Process, start_process
from pullcord.executors.workers.weight import in_words, is_known
from pullcord.run.resources import Resources


class LocalLauncher:
    """Starts `python -m pullcord.worker`. No worker outlives this process."""

    may_wait = False

    def __init__(self) -> None:
        self._guardian = Guardian(ROOT)

    def open(self) -> None:
        """Starts the guard that watches over them."""
        self._guardian.open()

    def check(self, resources: Resources) -> None:
        """Raises CannotGive for what this machine has not, or nobody here can hold."""
        if resources.gpu:
            raise CannotGive(
                "resources.gpu: workers of this machine are given no GPU; start them by "
                "--launcher ray or --worker-command"
            )
        if resources.cpu > (cpus := os.cpu_count() or 1):
            raise CannotGive(f"resources.cpu: {resources.cpu:g}, and this machine has {cpus}")
        if resources.memory_bytes is not None:
            if not is_known():
                raise CannotGive("resources.memory: cannot be held here: only Linux tells it")
            has = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            if resources.memory_bytes > has:
                asked = in_words(resources.memory_bytes)
                raise CannotGive(f"resources.memory: {asked}, and this machine has {in_words(has)}")

    def start(self, resources: Resources | None = None) -> Process:
        """Starts a worker."""
        ours, theirs = socket.socketpair()
        path = os.environ.get("PYTHONPATH", "")
        with theirs:
            return start_process(
                self._guardian,
                [sys.executable, "-m", "pullcord.worker", str(theirs.fileno())],
                ours,
                pass_fds=[theirs.fileno()],
                variables={"PYTHONPATH": f"{path}{os.pathsep}{ROOT}" if path else ROOT},
            )

    def close(self) -> None:
        """Ends the guard."""
        self._guardian.close()
