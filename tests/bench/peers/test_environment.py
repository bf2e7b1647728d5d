"""When a peer's environment is made and when it is kept; nothing is installed here."""

from pathlib import Path

import pytest

from tests.bench.peers import environment
from tests.bench.peers.environment import NotInstalled, python_of


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, ...]]:
    """What would have been run."""
    ran: list[tuple[str, ...]] = []

    async def run(*command: str) -> None:
        ran.append(command)
        (tmp_path / "peers/some").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(environment, "HOME", tmp_path / "peers")
    monkeypatch.setattr(environment, "_LOCKS", tmp_path)
    monkeypatch.setattr(environment, "_run", run)
    (tmp_path / "some.lock").write_text("peer==1")
    return ran


async def test_an_environment_is_made_once_for_each_lock(
    commands: list[tuple[str, ...]], tmp_path: Path
) -> None:
    """It holds what its lock names, hash by hash, and is made anew when the lock changes."""
    python = await python_of("some")
    made, installed = commands
    assert made[1:] == ("-m", "venv", "--clear", str(tmp_path / "peers/some"))
    assert installed[0] == str(python)
    assert "--require-hashes" in installed
    assert installed[-2:] == ("--requirement", str(tmp_path / "some.lock"))
    assert await python_of("some") == python
    assert len(commands) == 2
    (tmp_path / "some.lock").write_text("peer==2")
    await python_of("some")
    assert len(commands) == 4


async def test_a_failed_installation_says_its_first_error_and_is_tried_again(
    commands: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group can say why a peer is left out, and nothing half made is taken for whole."""
    tries = []

    async def run(*command: str) -> None:
        tries.append(command)
        raise NotInstalled(environment._reason("note\nERROR: no network\nERROR: no peer==1\n"))

    monkeypatch.setattr(environment, "_run", run)
    for _ in range(2):
        with pytest.raises(NotInstalled, match=r"^ERROR: no network$"):
            await python_of("some")
    assert len(tries) == 2
