"""The Python client's folder: its verbs work, and what its README and its example say is true."""

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from pullcord.demo import server as demo_server

from tools.clients import CLIENTS, make

FOLDER = CLIENTS / "python"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with demo_server() as address:
        yield address


def _run(*arguments: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    return done.stdout.splitlines()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("target", ["lint", "check-generated", "build", "driver"])
def test_verb(target: str) -> None:
    """Each verb of the Makefile that every client has succeeds, too."""
    done = make("python", target, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout


def test_the_readme(address: str) -> None:
    """The README's ten lines stop a story, and tell how much of it was kept."""
    blocks = re.findall(r"```python\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    *story, told = _run("-c", blocks[0].replace("127.0.0.1:50051", address))
    kept = len("\n".join(story))
    assert told == f"[that will do: {kept} characters kept]"


def test_the_stop_button(address: str) -> None:
    """The example tells for two seconds where nobody can press Enter, and shows the receipt."""
    told = _run(str(FOLDER / "stop_button.py"), address)
    receipt = {line.split()[0]: line.split(maxsplit=1)[1] for line in told[-8:]}
    assert receipt["outcome"] == "STOPPED"
    assert receipt["cause"] == "USER"
    assert receipt["reason"] == "the reader pressed stop"
    story = "\n".join(told[: -8 - 1])
    assert receipt["kept"] == f"{len(story)} characters"
