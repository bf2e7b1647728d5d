"""The launcher whose workers are started by a command of the operator's.

The command runs as long as its worker, and `pullcord worker` in it connects back.
"""

import shlex
import shutil
import socket

from pullcord.executors.workers.linked import LinkedLauncher, LinkObserver
from pullcord.executors.workers.process import Process, start_process
from pullcord.link.greeting import CONNECT, SECRET, Ticket
from pullcord.run.resources import Resources

CPU, MEMORY, GPU = "PULLCORD_WORKER_CPU", "PULLCORD_WORKER_MEMORY", "PULLCORD_WORKER_GPU"
"""The variables with the room that the worker's runs need; empty: nothing in particular."""


class CommandLauncher(LinkedLauncher):
    """Starts a command for each worker."""

    def __init__(self, command: str, listen: str, lease: float, observer: LinkObserver) -> None:
        """`command` is split as a shell does, and run without one. The rest is as above."""
        super().__init__(listen, lease, observer)
        self._command = shlex.split(command)

    def open(self) -> None:
        """Listens for workers. Raises OSError, also if there is no such command; MissingExtra."""
        if shutil.which(self._command[0]) is None:
            raise FileNotFoundError(
                f"PULLCORD_WORKER_COMMAND: there is no command {self._command[0]!r} here"
            )
        super().open()

    def check(self, resources: Resources) -> None:
        """What there is, the command knows: it finds the resources in its environment."""

    def begin(self, ours: socket.socket, ticket: Ticket, resources: Resources | None) -> Process:
        """Starts the command."""
        return start_process(
            self.guardian,
            self._command,
            ours,
            pass_fds=(),
            variables={CONNECT: self.address, SECRET: str(ticket)} | _variables(resources),
        )


def _variables(resources: Resources | None) -> dict[str, str]:
    """What the command finds of them. Empty ones, so that none comes from the environment here."""
    found: dict[str, int | float | None] = {CPU: None, MEMORY: None, GPU: None}
    if resources is not None:
        found |= {CPU: resources.cpu, MEMORY: resources.memory_bytes, GPU: resources.gpu}
    return {name: "" if value is None else _plain(value) for name, value in found.items()}


def _plain(value: float) -> str:
    return str(int(value)) if value == int(value) else str(value)
