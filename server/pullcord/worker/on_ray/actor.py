"""The actor that is a worker, on a machine of the cluster's: it compares versions, opens the link
back to the server, and executes runs until that ends.

Ray gets this class by value. So it comes also to a machine with another Pullcord, or none, and says
so; hence every import is within.
"""

from typing import Any


class WorkerActor:
    """One worker. Ray creates it; its process ends with it."""

    def where(self) -> dict[str, Any]:
        """Where it is, for the server's log."""
        import os
        import socket

        return {"machine": socket.gethostname(), "pid": os.getpid()}

    def work(
        self, target: str, address: tuple[str, int], ticket: str, expected: dict[str, str]
    ) -> int | str:
        """Executes runs until the worker ends; returns its exit code, or why it cannot begin."""
        import platform
        from importlib.metadata import PackageNotFoundError, version

        found = {"Python": platform.python_version()}
        try:
            found["Pullcord"] = version("pullcord")
        except PackageNotFoundError:
            return "the machine where Ray placed it has no Pullcord: install the server's version"
        for name, theirs in found.items():
            if theirs != expected[name]:
                return (
                    f"the machine where Ray placed it has {name} {theirs}, and the server "
                    f"{expected[name]}: both must have the same"
                )
        from pullcord.executors.workers.on_ray.sources import fingerprint
        from pullcord.link.greeting import LinkRefused, Ticket
        from pullcord.worker.elsewhere import execute_elsewhere

        module = target.rpartition(":")[0] or target
        source = fingerprint(target)
        if not source:
            return (
                f"the machine where Ray placed it has no {module}: bring it there by "
                'PULLCORD_RAY__RUNTIME_ENV={"working_dir": "."}, or in an image'
            )
        if expected["module"] and source != expected["module"]:
            return (
                f"the machine where Ray placed it has another {module} than the server: both must "
                "have the same files"
            )
        try:
            return execute_elsewhere(target, *address, Ticket.of(ticket))
        except (LinkRefused, OSError) as error:
            return f"it cannot reach the server at {address[0]}:{address[1]}: {error}"
