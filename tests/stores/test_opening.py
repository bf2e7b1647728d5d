"""Which store a server opens, by what is said where."""

from pathlib import Path
from typing import Any

import pytest
from pullcord import RunServer, runnable
from pullcord.client import RunClient
from pullcord.engine.clock import Clock
from pullcord.engine.options import EngineOptions
from pullcord.settings import Settings
from pullcord.stores.memory import MemoryStore
from pullcord.stores.opening import default_path
from pullcord.stores.sqlite import StoreRefused


@runnable
def say(input: str) -> str:
    """Says what it is told."""
    return input


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


def test_a_program_keeps_runs_in_memory_unless_it_says_otherwise(tmp_path: Path) -> None:
    """`RunServer(store=…)` stands above the settings; without either, it is memory."""
    file, other = str(tmp_path / "a.db"), str(tmp_path / "b.db")

    def own(clock: Clock, options: EngineOptions) -> MemoryStore:
        return MemoryStore(clock, options)

    cases: list[tuple[dict[str, Any], str, str]] = [
        ({}, "", "memory"),
        ({}, file, file),
        ({"store": other}, file, other),
        ({"store": "memory"}, file, "memory"),
        ({"store": own}, file, "a store of its own"),
    ]
    for given, setting, kept_in in cases:
        server = RunServer([say], settings=settings(store=setting), **given)
        with server:
            assert server.kept_in == kept_in


def test_a_program_serves_from_a_file_again(tmp_path: Path) -> None:
    """What one server kept, the next one shows; a second one meanwhile is refused."""
    file = str(tmp_path / "runs.db")
    with RunServer([say], settings=settings(), store=file) as address:
        with RunClient(address) as client:
            client.start("agents/say", "kept", run_id="r")
            ended = client.wait("r")
        with pytest.raises(StoreRefused, match="in use"):
            RunServer([say], settings=settings(), store=file).start()
    with (
        RunServer([say], settings=settings(), store=file) as address,
        RunClient(address) as client,
    ):
        assert client.get("r") == ended


def test_a_module_that_workers_import_does_not_open_its_store(tmp_path: Path) -> None:
    """Making a server opens nothing; a worker refuses a store that it would never see."""
    file = tmp_path / "runs.db"
    server = RunServer([say], settings=settings(), store=str(file))
    assert not file.exists()
    with pytest.raises(ValueError, match=r"RunServer\(settings=…\) has no effect"):
        server.begin_in_worker()


@pytest.mark.parametrize(
    ("listen", "path"),
    [
        ("127.0.0.1:50051", ".pullcord/127.0.0.1:50051.db"),
        ("[::1]:50051", ".pullcord/[::1]:50051.db"),
        ("unix:/run/pullcord.sock", ".pullcord/unix:-run-pullcord.sock.db"),
        ("127.0.0.1:0", None),
    ],
)
def test_each_address_has_a_file(listen: str, path: str | None) -> None:
    """Except a free port, which is another one each time."""
    assert default_path(listen) == (None if path is None else Path(path))
