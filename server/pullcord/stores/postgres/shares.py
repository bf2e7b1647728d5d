"""Counts the shares of callers and tenants in the tables. When a bound is reached is the port's."""

from pullcord.engine.ports import Scope, Share, Spent
from pullcord.engine.shares import HOURS, check_early
from pullcord.run.record import Run
from pullcord.stores.postgres.connections import Connection

_HOUR = "floor(extract(epoch from clock_timestamp()) / 3600)::bigint"

_LOCK = "select pg_advisory_xact_lock(hashtextextended($1, 1))"
_LIVE_OF = """
select count(*) filter (where owner = $2) as of_caller, count(*) as of_tenant from run
where tenant = $1 and state between 1 and 4 and parent_run_id = ''
"""
_EARLY_OF = """
select count(*) as count,
    coalesce(extract(epoch from min(expire_time) - clock_timestamp()), 0)::double precision as wait
from run where tenant = $1 and state = 0 and expire_time > clock_timestamp()
"""
_SPENT = f"""
select coalesce(sum(tokens), 0)::bigint as tokens, coalesce(sum(cost), 0) as cost,
    min(hour) as first
from usage where tenant = $1 and hour > {_HOUR} - $2
"""
_STORED = """
select coalesce(sum(nbytes), 0)::bigint from run
where tenant = $1 and state >= 5 and expire_time > clock_timestamp()
"""
_FORGET = f"delete from usage where hour <= {_HOUR} - $1"


def spending(ended: str, tokens: str, cost: str, incarnation: str) -> str:
    """The part of a statement that ends runs which counts what they have used, once.

    `ended` names the part that has ended them; the rest are expressions of it.
    """
    return f"""s as (
    insert into usage as o (tenant, hour, incarnation, tokens, cost)
    select {ended}.tenant, {_HOUR}, {incarnation}, sum({tokens}), sum({cost}) from {ended}
    where {tokens} > 0 or {cost} > 0 group by {ended}.tenant order by {ended}.tenant
    on conflict (tenant, hour, incarnation) do update set
        tokens = o.tokens + excluded.tokens, cost = o.cost + excluded.cost
)"""


def used_columns(run: Run) -> tuple[int, float]:
    """Tokens and cost that count for a run's tenant; a child's count with its root's."""
    if run.parent_run_id:
        return 0, 0.0
    return run.usage.total_tokens, run.usage.cost or 0.0


async def lock(connection: Connection, scope: Scope) -> None:
    """Nobody else admits runs of the tenant until this transaction has ended."""
    # A statement of its own: only the next one sees all runs of those who have had the lock.
    await connection.execute(_LOCK, scope.tenant)


async def check_share(connection: Connection, scope: Scope, share: Share) -> None:
    """Raises QuotaExceeded if the run that was made in this transaction is too many."""
    live = await connection.fetchrow(_LIVE_OF, scope.tenant, scope.owner)
    assert live is not None
    share.check(live["of_caller"] - 1, live["of_tenant"] - 1)


async def check_early_cancels(connection: Connection, scope: Scope, most: int | None) -> None:
    """Raises QuotaExceeded if one more cancel before its run would be too many."""
    if most is not None:
        early = await connection.fetchrow(_EARLY_OF, scope.tenant)
        assert early is not None
        check_early(early["count"], most, early["wait"])


async def spent(connection: Connection, tenant: str) -> Spent:
    """What the tenant's ended runs have used in the last hours, in all processes."""
    row = await connection.fetchrow(_SPENT, tenant, HOURS)
    assert row is not None
    return Spent(row["tokens"], row["cost"], row["first"])


async def stored_bytes(connection: Connection, tenant: str) -> int:
    """What the tenant's ended runs take."""
    return int(await connection.fetchval(_STORED, tenant))


async def forget_old(connection: Connection) -> None:
    """Deletes the usage of hours that count no more."""
    await connection.execute(_FORGET, HOURS)
