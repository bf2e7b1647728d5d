"""`pullcord serve --reload`, and an author's hooks, in real processes."""

from pathlib import Path

import pytest
from pullcord.client import RunClient
from pullcord.run.events import ContentDelta

from tests.cli.commands import Command
from tests.transports.harness import until

APP = """
import pathlib, time
from pullcord import RunServer, runnable

@runnable
def say(input: str):
    yield "{word}"
    while input == "wait" and not pathlib.Path("go").exists():
        time.sleep(0.01)
    yield " and {word} again"

def begins():
    print("begins {word}")

async def ends():
    print("ends {word}")

server = RunServer(agents=[say], on_startup=[begins], on_shutdown=[ends])
"""

BROKEN = """
import pathlib
pathlib.Path("tried").touch()
raise ValueError("no colour")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP.format(word="one"))
    return tmp_path


def address_of(serving: Command) -> str:
    said = serving.until(lambda seen: "serving on" in seen and "begins one" in seen)
    return said.partition("serving on ")[2].split()[0]


def said_by(client: RunClient) -> str:
    return client.wait(client.start("agents/say", "").run_id, 30).output


def test_changed_files_are_served_and_live_runs_end_on_the_old_ones(app: Path) -> None:
    """A fresh worker takes over once it is ready; a run that is at work ends as it began."""
    with Command("serve", "app:server", "--reload", "--listen", "127.0.0.1:0", cwd=app) as serving:
        with RunClient(address_of(serving)) as client:
            stream = client.run("agents/say", "wait")
            next(event for event in stream if isinstance(event.payload, ContentDelta))
            (app / "app.py").write_text(APP.format(word="two"))
            until(lambda: said_by(client) == "two and two again")
            (app / "go").touch()
            *_, end = stream
            assert getattr(end.payload, "output", "") == "one and one again"
            serving.until("ends one")
        serving.process.terminate()
        code, said, _ = serving.end()
    assert code == 0
    assert "ends two" in said


def test_files_that_cannot_be_imported_change_nothing(app: Path) -> None:
    """The error is shown, with the author's line, and the worker before goes on."""
    with Command("serve", "app:server", "--reload", "--listen", "127.0.0.1:0", cwd=app) as serving:
        with RunClient(address_of(serving)) as client:
            (app / "app.py").write_text(BROKEN)
            until((app / "tried").exists)
            assert said_by(client) == "one and one again"
            (app / "app.py").write_text(APP.format(word="three"))
            until(lambda: said_by(client) == "three and three again")
        serving.process.terminate()
        code, _, errors = serving.end()
    assert code == 0
    assert "app.py" in errors
    assert "no colour" in errors
