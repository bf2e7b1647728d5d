"""A disk that is really full, beneath a file and beneath a PostgreSQL: what was accepted stands.

The disk is a file system of its own, in memory. To make one takes root: skipped without.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from pullcord import RunServer
from pullcord.client import AsyncRunClient
from pullcord.engine.options import EngineOptions
from pullcord.run.errors import StoreUnavailable
from pullcord.run.state import RunState
from pullcord.settings import Settings
from pullcord.stores.postgres.connections import Address

from tests.postgres import Postgres
from tests.stores.postgres.two import replica, talk, words

MIB = 1024 * 1024
_RUNS = 6


class Disk:
    """A small file system."""

    def __init__(self, folder: Path, nbytes: int) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={nbytes}", "tmpfs", str(folder)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("no file system can be made here")

    def fill(self) -> None:
        """Not a byte is left."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)

    def empty(self) -> None:
        """There is room again."""
        self._ballast.unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.folder)], check=False)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small file system takes root to make")
    folder = tmp_path / "disk"
    folder.mkdir()
    made = Disk(folder, 48 * MIB)
    yield made
    made.close()


async def play(disk: Disk, at_owner: AsyncRunClient, elsewhere: AsyncRunClient) -> None:
    """Runs are at work; the disk is full; they are stopped; there is room again."""
    for n in range(_RUNS):
        await at_owner.start("agents/talk", run_id=f"r{n}")
        while not (await at_owner.get(f"r{n}")).output:
            pass
    disk.fill()
    said = ""
    ends = time.monotonic() + 60
    while not said:  # what is free in the pages that there are is used up first
        assert time.monotonic() < ends, "nothing was refused"
        try:
            await at_owner.start("agents/talk", os.urandom(100_000).hex())
        except StoreUnavailable as error:
            said = str(error)
    assert "No space left" in said or "is full" in said
    callers = {f"r{n}": elsewhere if n % 2 else at_owner for n in range(_RUNS)}
    answers = await asyncio.gather(
        *(client.cancel(run_id, reason="full") for run_id, client in callers.items()),
        return_exceptions=True,
    )
    refused = {r: e for r, e in zip(callers, answers, strict=True) if isinstance(e, Exception)}
    accepted = set(callers) - set(refused)
    for run_id, error in refused.items():
        assert isinstance(error, StoreUnavailable)
        assert error.stopping or callers[run_id] is not at_owner
    disk.empty()
    for n in range(_RUNS):
        if f"r{n}" not in accepted:
            await at_owner.cancel(f"r{n}")
        ended = await elsewhere.wait(f"r{n}")
        assert (ended.state, ended.output) == (RunState.CANCELLED, "hello ")
        assert ended.cancellation is not None
        if f"r{n}" in accepted:
            assert ended.cancellation.reason == "full"
    after = [event async for event in elsewhere.run("agents/words", "3")]
    assert after[-1].payload.output == "0 1 2 "


async def test_a_full_disk_beneath_a_file(disk: Disk) -> None:
    """No accepted stop is lost, refusals say what is wrong, and it goes on once there is room."""
    settings = Settings(
        listen="127.0.0.1:0",
        workers=1,
        store=str(disk.folder / "runs.db"),
        engine=EngineOptions(grace_period=1.0),
    )
    server = RunServer([words, talk], settings=settings)
    address = await asyncio.to_thread(server.start)
    try:
        async with AsyncRunClient(address) as client:
            await play(disk, client, client)
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_full_disk_beneath_a_database(disk: Disk, fragile: Postgres) -> None:
    """The same with two replicas, for tables whose disk is full."""
    owner = fragile.folder.stat()
    os.chown(disk.folder, owner.st_uid, owner.st_gid)
    disk.folder.chmod(0o700)
    for folder in disk.folder.parents:
        if folder == Path("/tmp"):
            break
        folder.chmod(0o755)
    connection = await asyncpg.connect(fragile.url())
    await connection.execute(f"create tablespace small location '{disk.folder}'")
    await connection.execute("create database small tablespace small")
    await connection.close()
    address = Address(fragile.url("small"))
    async with replica(address) as a, replica(address) as b:
        await play(disk, a.client, b.client)
