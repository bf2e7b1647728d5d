"""`python -m tests.conformance` shows the matrix, and its status says whether all promises held."""

import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _main(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance", *arguments],
        check=False,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return done.returncode, done.stdout


def _rows(said: str) -> list[list[str]]:
    return [line.split() for line in said.splitlines()]


def test_what_is_kept() -> None:
    """A promise that is kept has a mark for each language, and the status is 0."""
    status, said = _main("--only", "python,asyncio", "--scenario", "run-to-the-end,failed-run")
    assert status == 0, said
    assert ["run-to-the-end", "✓", "✓"] in _rows(said)
    assert _rows(said)[-1] == ["2/2", "2/2"]


def test_what_is_not_kept() -> None:
    """A promise that is not kept is told with what differed, and the status is 1."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        closed = f"127.0.0.1:{nobody.getsockname()[1]}"
    status, said = _main("--only", "python", "--scenario", "run-not-found", "--target", closed)
    assert status == 1
    assert ["run-not-found", "✗"] in _rows(said)
    assert "step 1, get: error.kind: is 'ConnectionLost', and should be 'RunNotFound'" in said


def test_another_server() -> None:
    """With --target the scenarios are played against a server that runs elsewhere."""
    serving = [sys.executable, "-m", "tests.conformance.server", "127.0.0.1:0"]
    with subprocess.Popen(serving, cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = server.stdout.readline().split()[-1]
            status, said = _main("--only", "python", "--scenario", "pause", "--target", address)
        finally:
            server.terminate()
    assert status == 0, said
    assert server.returncode == 0


def test_in_process() -> None:
    """With --in-process the suite's own server executes runs itself; it goes with no --target."""
    status, said = _main("--only", "python", "--scenario", "run-to-the-end", "--in-process")
    assert status == 0, said
    assert _main("--in-process", "--target", "127.0.0.1:1")[0] == 2


def test_what_there_is_to_play() -> None:
    """--list names the scenarios; a name or language that is not known is refused, status 2."""
    status, said = _main("--list", "--scenario", "cancel-twice")
    assert (status, said.split()[0]) == (0, "cancel-twice")
    assert _main("--scenario", "no-such")[0] == 2
    assert _main("--only", "cobol")[0] == 2
    assert _main("--only", "go", "--write")[0] == 2
