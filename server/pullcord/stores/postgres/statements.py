"""Every statement of the store's verbs, each one transaction. Nothing is executed here.

`$1` is this process's incarnation wherever a statement writes for runs that it executes. Times are
the server's, read once a statement by `clock_timestamp()`.
"""

from pullcord.stores.postgres.shares import spending

FENCE = "f as materialized (select 1 from replica where incarnation = $1 and alive for key share)"
"""Proves that this process has not been declared dead. It does not hold up beats; a death waits for
it, and it for a death."""

LAZY_FENCE = (
    "f as materialized (select set_config('synchronous_commit', 'off', true)"
    " from replica where incarnation = $1 and alive for key share)"
)
"""The same for what may be lost with the server's machine, as what comes later is lost with it."""

EXPIRED = "r.expire_time <= clock_timestamp()"
_SAME = "r.tenant = $1 and r.owner = $2 and r.run_id = $3"
LIVE = "r.state between 1 and 4"
CARRIED = (
    "(r.state = 3 and r.continuation is not null and r.question = r.last_seq and r.stop is null)"
)
"""It waits for a decision and can go on anywhere: nothing came after its pause."""
STANDS = (
    "(r.state = 2 and r.continuation is not null and r.question = r.last_seq and r.stop is null)"
)
"""It waits for children that do, and can go on anywhere as well, if they all can."""
RESTS = f"({CARRIED} or {STANDS})"
QUEUED = f"""
(r.incarnation is null and (r.state = 1 or ({RESTS} and (r.parent_run_id = '' or exists (
    select 1 from run p where p.tenant = r.tenant and p.owner = r.owner
        and p.run_id = r.parent_run_id and p.state between 1 and 4)))))
"""
"""No process has it, and one may take it up; a child with its parent."""

LEFT = (
    "r.id, r.tenant, r.owner, r.run_id, r.state, r.incarnation, r.begun, r.spec, r.policy,"
    " r.deadline, r.parent_run_id, r.stop, r.stop_grace, r.stop_now, r.reserved, r.last_seq,"
    " r.base, r.base_seq, r.question, r.decided, r.create_time, r.place"
)
"""What a live run is composed of, apart from its events."""

_COLUMNS = (
    "tenant, owner, run_id, spec, digest, session_id, user_id, runnable, parent_run_id, labels,"
    " create_time"
)

RESET = """
    id = default, prior = case when r.state >= 5 then r.id end,
    state = excluded.state, incarnation = excluded.incarnation, claim = excluded.claim,
    begun = excluded.begun, spec = excluded.spec, digest = excluded.digest,
    policy = excluded.policy, deadline = excluded.deadline, parent_run_id = excluded.parent_run_id,
    reserved = excluded.reserved, last_seq = excluded.last_seq, base = null, base_seq = 0,
    session_id = excluded.session_id, session_policy = excluded.session_policy,
    place = excluded.place, user_id = excluded.user_id, runnable = excluded.runnable,
    labels = excluded.labels, question = 0, continuation = null, paused = null, decision = null,
    decider = '',
    decided = excluded.decided, record = excluded.record, output = excluded.output,
    nbytes = excluded.nbytes, deliver_time = excluded.deliver_time, ending = excluded.ending,
    watched_until = null, create_time = excluded.create_time, start_time = 0,
    expire_time = excluded.expire_time
"""

ADMIT = f"""
with {FENCE},
a as (
    insert into run as r ({_COLUMNS}, incarnation, claim, state, begun, policy, deadline,
        session_policy, place, reserved)
    select $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12, $1, $13,
        case when $14::boolean then 2 else 1 end, $14, $15, $16, $17,
        case when $18::boolean then nextval('place') end, $19
    from f
    on conflict (tenant, owner, run_id) do update set {RESET},
        early_until = case when r.state = 0 and not ({EXPIRED}) then r.expire_time
            when {LIVE} then r.early_until end,
        stop = case when {LIVE} or (r.state = 0 and not ({EXPIRED})) then r.stop end,
        stop_grace = case when {LIVE} or (r.state = 0 and not ({EXPIRED})) then r.stop_grace end,
        stop_now = ({LIVE} or (r.state = 0 and not ({EXPIRED}))) and r.stop_now
    where r.state = 0 or {EXPIRED} or ({LIVE} and r.incarnation = $1 and r.claim = $13)
    returning id, prior, stop, stop_grace, stop_now, reserved, place
),
d as (delete from event using a where event.id = a.prior)
select a.id, a.stop, a.stop_grace, a.stop_now, a.reserved, a.place from a
"""
"""A live row, where there is none, or only a tombstone or an expired one; or one that this call has
made, whose first answer never came. $13: the call's own number."""

WITHDRAW = f"""
with {FENCE},
w as (
    select id, early_until from run r, f
    where r.tenant = $2 and r.owner = $3 and r.run_id = $4 and r.incarnation = $1 and {LIVE}
    for update of r
),
b as (
    update run r set state = 0, incarnation = null, spec = null, digest = null, place = null,
        begun = false, claim = 0, expire_time = w.early_until
    from w where r.id = w.id and w.early_until is not null
),
g as (delete from run r using w where r.id = w.id and w.early_until is null)
delete from event using w where event.id = w.id
"""

BEGIN = f"""
with {FENCE}
update run r set begun = true, state = 2, start_time = $5 from f
where r.tenant = $2 and r.owner = $3 and r.run_id = $4 and r.incarnation = $1
    and r.state between 1 and 3 and r.stop is null
    and (r.begun or r.place is null or not exists (
        select 1 from run o where o.tenant = r.tenant and o.owner = r.owner
            and o.session_id = r.session_id and o.user_id = r.user_id
            and o.place < r.place and o.state between 1 and 4))
returning r.id
"""

OPEN = f"""
with {FENCE},
o as (
    insert into run ({_COLUMNS}, incarnation, state, begun, policy, deadline)
    select $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12, $1, 2, true, $13, $14
    from f
    on conflict (tenant, owner, run_id) do nothing
    returning id
)
select id from o
"""
"""A row for a child that began before the store heard of it."""

APPEND = """
with {fence},
e as (
    select * from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::smallint[],
        $7::bigint[], $8::bytea[], $9::bytea[], $10::bigint[], $11::bytea[], $12::bytea[])
        as e(id, after, last, reserve, state, question, continuation, paused, seq, data, lengths)
),
u as (
    update run r set last_seq = e.last, reserved = greatest(r.reserved, e.reserve),
        state = case when r.state between 1 and 3 and e.state > 0 then e.state else r.state end,
        question = case when e.state > 0 then e.question else r.question end,
        continuation = case when e.state > 0 then e.continuation else r.continuation end,
        paused = case when e.state > 0 then e.paused else r.paused end,
        paused_at = case when e.state > 0 then clock_timestamp() else r.paused_at end,
        decision = case when e.state > 0 then null else r.decision end
    from e, f
    where r.id = e.id and r.incarnation = $1 and r.state between 1 and 4 and r.last_seq = e.after
    returning r.id, r.last_seq, r.reserved, r.stop, r.stop_grace, r.stop_now, r.decision,
        r.decider, r.question, coalesce(r.watched_until > clock_timestamp(), false) as watched
),
i as (
    insert into event (id, prev, seq, data, lengths)
    select e.id, e.after, coalesce(e.seq, e.last), e.data, e.lengths
    from e join u on u.id = e.id where e.data is not null
    union all
    select v.id, v.prev, v.seq, v.data, v.lengths
    from unnest($13::bigint[], $14::bigint[], $15::bigint[], $16::bytea[], $17::bytea[])
        as v(id, prev, seq, data, lengths)
    join u on u.id = v.id
),
n as materialized (
    select pg_notify('pc_log_' || $1, '') from (select 1 from u where watched limit 1) as one
)
select u.*, (select count(*) from n) from u
"""
"""Events, each of whose predecessor is the last one there is, and numbers to be shown. The first
record of a run stands with it, and in arrays of their own only those after it. An array that is
null stands for one of nulls: most runs have one record that is not merged, and do not pause."""

REBASE = f"""
with {FENCE},
u as (
    update run r set base = $3, base_seq = $4, last_seq = $4 from f
    where r.id = $2 and r.incarnation = $1 and {LIVE} and r.last_seq <= $4 and r.base_seq < $4
    returning r.id
)
delete from event using u where event.id = u.id
"""
"""A run in place of its events up to a number, where the owner has dropped some of them."""

STANDING = f"""
select r.id, r.last_seq, r.reserved, r.stop, r.stop_grace, r.stop_now, r.decision, r.decider,
    r.question
from run r join replica on replica.incarnation = r.incarnation and replica.alive
where r.id = any($2) and r.incarnation = $1 and {LIVE}
"""

MINE = f"""
select r.id, r.reserved, r.last_seq from run r
where {_SAME} and r.incarnation = $4 and {LIVE}
"""

END = f"""
with {FENCE},
e as (
    select * from unnest($2::bigint[], $3::bigint[], $4::bigint[], $5::smallint[], $6::bytea[],
        $7::bytea[], $8::double precision[], $9::text[], $10::double precision[], $11::bigint[],
        $12::bigint[], $13::double precision[])
        as e(id, after, last, state, record, output, deliver_time, decided, keep, nbytes, tokens,
            cost)
),
u as (
    update run r set state = e.state, last_seq = e.last, record = e.record, output = e.output,
        deliver_time = e.deliver_time, decided = e.decided, nbytes = e.nbytes,
        question = 0, continuation = null, paused = null, decision = null, base = null,
        ending = nextval('ending'), expire_time = clock_timestamp() + make_interval(secs => e.keep)
    from e, f
    where r.id = e.id and r.incarnation = $1 and {LIVE} and r.last_seq = e.after
        and (r.stop is null or e.state = 6)
    returning r.id, r.tenant, e.tokens, e.cost
),
i as (
    insert into event (id, prev, seq, data, lengths)
    select v.id, v.prev, v.seq, v.data, v.lengths
    from unnest($14::bigint[], $15::bigint[], $16::bigint[], $17::bytea[], $18::bytea[])
        as v(id, prev, seq, data, lengths)
    join u on u.id = v.id
),
{spending("u", "u.tokens", "u.cost", "$1")}
select u.id, pg_notify('pc_end', u.id::text) from u
"""
"""Ends, each with the events that the store did not have."""

END_MISSING = f"""
with {FENCE},
a as (
    insert into run as r ({_COLUMNS}, incarnation, state, begun, last_seq, reserved, record, output,
        deliver_time, decided, nbytes, ending, expire_time)
    select $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::jsonb, $12, $1, $13, true, $14, $14, $15,
        $16, $17, $18, $19, nextval('ending'), clock_timestamp() + make_interval(secs => $20)
    from f
    on conflict (tenant, owner, run_id) do update set {RESET}
    where r.state = 0 or {EXPIRED}
    returning id, prior, tenant
),
d as (delete from event using a where event.id = a.prior),
i as (
    insert into event (id, prev, seq, data, lengths)
    select a.id, v.prev, v.seq, v.data, v.lengths
    from a, unnest($23::bigint[], $24::bigint[], $25::bytea[], $26::bytea[])
        as v(prev, seq, data, lengths)
),
{spending("a", "$21::bigint", "$22::double precision", "$1")}
select a.id, pg_notify('pc_end', a.id::text) from a
"""
"""The end of a run that the store has not heard of."""

STOP = f"""
with u as (
    update run r set stop = coalesce(r.stop, $4), stop_grace = least(r.stop_grace, $5),
        stop_now = r.stop_now or $6, state = case when r.state = 0 then 0 else 4 end
    where {_SAME} and r.state <= 4 and not coalesce({EXPIRED}, false)
    returning {LEFT}
)
select u.*, case when u.incarnation is not null
    then pg_notify('pc_run_' || u.incarnation, u.id::text) end from u
"""
"""A cancel: the first one stands, a later one can only hasten it. Its owner is notified."""

BURY = f"""
insert into run as r (tenant, owner, run_id, state, stop, stop_grace, stop_now, expire_time)
select $1, $2, $3, 0, $4, $5, $6, clock_timestamp() + make_interval(secs => $7)
where (select count(*) from run t
    where t.state = 0 and t.expire_time > clock_timestamp()) < $8
on conflict (tenant, owner, run_id) do update set id = default,
    prior = case when r.state >= 5 then r.id end, state = 0, stop = excluded.stop,
    stop_grace = excluded.stop_grace, stop_now = excluded.stop_now, spec = null, digest = null,
    record = null, output = null, ending = null, place = null,
    expire_time = excluded.expire_time
where {EXPIRED}
returning r.prior
"""
"""A cancel that waits for its run, unless too many do."""

FORGET_EVENTS = "delete from event where id = $1"

ROW = f"""
select r.id, r.state, r.incarnation, r.digest, r.stop, r.stop_grace, r.stop_now, r.last_seq
from run r where {_SAME} and not coalesce({EXPIRED}, false)
"""

_KEPT = f"r.state >= 5 and not ({EXPIRED})"
_ENDED = "r.id, r.spec, r.record, r.output, r.deliver_time, r.decided"

FIND = f"select {_ENDED} from run r where {_SAME} and {_KEPT}"

OWNERS = f"""
select r.tenant, r.owner from run r
where r.run_id = $1 and ($2 = '' or r.tenant = $2) and ($3 = '' or r.owner = $3) and r.state > 0
    and not coalesce({EXPIRED}, false)
"""

EVENTS = """
select seq, prev, data, lengths from event where id = $1 and seq > $2 order by prev limit $3
"""

HISTORY = f"""
select r.record, r.output from run r
where r.tenant = $1 and r.owner = $2 and r.session_id = $3 and r.session_id <> ''
    and r.user_id = $4 and r.runnable = $5 and {_KEPT}
order by r.ending desc limit $6
"""

SIZE = """
select count(*) filter (where state between 1 and 4) as live,
    count(*) filter (where state = 0 and expire_time > clock_timestamp()) as tombstones,
    count(*) filter (where state >= 5 and expire_time > clock_timestamp()) as ended,
    coalesce(sum(nbytes) filter (where state >= 5 and expire_time > clock_timestamp()), 0) as bytes
from run
"""

# --- the runs of other processes

ELSEWHERE = f"select {LEFT} from run r where {_SAME} and {LIVE}"
TAILED = f"select {LEFT}, r.output, r.record, r.deliver_time from run r where r.id = any($1)"
TAIL = """
select w.id, e.seq, e.prev, e.data, e.lengths
from unnest($1::bigint[], $2::bigint[]) as w(id, after)
cross join lateral (
    select * from event where event.id = w.id and event.seq > w.after order by event.prev limit 256
) as e
"""
"""What is new of all runs that are followed, in one query."""

WATCH = """
update run r set watched_until = clock_timestamp() + make_interval(secs => $2)
where r.id = any($1) and r.state between 1 and 4
"""
ATTEND = f"""
update run r set watched_until = clock_timestamp() + make_interval(secs => $4)
where {_SAME} and {LIVE}
"""
WATCHED = f"""
select 1 from run r where {_SAME} and r.watched_until > clock_timestamp()
"""
NEWS = f"""
select r.id, r.tenant, r.owner, r.run_id, r.stop, r.stop_grace, r.stop_now, r.decision, r.decider,
    r.question, coalesce(r.watched_until > clock_timestamp(), false) as watched
from run r
where r.incarnation = $1 and {LIVE}
    and (r.stop is not null or r.decision is not null or r.watched_until is not null)
"""
DECIDE = """
with u as (
    update run r set decision = coalesce(r.decision, $3), decider = case
        when r.decision is null then $4 else r.decider end
    where r.id = $1 and r.state = 3 and r.question = $2
    returning r.id, r.incarnation, r.decision
)
select u.decision, case when u.incarnation is not null
    then pg_notify('pc_run_' || u.incarnation, u.id::text) end from u
"""
GO_ON = f"""
with {FENCE}
update run r set decision = coalesce(r.decision, $5), decider = case
        when r.decision is null then $6 else r.decider end,
    continuation = case when coalesce(r.decision, $5) = $5 then null else r.continuation end,
    paused = case when coalesce(r.decision, $5) = $5 then null else r.paused end,
    decided = case when coalesce(r.decision, $5) = $5 then $8 else r.decided end
from f
where r.tenant = $2 and r.owner = $3 and r.run_id = $4 and r.incarnation = $1 and r.state = 3
    and r.question = $7 and r.stop is null
returning r.decision = $5 as mine
"""
"""By the owner: what was recorded first stands. If it is this, nobody takes the run up any more."""
CLAIM = f"""
with {FENCE},
c as (
    select r.id from run r, f
    where r.incarnation is null and (r.state = 1 or (r.parent_run_id = '' and {RESTS}))
        and ($2::text[] is null or r.runnable = any($2))
    order by r.create_time limit $3::bigint for update of r skip locked
)
update run r set incarnation = $1, claim = $4 from c where r.id = c.id
returning {LEFT}, r.continuation, r.paused,
    extract(epoch from clock_timestamp() - r.paused_at)::double precision as elapsed
"""
"""Runs that nobody has. $4: the call's own number."""
RECLAIM = f"""
select {LEFT}, r.continuation, r.paused,
    extract(epoch from clock_timestamp() - r.paused_at)::double precision as elapsed
from run r
where r.incarnation = $1 and r.claim = $2 and {LIVE}
    and ((r.state = 1 and not r.begun) or (r.parent_run_id = '' and {RESTS}))
"""
"""Those that this call has claimed, whose answer never came."""
CLAIM_CHILDREN = f"""
with {FENCE}
update run r set incarnation = $1, claim = $5
from f, unnest($2::text[], $3::text[], $4::text[]) as c(tenant, owner, run_id)
where r.tenant = c.tenant and r.owner = c.owner and r.run_id = c.run_id
    and (r.incarnation is null or (r.incarnation = $1 and r.claim = $5)) and {RESTS}
returning {LEFT}, r.continuation, r.paused,
    extract(epoch from clock_timestamp() - r.paused_at)::double precision as elapsed
"""
STOPPED_CHILDREN = """
select r.tenant, r.owner, r.run_id, r.id, r.spec, r.record, r.output, r.deliver_time, r.decided
from run r, unnest($1::text[], $2::text[], $3::text[]) as c(tenant, owner, run_id)
where r.tenant = c.tenant and r.owner = c.owner and r.run_id = c.run_id and r.state = 6
    and r.incarnation is null
"""
"""Children that were stopped while no process had them, or one that died before it made anything
of it: their parents have done nothing since. Of any other, nobody knows what its parent has done
by then."""
MUST_GO_ON = """
update run r set continuation = null, paused = null where r.id = any($2) and r.incarnation = $1
"""
"""Runs that go on without a decision, now: nobody else may."""
GIVE_BACK = f"""
update run r set incarnation = null
from unnest($2::text[], $3::text[], $4::text[]) as c(tenant, owner, run_id)
where r.tenant = c.tenant and r.owner = c.owner and r.run_id = c.run_id
    and r.incarnation = $1 and {LIVE}
"""
GIVE_UP = """
update run r set incarnation = null, continuation = null where r.id = $2 and r.incarnation = $1
"""
"""A pause that cannot be read here: the run is lost."""

# --- sessions

SESSION_LOCK = "select pg_advisory_xact_lock(hashtextextended($1, 0))"
"""The next statement sees all who have had it. One statement for both would not."""
AHEAD = f"""
select o.run_id from run r join run o on o.tenant = r.tenant and o.owner = r.owner
    and o.session_id = r.session_id and o.user_id = r.user_id
    and o.place < r.place and o.state between 1 and 4
where {_SAME} and {LIVE}
order by o.place
"""
IN_SESSION = """
select r.run_id from run r
where r.tenant = $1 and r.owner = $2 and r.session_id = $3 and r.user_id = $4
    and r.place is not null and r.state between 1 and 4 and r.run_id <> $5
order by r.place limit 1
"""
