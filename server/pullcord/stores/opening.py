"""Opens the store that an operator names, or the default one of a listen address.

Which rows there are, and what is done with them, is each store's own business.
"""

import contextlib
import logging
import math
from dataclasses import dataclass
from pathlib import Path

from pullcord.engine.clock import Clock
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import RunStore
from pullcord.extras import missing
from pullcord.run.errors import StoreUnavailable
from pullcord.stores.memory import MemoryStore
from pullcord.stores.sqlite import SqliteStore, StoreRefused
from pullcord.stores.sqlite.files import StoreUnwritable, make_private

MEMORY = "memory"
FOLDER = ".pullcord"
"""Where default stores are, in the directory that is served from."""

_log = logging.getLogger("pullcord.store")


@dataclass(frozen=True, slots=True)
class Opened:
    """A store, and what operators call it."""

    store: RunStore
    name: str


def is_shared(name: str) -> bool:
    """Whether any number of servers may have the store of this name open."""
    return name.startswith(("postgresql://", "postgres://"))


def open_store(name: str, clock: Clock, options: EngineOptions, listens: str = "") -> Opened:
    """The store of this name: `memory`, the path of a file, or the address of a PostgreSQL;
    `listens` is where its notifications arrive, if not there. Raises StoreRefused.
    """
    if name == MEMORY:
        return Opened(MemoryStore(clock, options), MEMORY)
    if is_shared(name):
        return _open_postgres(name, clock, options, listens)
    if "://" in name:
        scheme = name.partition("://")[0]
        raise StoreRefused(f"--store {scheme}://…: must be a file, memory, or postgresql://…")
    path = Path(name)
    return Opened(SqliteStore(clock, options, path), str(path))


def _open_postgres(url: str, clock: Clock, options: EngineOptions, listens: str) -> Opened:
    try:
        from pullcord.stores.postgres import Address, PostgresStore, StoreError
    except ImportError as error:
        raise StoreRefused(str(missing("PostgreSQL", "postgres", error))) from error
    address = Address(url)
    try:
        store = PostgresStore(
            address, clock, options, listens=Address(listens) if listens else None
        )
    except (StoreError, StoreUnavailable) as error:
        raise StoreRefused(f"the store {address.shown} cannot be used: {error}") from error
    return Opened(store, address.shown)


def outlived(name: str) -> float:
    """For how many seconds, at least, nobody takes a process for dead that has died with this store
    open; infinite where no other process shares it."""
    if is_shared(name):
        with contextlib.suppress(ImportError):  # opening it says what is missing
            from pullcord.stores.postgres.membership import LEASE

            return LEASE.death - LEASE.beat
    return math.inf


def open_default(listen: str, clock: Clock, options: EngineOptions) -> Opened:
    """The store if none is named: a file for each listen address, which git ignores.

    A free port (0) is another one each time, so that nobody would find the file again; and where
    nothing may be written, as in many containers, runs are kept in memory. Raises StoreRefused.
    """
    path = default_path(listen)
    if path is None:
        return open_store(MEMORY, clock, options)
    try:
        _make_folder(path.parent)
        return open_store(str(path), clock, options)
    except StoreUnwritable as error:
        _log.warning("%s; runs are kept in memory, unless --store names another place", error)
        return open_store(MEMORY, clock, options)


def default_path(listen: str) -> Path | None:
    """The file of a listen address, beneath the working directory; None: it has none."""
    if not listen.startswith("unix:") and listen.rpartition(":")[2] == "0":
        return None
    return Path(FOLDER) / f"{listen.replace('/', '-')}.db"


def _make_folder(folder: Path) -> None:
    try:
        make_private(folder)
        with contextlib.suppress(FileExistsError), (folder / ".gitignore").open("x") as file:
            file.write("*\n")
    except OSError as error:
        raise StoreUnwritable(f"{folder.absolute()} cannot be made: {error.strerror}") from error
