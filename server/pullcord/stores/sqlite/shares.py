"""Counts the shares of callers and tenants in the file. When a bound is reached is the port's."""

import sqlite3

from pullcord.engine.ports import Share, Spent
from pullcord.engine.shares import HOURS, check_early
from pullcord.run.record import Run
from pullcord.run.scope import Scope


def check_share(db: sqlite3.Connection, scope: Scope, share: Share) -> None:
    """Raises QuotaExceeded if one more live run would be too many."""
    of_caller, of_tenant = db.execute(
        "select coalesce(sum(owner = ?), 0), count(*) from run"
        " where tenant = ? and state in (1, 2) and parent_run_id = ''",
        (scope.owner, scope.tenant),
    ).fetchone()
    share.check(of_caller, of_tenant)


def check_early_cancels(db: sqlite3.Connection, tenant: str, most: int | None, now: float) -> None:
    """Raises QuotaExceeded if one more cancel before its run would be too many."""
    if most is not None:
        count, first = db.execute(
            "select count(*), min(expire_time) from run"
            " where tenant = ? and state = 0 and expire_time > ?",
            (tenant, now),
        ).fetchone()
        check_early(count, most, (first or now) - now)


def spend(db: sqlite3.Connection, run: Run, hour: int) -> None:
    """What a run has used counts for its tenant, with what its children have."""
    usage = run.usage
    if run.parent_run_id or not (usage.total_tokens or usage.cost):
        return
    db.execute(
        "insert into usage(tenant, hour, tokens, cost) values (?, ?, ?, ?)"
        " on conflict(tenant, hour) do update set"
        " tokens = tokens + excluded.tokens, cost = cost + excluded.cost",
        (run.tenant, hour, usage.total_tokens, usage.cost or 0.0),
    )


def forget_old(db: sqlite3.Connection, hour: int) -> None:
    """Deletes the usage of hours that count no more."""
    db.execute("delete from usage where hour <= ?", (hour - HOURS,))


def spent(db: sqlite3.Connection, tenant: str, hour: int) -> Spent:
    """What the tenant's ended runs have used in the last hours."""
    found = db.execute(
        "select coalesce(sum(tokens), 0), coalesce(sum(cost), 0.0), min(hour) from usage"
        " where tenant = ? and hour > ?",
        (tenant, hour - HOURS),
    ).fetchone()
    return Spent(*found)


def stored_bytes(db: sqlite3.Connection, tenant: str, now: float) -> int:
    """What the tenant's ended runs take."""
    (nbytes,) = db.execute(
        "select coalesce(sum(nbytes), 0) from run"
        " where tenant = ? and state = 3 and expire_time > ?",
        (tenant, now),
    ).fetchone()
    return int(nbytes)
