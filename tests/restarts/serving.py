"""`pullcord serve` on a file, killed and started again at one address."""

import os
import signal
import socket
from pathlib import Path

from pullcord.client import RunClient

from tests.cli.commands import Command

APP = Path(__file__).with_name("app.py")


class Served:
    """Server processes, one after the other, that keep their runs in one file."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder = folder
        self._environment = environment
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.command: Command | None = None

    def start(self, *options: str) -> str:
        """Serves; the address."""
        more = {"PULLCORD_STORE": "runs.db", "PULLCORD_DRAIN_TIME": "0.1"} | self._environment
        self.command = Command(
            "serve", str(APP), "--listen", self.address, *options, cwd=self._folder, **more
        )
        self.command.until("serving on")
        return self.address

    def client(self, *options: str) -> RunClient:
        """Serves; a client that knows nothing of the failures of earlier ones at that address."""
        return RunClient(self.start(*options), options=[("grpc.use_local_subchannel_pool", 1)])

    def kill(self) -> None:
        """Kills it, as a machine without memory would."""
        assert self.command is not None
        os.kill(self.command.process.pid, signal.SIGKILL)
        self.command.end()
        self.command.__exit__(None, None, None)

    def close(self) -> None:
        """Leaves nothing at work."""
        if self.command is not None:
            self.command.__exit__(None, None, None)

    def stop(self) -> str:
        """Stops it, as a service manager would; what it logged."""
        assert self.command is not None
        self.command.process.terminate()
        code, _, errors = self.command.end()
        self.command.__exit__(None, None, None)
        assert code == 0, errors
        return errors
