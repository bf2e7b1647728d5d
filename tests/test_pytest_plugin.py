"""The fixtures that Pullcord brings for the tests of those who write agents."""

import subprocess
import sys
from pathlib import Path

TESTS = """
import pytest
from pullcord import Agent, OfflineModel, events, runnable

@runnable
def echo(input: str) -> str:
    return input

def test_it_answers(pullcord_serve):
    client = pullcord_serve(echo, Agent(name="Poet", model=OfflineModel()))
    assert client.wait(client.start("agents/echo", "hi").run_id).output == "hi"
    stream = client.run("agents/poet", "x")
    for event in stream:
        if isinstance(event.payload, events.ContentDelta):
            stream.cancel("enough")
    assert isinstance(stream.outcome, events.RunCancelled)

def test_time_is_moved(pullcord_serve, pullcord_clock):
    client = pullcord_serve(echo, clock=pullcord_clock)
    pullcord_clock.advance(60)
    assert client.runnables()[0].name == "agents/echo"
"""


def test_the_fixtures(tmp_path: Path) -> None:
    """They serve runnables, move time, and leave nothing behind; without them nothing is loaded."""
    (tmp_path / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "pullcord.pytest_plugin", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout
    code = "import sys, pullcord.pytest_plugin; print('pullcord.server' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
