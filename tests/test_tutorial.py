"""What a newcomer types: docs/tutorial.md's files are written and its commands run, in order."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.commands import environment
from tests.steady import PATIENCE

PAGE = Path(__file__).parent.parent / "docs/tutorial.md"
_BLOCK = re.compile(r"(?:`(\w+\.py)`:\n\n)?```(python|console)\n(.*?)```", re.DOTALL)


class Sitting:
    """Two terminals in one folder: one that serves, and one for everything else."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = {port: _free_port() for port in ("50051", "8080", "9464")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        here = f"127.0.0.1:{self._ports['50051']}"
        self._environment = environment(PATH=path, PULLCORD_LISTEN=here, PULLCORD_ADDRESS=here)
        del self._environment["PULLCORD_STORE"]
        self._server: subprocess.Popen[str] | None = None
        self.hint = ""
        """How to call what is served, as the server says."""
        self.said: dict[str, str] = {}
        """What each command wrote, the last time that it was run."""

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(self._moved(text))

    def type(self, line: str) -> None:
        moved = self._moved(line)
        if line.startswith("export "):
            self._environment |= dict(pair.split("=", 1) for pair in moved.split()[1:])
        elif "pullcord serve" in line:
            self.stop_serving()
            self._server = self._open(f"exec env {moved}")
            assert self._server.stdout is not None
            self.hint = next(said for said in self._server.stdout if said.startswith("Try: "))
        else:
            command = self._open(moved)
            said, _ = command.communicate(timeout=2 * PATIENCE)
            assert command.returncode == 0, (line, said)
            self.said[line] = said

    def stop_serving(self) -> None:
        """Ctrl-C in the first terminal."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            said, _ = self._server.communicate(timeout=PATIENCE)
            assert self._server.returncode == 0, said
            self._server = None

    def close(self) -> None:
        """Whatever has happened, nothing goes on."""
        if self._server is not None:
            self._server.kill()
            self._server.communicate()

    def _open(self, line: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            ["bash", "-c", line],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _moved(self, text: str) -> str:
        """The same at ports that are free here."""
        for port, free in self._ports.items():
            text = text.replace(f":{port}", f":{free}")
        return text


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture
def sitting(tmp_path: Path) -> Iterator[Sitting]:
    sitting = Sitting(tmp_path)
    yield sitting
    sitting.close()


@pytest.mark.timeout(900)
def test_the_tutorial(sitting: Sitting, tmp_path: Path) -> None:
    """Every file and command of the page works, and shows what the page says of it."""
    for name, language, text in _BLOCK.findall(PAGE.read_text()):
        if language == "python":
            sitting.write(name, text)
        else:
            for line in text.splitlines():
                sitting.type(line.removeprefix("$ "))
    sitting.type(f"pullcord runnables {sitting.hint[sitting.hint.index('--address') :].strip()}")
    sitting.stop_serving()
    said = sitting.said
    assert "agents/poet: stops" in said["pullcord check app:server"]
    assert "agents/counter" in said["pullcord runnables"]
    assert "that will do" in said["pullcord get first"]
    assert "enough" in said["python button.py"]
    assert "1 passed" in said["python -m pytest -q test_app.py"]
    assert "agents/poet" in said["pullcord ps --all"]
    assert "first" not in said["pullcord ps --all"]
    assert '"ann"' in (tmp_path / "audit.jsonl").read_text()
