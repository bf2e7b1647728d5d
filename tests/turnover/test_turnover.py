"""What a store takes stays flat while runs come and go; `make turnover` does so for an hour."""

from pathlib import Path

from pullcord.engine.options import EngineOptions
from pullcord.stores.postgres import PostgresStore
from pullcord.stores.sqlite import SqliteStore

from tests.postgres import Database, SharedClock
from tests.turnover.places import of_database, of_file
from tests.turnover.turnover import GROWN, Turnover

ROUNDS, RUNS = 12, 15
EXPIRED = 61.0


def test_a_file_stays_flat_while_runs_come_and_go(tmp_path: Path) -> None:
    """What expired runs took is given back, or used again: no round takes more than before."""
    clock, path = SharedClock(), tmp_path / "runs.db"
    store = SqliteStore(clock, EngineOptions(), path)
    turnover = Turnover(store, clock, of_file(path), seed=1)
    for _ in range(ROUNDS):
        turnover.insert(RUNS)
        clock.advance(EXPIRED)
        while store.swept < turnover.runs:
            store._writer.ask(lambda db: None)
        turnover.look()
    store.close()
    assert max(turnover.grown().values()) <= GROWN, turnover.sizes


def test_tables_stay_flat_while_runs_come_and_go(database: Database) -> None:
    """The same for PostgreSQL, once autovacuum has had its turn."""
    clock = SharedClock()
    database.clear(clock.time())
    clock.database = database
    store = PostgresStore(database.address, clock, EngineOptions())
    turnover = Turnover(store, clock, of_database(database), seed=1)
    for _ in range(ROUNDS):
        turnover.insert(RUNS)
        clock.advance(EXPIRED)
        assert store.sweep() == RUNS
        for table in ("run", "event"):
            database.execute(f"vacuum pullcord.{table}")
        turnover.look()
    store.close()
    assert max(turnover.grown().values()) <= GROWN, turnover.sizes
