"""`make demo`: what a newcomer runs first."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.steady import steady


@steady
def test_the_demo() -> None:
    """The demo shows a stop, what it kept, a deadline, a tree and a drain, and exits with 0."""
    done = subprocess.run(
        [sys.executable, "-m", "pullcord.demo"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    for words in (
        "Mara at the",
        "cause USER, by somebody else",
        "outcome    STOPPED",
        "GetRun says CANCELLED",
        "cause DEADLINE",
        "write/counter: ▪ completed",
        "write/storyteller: ▪ cancelled",
        "print: not started",
        "  write/counter      completed    25 words",
        "the server is stopping and takes no new runs",
        "exit code 0",
        "Its console, where you can look on and stop runs: http://127.0.0.1:",
        "$ pullcord serve --http 127.0.0.1:8080",
    ):
        assert words in done.stdout
    assert re.search(r"delivered +\d+\.\d ms later", done.stdout)


def test_an_interrupted_demo_leaves_nothing() -> None:
    """Whether interrupted or terminated, the demo takes its server with it."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        demo = subprocess.Popen(
            [sys.executable, "-u", "-m", "pullcord.demo"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "TERM": "dumb"},
        )
        assert demo.stdout is not None
        while b"You asked" not in demo.stdout.readline():
            pass
        (server,) = psutil.Process(demo.pid).children()
        demo.send_signal(number)
        _, errors = demo.communicate(timeout=60)
        assert (demo.returncode, errors) == (code, b"")
        assert not server.is_running()


@pytest.mark.parametrize(("code", "made"), [(0, 0), (130, 0), (3, 2)])
def test_ctrl_c_is_no_error_of_the_verb(tmp_path: Path, code: int, made: int) -> None:
    """`make demo` takes the exit code of Ctrl-C as its end, and each other one as an error."""
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\nexit {code}\n")
    python.chmod(0o700)
    done = _make("-o", ".venv/.installed", "-o", ".venv/.runtime", f"BIN={tmp_path}", "demo")
    assert done.returncode == made
    assert ("Error" in done.stderr) == bool(made)


def test_the_demo_installs_what_serves(tmp_path: Path) -> None:
    """Without an environment `make demo` installs the runtime, and `make install` everything."""
    for verb, lock in (("demo", "requirements-runtime.lock"), ("install", "requirements.lock")):
        done = _make("--dry-run", f"VENV={tmp_path}", verb)
        assert re.findall(r"--requirement (\S+)", done.stdout) == [lock]


def test_the_demo_is_content_with_an_environment_for_developing(tmp_path: Path) -> None:
    """Where `make install` was, before or after a demo, `make demo` installs nothing."""
    (tmp_path / ".installed").touch()
    assert "pip install" not in _make("--dry-run", f"VENV={tmp_path}", "demo").stdout


def _make(*words: str) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).parent.parent
    return subprocess.run(["make", *words], cwd=root, capture_output=True, text=True, check=False)
