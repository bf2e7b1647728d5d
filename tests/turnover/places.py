"""Where a turnover is played: a file, and a PostgreSQL of its own. How much they take is told."""

from collections.abc import Callable
from pathlib import Path

from tests.postgres import Database

Measure = Callable[[], dict[str, int]]

_CHECKPOINTED = 24_000_000
"""Bytes that the -wal file may have between two checkpoints."""
_TABLES = ("run", "event", "replica")


def of_file(path: Path) -> Measure:
    """The file, and what was not moved to it yet."""

    def measure() -> dict[str, int]:
        wal = path.with_name(f"{path.name}-wal")
        return {"file": path.stat().st_size, "wal": max(wal.stat().st_size, _CHECKPOINTED)}

    return measure


def of_database(database: Database) -> Measure:
    """Each table with its indexes."""

    def measure() -> dict[str, int]:
        sizes = (f"pg_total_relation_size('pullcord.{name}') as {name}" for name in _TABLES)
        (row,) = database.rows(f"select {', '.join(sizes)}")
        return dict(row)

    return measure
