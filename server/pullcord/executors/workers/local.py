"""The launcher whose workers are processes of this machine, each at the end of a socketpair."""

import os
import socket
import sys

from pullcord.executors.workers.guardian import Guardian
from pullcord.executors.workers.process import ROOT, Process, start_process


class LocalLauncher:
    """Starts `python -m pullcord.worker`. No worker outlives this process."""

    def __init__(self) -> None:
        self._guardian = Guardian(ROOT)

    def open(self) -> None:
        """Starts the guard that watches over them."""
        self._guardian.open()

    def start(self) -> Process:
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
