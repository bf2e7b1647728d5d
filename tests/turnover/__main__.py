"""`make turnover`: runs come and go for an hour, beneath them a file and a PostgreSQL
(ARGS="--minutes 60 --rate 20 --seed 1"). Nothing is swept or vacuumed by hand."""

import argparse
import contextlib
import tempfile
import time
from pathlib import Path

from pullcord.engine.clock import ThreadClock
from pullcord.engine.options import EngineOptions
from pullcord.stores.postgres import PostgresStore
from pullcord.stores.sqlite import SqliteStore

from tests.postgres import Database, Postgres
from tests.turnover.places import of_database, of_file
from tests.turnover.turnover import GROWN, Turnover

_LOOK = 15.0
"""Seconds between two looks at the sizes, which are shown."""


def main() -> None:
    """Plays it once, and says what was seen."""
    parser = argparse.ArgumentParser(prog="make turnover", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=20.0, help="runs a second, in each store")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    if given.minutes < 5:
        parser.error("--minutes must be at least 5: before a minute is over, no run expires")
    clock, options = ThreadClock(), EngineOptions(max_finished_runs=2**40)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        postgres = stack.enter_context(contextlib.closing(Postgres(durable=True)))
        database = stack.enter_context(
            contextlib.closing(Database(postgres, "turnover", real_time=True))
        )
        file = SqliteStore(clock, options, folder / "runs.db")
        tables = PostgresStore(database.address, clock, options)
        for store in (file, tables):
            stack.callback(store.close)
        turnovers = {
            "SQLite": Turnover(file, clock, of_file(folder / "runs.db"), given.seed),
            "PostgreSQL": Turnover(tables, clock, of_database(database), given.seed),
        }
        _play(turnovers, given.minutes * 60, given.rate)
    clock.close()
    grown = {name: turnover.grown() for name, turnover in turnovers.items()}
    for name, parts in grown.items():
        shown = ", ".join(f"{part} {times:.2f} x" for part, times in parts.items())
        print(
            f"{name}: {turnovers[name].runs} runs; second half beside the second quarter: {shown}"
        )
    raise SystemExit(any(max(parts.values()) > GROWN for parts in grown.values()))


def _play(turnovers: dict[str, Turnover], seconds: float, rate: float) -> None:
    begun = time.monotonic()
    looked = begun
    while (now := time.monotonic()) < begun + seconds:
        for name, turnover in turnovers.items():
            turnover.insert(max(0, int((now - begun) * rate) - turnover.runs))
            if now - looked >= _LOOK:
                turnover.look()
                sizes = " ".join(f"{k} {v / 1e6:.1f}" for k, v in turnover.sizes[-1].items())
                print(
                    f"{now - begun:6.0f} s  {name:10} {turnover.runs} runs; MB: {sizes}", flush=True
                )
        if now - looked >= _LOOK:
            looked = now
        time.sleep(0.05)


if __name__ == "__main__":
    main()
