"""The connections that read. Each is used by one thread at a time, and cannot write.

No transaction is kept open: a reader that stays would make the file's log grow.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pullcord.run.errors import StoreUnavailable
from pullcord.stores.sqlite.schema import connect
from pullcord.stores.sqlite.writer import refusal

_KEPT = 8
"""Connections that wait for the next reader."""


class Readers:
    """Reading connections to one file. Any thread may ask for one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._free: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the file until the block is left.

        Raises StoreUnavailable.
        """
        try:
            connection = self._take()
            try:
                connection.execute("begin")
                yield connection
            finally:
                self._give_back(connection)
        except sqlite3.Error as error:
            raise refusal(error) from error

    def close(self) -> None:
        """Lets go of the file."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            if self._free:
                return self._free.pop()
        connection = connect(self._path)
        connection.execute("pragma query_only = 1")
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        try:
            connection.execute("rollback")
        except sqlite3.Error:
            connection.close()
            return
        with self._lock:
            if not self._closed and len(self._free) < _KEPT:
                self._free.append(connection)
                return
        connection.close()
