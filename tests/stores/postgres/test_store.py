"""The store in PostgreSQL: its tables, its fence, its races, and what it refuses to start on."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest
from pullcord.engine.clock import ThreadClock
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import LOCAL, Admitted, CancelRequest, Entry, Scope, Share, Terms
from pullcord.run.cancel import Cancellation
from pullcord.run.errors import QuotaExceeded, StoreUnavailable
from pullcord.run.record import RunSpec
from pullcord.stores.opening import open_store
from pullcord.stores.postgres import Address, PostgresStore, StoreError, membership, migrations
from pullcord.stores.postgres import statements as sql
from pullcord.stores.postgres.membership import Lease
from pullcord.stores.postgres.upkeep import check, migrate, sweep_all
from pullcord.stores.sqlite import StoreRefused

from tests.postgres import Database, Postgres
from tests.stores.postgres.two import QUICK


def opened(address: Address, lease: Lease = QUICK) -> PostgresStore:
    return PostgresStore(address, ThreadClock(), EngineOptions(), lease)


def spec(run_id: str, **fields: Any) -> RunSpec:
    return RunSpec("agents/a", run_id=run_id, **fields)


async def new_database(postgres: Postgres, name: str) -> Address:
    connection = await asyncpg.connect(postgres.url())
    await connection.execute(f'drop database if exists "{name}"')
    await connection.execute(f'create database "{name}"')
    await connection.close()
    return Address(postgres.url(name))


# --- tables


async def test_the_tables_are_made_once_however_many_start(postgres: Postgres) -> None:
    """Three processes that start at once on an empty database all find the tables; making them
    again finds nothing to do."""
    address = await new_database(postgres, "fresh")
    stores = await asyncio.gather(*(asyncio.to_thread(opened, address) for _ in range(3)))
    for store in stores:
        await asyncio.to_thread(store.close)
    assert await migrate(address) == ["there was nothing to do"]
    lines = await check(address)
    assert "can be used" in lines[0]
    assert await sweep_all(address) == ["deleted 0 expired rows"]


async def test_each_step_is_made_from_the_one_before(postgres: Postgres) -> None:
    """From every number of steps that were made, the missing ones are made, in order; one that
    fails leaves the tables as they were."""
    more = ("a column more", "alter table pullcord.run add column extra text")
    for done in range(len(migrations.MIGRATIONS) + 1):
        address = await new_database(postgres, "stepwise")
        connection = await address.connect()
        steps = (*migrations.MIGRATIONS, more)
        await migrations.migrate(connection, steps[:done])
        assert await migrations.version(connection) == done
        made = await migrations.migrate(connection, steps)
        assert made == [purpose for purpose, _ in steps[done:]]
        with pytest.raises(asyncpg.PostgresError):
            await migrations.migrate(connection, (*steps, ("nonsense", "create table; drop")))
        assert await migrations.version(connection) == len(steps)
        connection.terminate()
        store = await asyncio.to_thread(opened, address)  # as a release before would
        assert store.admit(LOCAL, spec("r")).reserved > 0  # type: ignore[union-attr]
        await asyncio.to_thread(store.close)


async def test_a_role_that_may_not_make_tables_suffices_to_serve(postgres: Postgres) -> None:
    """With the tables there, a role without DDL rights serves; without them it is refused in
    words, and so is a check."""
    address = await new_database(postgres, "narrow")
    owner = await asyncpg.connect(address.url)
    await owner.execute("drop role if exists clerk; create role clerk login")
    clerk = Address(postgres.url("narrow", "clerk"))
    with pytest.raises(StoreError, match="pullcord store migrate"):
        await asyncio.to_thread(opened, clerk)
    with pytest.raises(StoreError, match="step 0 of"):
        await check(clerk)
    await migrate(address)
    await owner.execute(
        "grant usage on schema pullcord to clerk;"
        "grant select, insert, update, delete on all tables in schema pullcord to clerk;"
        "grant usage on all sequences in schema pullcord to clerk"
    )
    await owner.close()
    store = await asyncio.to_thread(opened, clerk)
    assert isinstance(store.admit(LOCAL, spec("r")), Admitted)
    await asyncio.to_thread(store.sweep)
    await asyncio.to_thread(store.close)


# --- the fence


class Held:
    """An append whose transaction is open."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def begin(self, incarnation: str) -> None:
        await self.connection.execute("begin; set idle_in_transaction_session_timeout = 0")
        await self.connection.fetch(f"with {sql.FENCE} select 1 from f", incarnation)


async def lock_test(database: Database, death: str) -> None:
    """With an append's transaction open a beat passes and a death waits; and an append that waited
    for the death writes nothing."""
    store = opened(database.address, Lease(beat=60))  # only the test beats
    me = store._core.incarnation
    a, b, c = [await database.address.connect() for _ in range(3)]
    try:
        while not await b.fetchval("select beat from replica where incarnation = $1", me):
            pass  # its own first beat, after which it is silent
        await Held(a).begin(me)
        beat = await b.fetchval(
            membership._BEAT, me, 0
        )  # it does not wait, or lock_timeout ends it
        await b.execute("begin; set lock_timeout = 0")
        dying = asyncio.create_task(b.fetch(death, me, beat))
        done, _ = await asyncio.wait([dying], timeout=0.3)
        assert not done, "the death did not wait for the append"
        await a.execute("commit")
        assert len(await dying) == 1
        await c.execute("set lock_timeout = 0")
        late = asyncio.create_task(c.fetch(f"with {sql.FENCE} select 1 from f", me))
        done, _ = await asyncio.wait([late], timeout=0.3)
        assert not done, "the append did not wait for the death"
        await b.execute("commit")
        assert await late == []
    finally:
        for connection in (a, b, c):
            connection.terminate()
        store.close()


async def test_a_death_waits_for_appends_under_way(empty: Database) -> None:
    """Nothing is written for a replica once it is dead, not even by what was under way."""
    await lock_test(empty, membership.DEATH)


async def test_a_death_that_only_updates_fails_the_lock_test(empty: Database) -> None:
    """The weak variant, which slips past an append under way, is found out."""
    weak = """
        update replica set alive = false where incarnation = $1 and beat = $2 and alive
        returning incarnation
    """
    with pytest.raises(AssertionError, match="did not wait"):
        await lock_test(empty, weak)


# --- races between two processes


def test_promise_06_no_tombstone_is_lost_between_two_processes(empty: Database) -> None:
    """Of 300 starts at one process, each against its early cancel at another, every cancel is found
    by its start, or finds the run."""
    a, b = opened(empty.address), opened(empty.address)
    barrier = threading.Barrier(2)

    def start(run_id: str) -> Any:
        barrier.wait(30)
        return a.admit(LOCAL, spec(run_id))

    def cancel(run_id: str) -> Any:
        barrier.wait(30)
        request = CancelRequest(Cancellation(actor="ann", accept_time=3.0))
        return b.request_stop(LOCAL, run_id, request, before_start=True)

    before = 0
    with ThreadPoolExecutor(2) as pool:
        for n in range(300):
            both = pool.submit(start, f"r{n}"), pool.submit(cancel, f"r{n}")
            admitted, recorded = (future.result(30) for future in both)
            assert recorded.before_start == (admitted.cancellation is not None)
            before += recorded.before_start
            (written,) = a.write([Entry(LOCAL, spec(f"r{n}"), [], 0, 0)])
            assert written is not None
            assert written.stop is not None
    a.close()
    b.close()
    assert 0 < before < 300, "the race was none"


def test_the_places_of_a_tenant_are_given_away_once(empty: Database) -> None:
    """Of twelve starts at two processes, each time, as many are admitted as the tenant may have."""
    a, b = opened(empty.address), opened(empty.address)

    def start(n: int, i: int) -> bool:
        scope, terms = Scope(f"t{n}", f"o{i}"), Terms(share=Share(None, 5))
        try:
            return isinstance((a, b)[i % 2].admit(scope, spec("r"), terms), Admitted)
        except QuotaExceeded:
            return False

    with ThreadPoolExecutor(12) as pool:
        for n in range(20):
            assert sum(pool.map(lambda i, n=n: start(n, i), range(12))) == 5
    a.close()
    b.close()


# --- what it refuses


async def test_a_store_that_cannot_be_used_is_refused_in_words(postgres: Postgres) -> None:
    """A wrong database, a closed port and a read-only server are refused, without a password."""
    clock, options = ThreadClock(), EngineOptions()
    wrong = f"postgresql://pullcord:secret@127.0.0.1:{postgres.port}/nowhere"
    for url in (wrong, "postgresql://pullcord:secret@127.0.0.1:1/postgres"):
        with pytest.raises(StoreRefused) as refused:
            await asyncio.to_thread(open_store, url, clock, options)
        assert "secret" not in str(refused.value)
        assert "127.0.0.1" in str(refused.value)
    address = await new_database(postgres, "still")
    owner = await asyncpg.connect(address.url)
    await owner.execute("alter database still set default_transaction_read_only = on")
    await owner.close()
    with pytest.raises(StoreUnavailable, match="read-only"):
        await asyncio.to_thread(opened, address)


async def test_a_store_that_turns_read_only_counts_as_away(postgres: Postgres) -> None:
    """After a switch of roles the old primary takes nothing, and says so to the journal."""
    address = await new_database(postgres, "demoted")
    store = await asyncio.to_thread(opened, address)
    store.write(())
    owner = await asyncpg.connect(address.url)
    await owner.execute("alter database demoted set default_transaction_read_only = on")
    await owner.execute(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'demoted'"
        " and pid <> pg_backend_pid()"
    )
    with pytest.raises(StoreUnavailable):
        await asyncio.to_thread(store.write, ())
    await owner.execute("alter database demoted reset default_transaction_read_only")
    await owner.close()
    await asyncio.to_thread(store.close)
