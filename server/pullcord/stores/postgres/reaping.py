"""What becomes of the runs of a process that is dead: those that had begun end, the others wait.

The replica that notices does it, again and again, and each run once: an end is written only if the
run is still as it was when its end was composed.
"""

from functools import partial

import asyncpg

from pullcord.engine.log.record import Record
from pullcord.engine.ports import CancelRequest, OnLost, Terms
from pullcord.run.record import DisconnectPolicy
from pullcord.run.scope import Scope
from pullcord.stores.fold import Left, lost
from pullcord.stores.postgres import statements as sql
from pullcord.stores.postgres.connections import Connection
from pullcord.stores.postgres.core import STATES, Core, stop_columns, stop_in
from pullcord.stores.postgres.reading import events
from pullcord.stores.postgres.shares import spending, used_columns
from pullcord.stores.postgres.writing import record_columns
from pullcord.stores.rows import event_row, spec_of, stored_run

_BATCH = 20
"""Runs that are looked at together: each with all its events."""

_ORPHANS = f"""
select {sql.LEFT}, ({sql.RESTS} and (r.incarnation is not null or {sql.QUEUED})) as carried,
    extract(epoch from clock_timestamp())::double precision as now
from run r left join replica p on p.incarnation = r.incarnation
where {sql.LIVE} and not coalesce(p.alive, false)
    and not {sql.QUEUED}
order by r.parent_run_id = '', r.id limit $1
"""
"""Children first: a process that takes up their parent finds them."""
_DEAD = """
    not exists (select 1 from replica p where p.incarnation = $2 and p.alive)
"""
_REQUEUE = f"""
with u as (
    update run r set incarnation = null
    where r.id = $1 and r.incarnation is not distinct from $2 and r.stop is null
        and ((r.state = 1 and not r.begun) or {sql.RESTS}) and {_DEAD}
    returning r.id
)
select u.id, pg_notify('pc_queue', '') from u
"""
_LOSE = f"""
with u as (
    update run r set state = $4::smallint, last_seq = $5::bigint,
        reserved = greatest(r.reserved, $5::bigint - 1),
        record = $6, output = $7, nbytes = $8, question = 0, continuation = null, paused = null,
        decision = null, base = null,
        incarnation = case when r.continuation is not null and r.question = r.last_seq
            then null else r.incarnation end,
        ending = nextval('ending'), expire_time = clock_timestamp() + make_interval(secs => $9)
    where r.id = $1 and r.incarnation is not distinct from $2 and {sql.LIVE}
        and r.last_seq = $3::bigint and (r.stop is not null) = $10::boolean
        and r.stop_now = $11::boolean and {_DEAD}
    returning r.id, r.tenant
),
i as (
    insert into event (id, prev, seq, data)
    select u.id, $5::bigint - 1, $5::bigint, $12::bytea from u
),
{spending("u", "$13::bigint", "$14::double precision", "coalesce($2::text, '')")}
select u.id, pg_notify('pc_end', u.id::text) from u
"""
"""The end of a run whose process is dead, unless it has changed since it was composed. One that was
stopped while it waited, and of which its process made nothing since, belonged to nobody."""


_STOP_CHILDREN = """
update run r set stop = $4, stop_grace = $5, stop_now = $6, state = 4
where r.tenant = $1 and r.owner = $2 and r.parent_run_id = $3 and r.parent_run_id <> ''
    and r.state between 1 and 3 and r.stop is null
    and not exists (select 1 from replica p where p.incarnation = r.incarnation and p.alive)
"""


async def reap(core: Core, on_lost: OnLost) -> int:
    """Ends or requeues the runs of the dead until there are none; how many that were.

    `on_lost` is told of each that was ended.
    """
    reaped = 0
    while True:
        rows = await core.control.ask(lambda connection: connection.fetch(_ORPHANS, _BATCH))
        done = 0
        for row in rows:
            done += await core.control.ask(partial(_reap, core=core, row=row, on_lost=on_lost))
        reaped += done
        if not done:
            return reaped


async def _reap(connection: Connection, core: Core, row: asyncpg.Record, on_lost: OnLost) -> bool:
    if row["carried"] or (not row["begun"] and row["stop"] is None):
        return await connection.fetchrow(_REQUEUE, row["id"], row["incarnation"]) is not None
    records = await events(connection, row["id"], row["base_seq"])
    options = core.options
    left = left_of(row, records)
    ended, end = lost(left, row["now"], options)
    run, event = ended.run, event_row(ended.run.run_id, end)
    stop = stop_in(row)
    if stop is not None:  # those that wait with it are stopped by the same
        parent = CancelRequest(stop.cancellation.for_child(), stop.grace_period)
        key = (left.scope.tenant, left.scope.owner, left.spec.run_id)
        await connection.execute(_STOP_CHILDREN, *key, *stop_columns(parent))
    record, output = record_columns(run)
    written = await connection.fetchrow(
        _LOSE,
        row["id"],
        row["incarnation"],
        row["last_seq"],
        STATES[run.state],
        run.last_sequence,
        record,
        output,
        sum(len(r.wire or b"") for r in records) + len(record) + len(output) + 2048,
        run.expire_time - run.end_time,
        stop is not None,
        row["stop_now"],
        event.data,
        *used_columns(run),
    )
    if written is not None:
        on_lost(run)
    return written is not None


def left_of(row: asyncpg.Record, records: list[Record]) -> Left:
    """What the store has of a live run."""
    terms = Terms(
        DisconnectPolicy(row["policy"] or DisconnectPolicy.CONTINUE),
        row["deadline"],
        row["parent_run_id"],
        row["begun"],
    )
    return Left(
        Scope(row["tenant"], row["owner"]),
        spec_of(row["spec"]),
        terms,
        row["create_time"],
        row["begun"],
        row["reserved"],
        records,
        None if row["base"] is None else stored_run(row["base"]),
        stop_in(row),
    )
