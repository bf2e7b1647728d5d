"""`pullcord check`: what is wrong with an app is found before it is served."""

import re
from pathlib import Path

from tests.cli.commands import call

APP = '''
from pullcord import Agent, OfflineModel, OpenAIChat, RunServer, Team, Workflow, runnable

called = []

def {tool}:
    """Tells the weather."""
    called.append(city)

@runnable
def blind(input: str) -> str:
    called.append(input)
    return input

@runnable
def fails(input: str) -> str:
    raise ValueError("no")

poet = Agent(name="Poet", model=OpenAIChat(id="gpt-5-mini"), tools=[weather])
desk = Team(name="Desk", model=OfflineModel(), members=[poet])
server = RunServer([poet, blind{more}], teams=[desk], workflows=[Workflow(name="W", steps=[blind])])
'''


def _check(
    folder: Path, *options: str, tool: str = "weather(city: str)", more: str = ""
) -> tuple[int, str]:
    (folder / "app.py").write_text(APP.replace("{tool}", tool).replace("{more}", more))
    done = call("check", "app:server", *options, cwd=folder)
    return done.returncode, done.stdout


def test_agents_are_tried_with_a_scripted_model(tmp_path: Path) -> None:
    """They stop in time, without a key; what may do anything is not run."""
    code, said = _check(tmp_path)
    assert code == 0
    assert "app:server serves agents/poet, agents/blind, teams/desk, workflows/w" in said
    for name in ("agents/poet", "teams/desk"):
        assert f"✔ {name}: stops " in said
    for name in ("agents/blind", "workflows/w"):
        assert f"· {name}: was not run" in said
    assert "· agents/blind: sees no stop before it returns" in said


def test_what_must_be_mended_exits_with_1(tmp_path: Path) -> None:
    """A tool whose parameter has no type, and a run that fails when it is called."""
    code, said = _check(tmp_path, tool="weather(city)")
    assert (code, "✘ agents/poet: tool weather: parameter 'city' has no type" in said) == (1, True)
    code, said = _check(tmp_path, "--call", "hello", more=", fails")
    assert (code, "✘ agents/fails: failed: ValueError: no" in said) == (1, True)
    assert "· workflows/w: ended by itself, before a cancel, so that nothing was learned" in said


ENDS = """
import asyncio, time
from pullcord import RunContext, RunServer, runnable

@runnable
def blind(input: str) -> str:
    time.sleep(0.5)
    return input

@runnable
async def busy(input: str) -> str:
    time.sleep(0.5)
    return input

@runnable
def last(input: str):
    yield input
    time.sleep(0.5)

@runnable
async def pieces(input: str):
    yield input
    time.sleep(0.5)

@runnable
def yields(input: str):
    for n in range(100):
        time.sleep(0.02)
        yield str(n)

@runnable
async def awaits(input: str) -> str:
    await asyncio.sleep(9)
    return input

@runnable
async def catches(input: str) -> str:
    try:
        await asyncio.sleep(9)
    except asyncio.CancelledError:
        return "what there is"

@runnable
def looks(input: str, ctx: RunContext) -> str:
    ctx.cancel_token.wait(9)
    return "what there is"

server = RunServer([blind, busy, last, pieces, yields, awaits, catches, looks])
"""


def test_what_ends_by_itself_has_not_stopped(tmp_path: Path) -> None:
    """Code that saw no cancel before it had come to its end is not said to stop."""
    (tmp_path / "ends.py").write_text(ENDS)
    done = call("check", "ends:server", "--call", "x", "--after", "0.1s", cwd=tmp_path)
    assert done.returncode == 0
    for name in ("blind", "busy", "last", "pieces"):
        assert re.search(f"· agents/{name}: ended by itself, .* s after a cancel, so", done.stdout)
    for name in ("yields", "awaits", "catches", "looks"):
        assert f"✔ agents/{name}: stops " in done.stdout


def test_what_cannot_be_imported_exits_with_2(tmp_path: Path) -> None:
    """As `pullcord serve` does."""
    done = call("check", "nope:server", cwd=tmp_path)
    assert (done.returncode, "there is no module 'nope'" in done.stderr) == (2, True)
