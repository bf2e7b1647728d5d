"""Runs in a file of SQLite's, for one server process: they outlive it.

`store` has the verbs, `tables` what they do to rows, `stored` the form of runs and events there,
`writer` the one thread that writes, `reading` the connections that read, `schema` the tables and
how they are upgraded, `files` who may have the file, `sweep` how rows go.
"""

from pullcord.stores.sqlite.files import StoreRefused
from pullcord.stores.sqlite.store import SqliteStore

__all__ = ["SqliteStore", "StoreRefused"]
