"""A real PostgreSQL for tests: a cluster in a temporary folder, on a free port of the loopback.

Its programs are those of the system's package; they refuse root, so another user runs them there.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pullcord.stores.postgres import migrations
from pullcord.stores.postgres.connections import Address
from pullcord.stores.postgres.loop import LoopThread
from pullcord.testing import ManualClock

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "5s",
    "log_min_messages": "warning",
}


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None: PostgreSQL is not installed."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4])
    )
    if versions:
        return versions[-1].parent
    found = shutil.which("initdb")
    return None if found is None else Path(found).resolve().parent


class Postgres:
    """One server. It is stopped, and its folder deleted, by `close`."""

    def __init__(self, *, durable: bool = False) -> None:
        """`durable`: its commits reach the disk, at the disk's pace."""
        found = programs()
        if found is None:
            raise FileNotFoundError("PostgreSQL is not installed: initdb was not found")
        self._bin = found
        self._user = _someone() if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="pullcord-pg-"))
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        try:
            self._call("initdb", "--no-sync", "--auth=trust", "--username=pullcord", "-E", "UTF8")
            settings = _SETTINGS | {
                "port": str(self.port),
                "unix_socket_directories": str(self.folder),
                "fsync": "on" if durable else "off",
            }
            with (self.data / "postgresql.auto.conf").open("a") as file:
                file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self.folder / "data"

    @property
    def pid(self) -> int:
        """Of the process that all its others are children of."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def url(self, database: str = "postgres", user: str = "pullcord") -> str:
        """The address of one of its databases."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it, and returns once it answers."""
        self._call("pg_ctl", "start", "--wait", "--silent", f"--log={self.folder / 'log'}")

    def stop(self, mode: str = "immediate") -> None:
        """Stops it; `immediate` is what a crash is like."""
        self._call("pg_ctl", "stop", "--wait", "--silent", f"--mode={mode}")

    def restart_on_new_timeline(self) -> None:
        """Restarts it as a standby that takes over does: with all it had, on another timeline."""
        self.stop("fast")
        signal_file = self.data / "recovery.signal"
        signal_file.touch()
        if self._user is not None:
            os.chown(signal_file, self._user.pw_uid, self._user.pw_gid)
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.write("restore_command = 'false'\nhot_standby = 'off'\n")
        self.start()
        for _ in range(600):  # until it has taken over
            with contextlib.suppress(subprocess.CalledProcessError):
                self._call("pg_isready", f"--dbname={self.url()}")
                return
            threading.Event().wait(0.1)

    def dump(self, database: str, into: Path) -> None:
        """What an operator's pg_dump makes of one of its databases."""
        self._call("pg_dump", "--format=custom", f"--file={into}", self.url(database))

    def restore(self, dump: Path, database: str) -> None:
        """A new database of a dump."""
        self._call("createdb", f"--maintenance-db={self.url()}", database)
        self._call("pg_restore", f"--dbname={self.url(database)}", str(dump))

    def processes(self) -> list[int]:
        """All its processes, the first one included."""
        first = self.pid
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return [first, *map(int, children)]

    def freeze(self) -> None:
        """Stands still: connections stay open, and nothing is answered."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Goes on."""
        self._signal_all(signal.SIGCONT)

    def close(self) -> None:
        """Stops it and deletes all it has written."""
        with contextlib.suppress(subprocess.CalledProcessError, OSError):
            self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _call(self, program: str, *arguments: str) -> None:
        command: list[str | Path] = [self._bin / program, *arguments]
        if self._user is not None:
            # Not by subprocess itself: it would fork, which gRPC's threads do not always survive.
            uid, gid = self._user.pw_uid, self._user.pw_gid
            command = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", *command]
        done = subprocess.run(
            command,
            env={"PGDATA": str(self.data), "PATH": os.environ["PATH"], "LC_ALL": "C"},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=120,
            check=False,  # raised below, with what it said
        )
        if done.returncode:
            raise subprocess.CalledProcessError(
                done.returncode, program, stderr=done.stderr.decode(errors="replace")
            )


def _someone() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise FileNotFoundError("PostgreSQL refuses root, and there is no user postgres or nobody")


def started(*, durable: bool = False) -> Iterator[Postgres]:
    """For a fixture: a server while it is needed. Skips where PostgreSQL is not installed, except
    in CI, where that is a failure."""
    if programs() is None and os.environ.get("CI") != "true":
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    server = Postgres(durable=durable)
    try:
        yield server
    finally:
        server.close()


_CLOCK = """
create schema testing;
create table testing.clock (now double precision not null);
insert into testing.clock values (0);
create function testing.clock_timestamp() returns timestamptz language sql volatile
    as 'select to_timestamp(now) from testing.clock';
"""


class Database:
    """A database with the store's tables, whose time a test moves."""

    def __init__(self, server: Postgres, name: str, *, real_time: bool = False) -> None:
        self._thread = LoopThread("pullcord-test-database")
        self._thread.call(_made(server, name), 60.0)
        self.url = server.url(name)
        path = "pullcord" if real_time else "testing, pg_catalog, pullcord"
        self.address = Address(self.url, search_path=path)
        self._connection = self._thread.call(self.address.connect())

    def execute(self, statement: str, *values: object) -> None:
        """Executes one statement, from within the test."""
        self._thread.call(self._connection.execute(statement, *values))

    def rows(self, statement: str, *values: object) -> list[Any]:
        """What a query finds."""
        return self._thread.call(self._connection.fetch(statement, *values))

    def clear(self, now: float = 0.0) -> None:
        """Empties all tables; it is `now` there."""
        self.execute("truncate run, event, replica, usage, notice, noting")
        self.set_time(now)

    def set_time(self, now: float) -> None:
        """It is now this time, in seconds since the epoch."""
        self.execute("update testing.clock set now = $1", now)

    def close(self) -> None:
        """Disconnects."""
        self._thread.soon(self._connection.terminate)  # a loop's transports are for its thread only
        self._thread.close()


class SharedClock(ManualClock):
    """A clock that a database may go by, too."""

    database: Database | None = None

    def advance(self, seconds: float = 0.0) -> int:
        if self.database is not None:
            self.database.set_time(self.time() + seconds)
        return super().advance(seconds)


async def _made(server: Postgres, name: str) -> None:
    connection = await asyncpg.connect(server.url())
    await connection.execute(f'create database "{name}"')
    await connection.close()
    connection = await asyncpg.connect(server.url(name))
    await connection.execute(_CLOCK)
    await migrations.migrate(connection)
    await connection.close()
