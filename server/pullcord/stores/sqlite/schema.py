"""The tables, as a numbered list of upgrades. Each is one transaction, and none is ever changed.

A file knows its number (`user_version`) and that it is ours (`application_id`). What the rows mean
is the store's business.
"""

import sqlite3
from pathlib import Path

from pullcord.stores.sqlite.files import StoreRefused

APPLICATION_ID = 0x504C4344  # PLCD

_NEEDED = (3, 35)
"""The first SQLite that returns the rows it has changed."""
_CHECKPOINT = 4000
"""Pages in the -wal file, of 4 KiB each, after which they are moved to the file itself."""
_CACHE = 32 * 1024
"""KiB of pages that the writing connection remembers, at most."""

TOMBSTONE, WAITS, BEGUN, ENDED = range(4)
"""The states of a row: a cancel before its run, a live run that may be taken over, one that has
begun, one that has ended."""

_FIRST = """
create table incarnation(
  id integer primary key,
  begin_time real not null
);
create table run(
  id integer primary key,
  tenant text not null,
  owner text not null,
  run_id text not null,
  state integer not null,
  incarnation integer,              -- of the process that has the run while it is live
  digest blob,
  spec blob,
  policy text not null default '',
  deadline real not null default 0,
  parent_run_id text not null default '',
  stop blob,                        -- the stop that is recorded
  grace real,                       -- its grace period
  stop_expire_time real,            -- of a tombstone that a live run has taken with it
  reserved integer not null default 0,
  base blob,                        -- the run at base_sequence; no event before it is here
  base_sequence integer not null default 0,
  create_time real not null,
  expire_time real,                 -- none: the row is live
  run blob,                         -- and all below: of an ended run
  run_state text,
  runnable text,
  session_id text,
  user_id text,
  labels text,
  deliver_time real,
  decided text,
  ended integer,                    -- runs are numbered in the order they ended
  nbytes integer,
  unique(tenant, owner, run_id)
);
create index run_by_name on run(run_id);
create index run_by_age on run(create_time, run_id, tenant, owner) where state = 3;
create index run_by_owner on run(tenant, owner, create_time, run_id) where state = 3;
create index run_by_session on run(tenant, owner, session_id, ended)
  where state = 3 and session_id <> '';
create index run_by_end on run(ended, expire_time, nbytes) where state = 3;
create index run_by_expiry on run(expire_time) where expire_time is not null;
create index run_by_incarnation on run(incarnation) where state in (1, 2);
create table event(
  run integer not null,
  sequence integer not null,        -- of the last event in the record
  count integer not null,
  data blob not null,
  lengths blob
);
-- Not the table's own key: thousands of runs would each have a page that every write touches.
create unique index event_by_run on event(run, sequence);
"""

_SHARES = """
create table usage(
  tenant text not null,
  hour integer not null,            -- since the epoch, in which the runs ended
  tokens integer not null,
  cost real not null,
  primary key(tenant, hour)
) without rowid;
create index run_live on run(tenant, owner) where state in (1, 2);
create index run_early on run(tenant, expire_time) where state = 0;
create index run_stored on run(tenant, expire_time, nbytes) where state = 3;
"""

_PAUSES = """
alter table run add column question integer not null default 0;  -- the event that asks
alter table run add column continuation blob;  -- none: the pause does not outlive its process
alter table run add column paused blob;        -- how long it may wait, and the run without text
alter table run add column paused_at real;     -- when this was written
"""

_NOTICES = """
create table notice(                -- what somebody must be notified of
  number integer primary key autoincrement,
  tenant text not null,
  owner text not null,
  run_id text not null,
  runnable text not null,
  state text not null,
  question integer not null,        -- the number of the event that asked; 0: the run has ended
  note_time real not null,
  due_time real not null,
  tries integer not null default 0
);
create index notice_by_due on notice(due_time);
create index notice_by_run on notice(tenant, owner, run_id);
"""

UPGRADES: tuple[str, ...] = (_FIRST, _SHARES, _PAUSES, _NOTICES)
"""What leads from one version to the next. Append only."""


def connect(path: Path) -> sqlite3.Connection:
    """A connection whose user begins and ends its transactions, in any thread."""
    connection = sqlite3.connect(
        path, timeout=5.0, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute("pragma busy_timeout = 5000")
    return connection


def open_for_writing(path: Path, upgrades: tuple[str, ...] = UPGRADES) -> sqlite3.Connection:
    """The connection that writes; the tables are as this release knows them. Raises StoreRefused.

    A power failure loses nothing that was committed.
    """
    if sqlite3.sqlite_version_info < _NEEDED:
        raise StoreRefused(
            f"Python's SQLite is {sqlite3.sqlite_version}, and the store needs 3.35; serve with"
            " --store memory, or with a newer Python"
        )
    try:
        connection = connect(path)
        try:
            _prepare(connection, path, upgrades)
        except BaseException:
            connection.close()
            raise
    except sqlite3.DatabaseError as error:
        raise StoreRefused(
            f"the store {path} cannot be read ({error}); move it and its -wal file away, or name"
            " another file with --store"
        ) from error
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, upgrades: tuple[str, ...]) -> None:
    (ours,) = connection.execute("pragma application_id").fetchone()
    (version,) = connection.execute("pragma user_version").fetchone()
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    if tables and ours != APPLICATION_ID:
        raise StoreRefused(
            f"{path} is a database of another program; name another file with --store"
        )
    if version > len(upgrades):
        raise StoreRefused(
            f"the store {path} was written by a newer release of Pullcord (schema {version}, this"
            f" one knows {len(upgrades)}); serve it with that one, or name another file"
        )
    if not tables:  # it cannot be turned on later
        connection.execute("pragma auto_vacuum = incremental")
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute(f"pragma wal_autocheckpoint = {_CHECKPOINT}")
    connection.execute(f"pragma cache_size = -{_CACHE}")
    for number, upgrade in enumerate(upgrades[version:], version + 1):
        connection.executescript(
            f"begin immediate; {upgrade}; pragma application_id = {APPLICATION_ID};"
            f" pragma user_version = {number}; commit"
        )
