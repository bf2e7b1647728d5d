"""The file of SQLite's store: who may have it, how it is upgraded, and what a broken disk does."""

import gc
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from pullcord.engine import recording
from pullcord.engine.clock import ThreadClock
from pullcord.engine.engine import Engine
from pullcord.engine.log.log import EventLog
from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import (
    LOCAL,
    CancelRequest,
    EndedRun,
    Finish,
    Recorded,
    SilentObserver,
)
from pullcord.executors.local import LocalExecutor
from pullcord.run.cancel import Cancellation
from pullcord.run.errors import StoreUnavailable
from pullcord.run.events import RunCompleted, RunStarted
from pullcord.run.record import Run, RunFilter, RunSpec
from pullcord.run.scope import EVERYBODY
from pullcord.run.state import RunState
from pullcord.stores.sqlite import SqliteStore, StoreRefused
from pullcord.stores.sqlite import writer as writing
from pullcord.stores.sqlite.schema import UPGRADES, open_for_writing
from pullcord.stores.sqlite.writer import Writer
from pullcord.testing import Gate, ManualClock, Script, say


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "runs.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = open_store(path)
    yield made
    made.close()


def open_store(path: Path, **options: Any) -> SqliteStore:
    return SqliteStore(ManualClock(), EngineOptions(**options), path)


def spec(run_id: str = "r", **fields: Any) -> RunSpec:
    return RunSpec("agents/a", run_id=run_id, **fields)


def stop(store: SqliteStore, run_id: str = "r") -> object:
    request = CancelRequest(Cancellation(actor="ann"))
    return store.request_stop(LOCAL, run_id, request, before_start=True)


# --- who may have the file


def test_a_second_server_is_refused_in_words(path: Path, store: SqliteStore) -> None:
    """While a process has the file, another one is told so; afterwards it may have it."""
    script = (
        "import pathlib, sys\n"
        "from pullcord.engine.clock import ThreadClock\n"
        "from pullcord.engine.options import EngineOptions\n"
        "from pullcord.stores.sqlite import SqliteStore\n"
        "SqliteStore(ThreadClock(), EngineOptions(), pathlib.Path(sys.argv[1])).close()\n"
    )
    second = [sys.executable, "-c", script, str(path)]
    refused = subprocess.run(second, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "is in use by another server" in refused.stderr
    with pytest.raises(StoreRefused, match="in use"):
        open_store(path)
    store.close()
    subprocess.run(second, check=True)


def test_only_its_owner_reads_it(path: Path, store: SqliteStore) -> None:
    """The directory that was made for it, and every file there, are for nobody else."""
    store.admit(LOCAL, spec())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(files) == {"runs.db", "runs.db-wal", "runs.db-shm", "runs.db.lock"}
    assert set(files.values()) == {0o600}


def test_a_directory_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """Only a directory that is made for the store is closed to others."""
    tmp_path.chmod(0o755)
    open_store(tmp_path / "runs.db").close()
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\0" + b"\1" * 900]
)
def test_a_file_that_cannot_be_read_is_refused(path: Path, content: bytes) -> None:
    """What is no database, or a damaged one, is left alone, and named."""
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreRefused, match=f"{path} cannot be read"):
        open_store(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(path: Path) -> None:
    """Tables that are not ours are left alone."""
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("create table notes(text)")
    other.close()
    with pytest.raises(StoreRefused, match="another program"):
        open_store(path)


def test_a_store_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A path that cannot be written is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreRefused, match="cannot be made"):
        open_store(tmp_path / "file" / "runs.db")


# --- upgrades


def test_an_older_store_is_upgraded(path: Path) -> None:
    """Each version leads to the next, with what was in it; once."""
    open_store(path).close()
    upgrades = (*UPGRADES, "create table extra(a)", "insert into extra values (1)")
    for _ in range(2):
        connection = open_for_writing(path, upgrades)
        assert connection.execute("select a from extra").fetchall() == [(1,)]
        assert connection.execute("pragma user_version").fetchone() == (len(upgrades),)
        connection.close()
    with pytest.raises(StoreRefused, match="newer release"):
        open_store(path)


def test_an_upgrade_that_fails_changes_nothing(path: Path) -> None:
    """An upgrade is one transaction."""
    open_store(path).close()
    broken = "create table extra(a); insert into nowhere values (1)"
    with pytest.raises(StoreRefused):
        open_for_writing(path, (*UPGRADES, broken))
    store = open_store(path)
    assert store.size().live == 0
    store.close()


def test_a_power_failure_loses_nothing(path: Path, store: SqliteStore) -> None:
    """Commits are synced, the file can shrink, and reading connections cannot write."""
    connection = store._writer._connection
    pragmas = {"journal_mode": "wal", "synchronous": 2, "auto_vacuum": 2}
    for name, value in pragmas.items():
        assert connection.execute(f"pragma {name}").fetchone() == (value,)
    with (
        pytest.raises(StoreUnavailable, match="cannot be written"),
        store._readers.reading() as db,
    ):
        db.execute("delete from run")


def test_the_words_of_erased_runs_are_not_left_in_the_file(path: Path) -> None:
    """Neither in the file nor in what is beside it, whatever pages they were on; others' are."""
    store = open_store(path)
    texts = {"ann": "annswords", "bob": "bobswords"}
    for user, text in texts.items():
        for n, words in enumerate((text, text * 20_000)):
            log = EventLog(1 << 30, 1 << 30, 1 << 30, lambda: None)
            log.append(RunStarted("agents/a"))
            log.write(words)
            log.finish(lambda _: RunCompleted())
            run = Run(
                f"{user}{n}",
                "agents/a",
                RunState.COMPLETED,
                user_id=user,
                input=words[:900],
                output=words,
                expire_time=1e12,
                last_sequence=log.last_sequence,
            )
            asked = spec(run.run_id, user_id=user, input=words[:900])
            store.finish([Finish(LOCAL, EndedRun(asked, run), log)])
    assert words_in(path) == {"ann", "bob"}
    matching = RunFilter(user_id="ann")
    assert store.erase(EVERYBODY, matching, validate_only=False).runs == 2
    assert words_in(path) == {"bob"}
    store.close()
    assert words_in(path) == {"bob"}


def words_in(path: Path) -> set[str]:
    """Whose words are anywhere in the store's files."""
    data = b"".join(file.read_bytes() for file in path.parent.iterdir())
    return {user for user in ("ann", "bob") if f"{user}swords".encode() in data}


# --- one writer


def test_askers_share_a_commit(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits while the disk is busy is one transaction, and each asker has its own answer."""
    go, begun = threading.Event(), threading.Event()
    commits: list[int] = []
    store.size()  # after the first sweep
    monkeypatch.setattr(store._writer, "_on_commit", lambda: commits.append(1))

    def hold(db: sqlite3.Connection) -> None:
        begun.set()
        assert go.wait(30)

    monkeypatch.setattr(writing, "_LONGEST", 0.0)  # it takes nothing more into this one
    store._writer.post(hold)
    assert begun.wait(30)
    monkeypatch.setattr(writing, "_LONGEST", 60.0)
    with ThreadPoolExecutor(50) as pool:
        answers = [pool.submit(store.admit, LOCAL, spec(f"r{n}")) for n in range(50)]
        while len(store._writer._jobs) < 50:
            pass
        go.set()
        assert len({type(answer.result(30)) for answer in answers}) == 1
    assert len(commits) == 2
    assert store.size().live == 50


def test_a_job_that_fails_holds_up_no_other(store: SqliteStore) -> None:
    """Those that came with it are done without it."""
    go, begun = threading.Event(), threading.Event()

    def hold(db: sqlite3.Connection) -> None:
        begun.set()
        assert go.wait(30)

    def fail(db: sqlite3.Connection) -> None:
        db.execute("insert into nowhere values (1)")

    store._writer.post(hold)
    assert begun.wait(30)
    with ThreadPoolExecutor(3) as pool:
        good = pool.submit(stop, store, "a")
        bad = pool.submit(store._writer.ask, fail)
        other = pool.submit(stop, store, "b")
        while len(store._writer._jobs) < 3:
            pass
        go.set()
        assert isinstance(good.result(30), Recorded)
        assert isinstance(other.result(30), Recorded)
        with pytest.raises(StoreUnavailable):
            bad.result(30)
    assert store.size().tombstones == 2


def test_a_disk_that_hangs_is_said(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An asker gives up after a time, and what it asked for is not done later."""
    go, begun = threading.Event(), threading.Event()

    def hold(db: sqlite3.Connection) -> None:
        begun.set()
        assert go.wait(30)

    store._writer.post(hold)
    assert begun.wait(30)
    monkeypatch.setattr(writing, "_LONGEST", 0.0)
    with pytest.raises(StoreUnavailable, match="does not answer"):
        store._writer.ask(lambda db: stop(store), timeout=0.01)
    go.set()
    assert store.size().tombstones == 0


def test_a_full_disk_is_said_and_survived(path: Path) -> None:
    """Nothing is half done, readers go on, and once there is room it works again."""
    store = open_store(path)
    store.admit(LOCAL, spec("before"))
    db = store._writer._connection
    (pages,) = db.execute("pragma page_count").fetchone()

    def bound(most: int) -> None:
        store._writer.ask(lambda db: db.execute(f"pragma max_page_count = {most}").fetchall())

    bound(pages)
    with pytest.raises(StoreUnavailable, match="is full"):
        store.admit(LOCAL, spec("big", input="x" * 100_000))
    assert store.find(LOCAL, "before") is None
    assert store.size().live == 1
    bound(pages + 1000)
    store.admit(LOCAL, spec("big", input="x" * 100_000))
    assert store.size().live == 2
    store.close()


def test_another_program_that_holds_the_file_is_said(path: Path, store: SqliteStore) -> None:
    """A transaction that another program leaves open ends calls in words, and nothing else."""
    store._writer._connection.execute("pragma busy_timeout = 20")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("begin immediate")
    with pytest.raises(StoreUnavailable, match="another program holds"):
        store.admit(LOCAL, spec())
    assert store.find(LOCAL, "r") is None
    other.execute("rollback")
    other.close()
    store.admit(LOCAL, spec())


def test_promise_05_a_full_disk_delays_no_stop(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs go on and are stopped while nothing can be written; their ends are kept once there is
    room again."""
    monkeypatch.setattr(recording, "PATIENCE", 0.2)
    clock, options = ThreadClock(), EngineOptions()
    store = SqliteStore(clock, options, path)
    engine = Engine(
        options=options,
        clock=clock,
        store=store,
        observer=SilentObserver(),
        executor=LocalExecutor(options, clock, lambda *_: None),
    )
    gate, more = Gate(), Gate()
    engine.start(Script(say("made"), gate, say("x" * 500_000), more), spec())
    gate.wait_reached()

    def bound(most: int) -> None:
        store._writer.ask(lambda db: db.execute(f"pragma max_page_count = {most}").fetchall())

    (pages,) = store._writer._connection.execute("pragma page_count").fetchone()
    bound(pages)
    gate.open()
    more.wait_reached()
    while not engine._journal.is_away:  # type: ignore[union-attr]  # it has one
        pass
    assert not engine.store_answers()
    with suppress(StoreUnavailable):  # a stop is small: there may be room for it
        engine.cancel("r", CancelRequest(Cancellation(actor="ann")))
    assert more.left.wait(30)
    assert engine.get("r").state is RunState.CANCELLING
    bound(pages + 10_000)
    assert engine.wait_idle(60)
    assert engine.get("r").output == "made" + "x" * 500_000
    engine.close()


def test_a_closed_store_says_so(store: SqliteStore) -> None:
    """Whoever asks after the end is refused at once."""
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.admit(LOCAL, spec())
    with pytest.raises(StoreUnavailable, match="closed"):
        store.find(LOCAL, "r")


def test_the_file_shrinks_when_runs_go(path: Path) -> None:
    """What expired runs took is given back to the system."""
    clock = ManualClock()
    store = SqliteStore(clock, EngineOptions(tombstone_ttl=5.0), path)
    for n in range(300):
        request = CancelRequest(Cancellation(reason="x" * 1000))
        store.request_stop(LOCAL, f"r{n}", request, before_start=True)
    store.size()
    full = path.stat().st_size + path.with_name("runs.db-wal").stat().st_size
    clock.advance(5.0)
    for _ in range(10_000):
        now = path.stat().st_size + path.with_name("runs.db-wal").stat().st_size
        if now < full / 3:
            break
        threading.Event().wait(0.001)  # the sweep tells nobody
    assert now < full / 3
    store.close()


def test_those_who_read_one_run_share_its_log(path: Path) -> None:
    """A thousand watchers of an ended run hold its events once; nobody holds them afterwards."""
    store = open_store(path)
    log = EventLog(1 << 20, 1000, 1 << 20, lambda: None)
    log.append(RunStarted("agents/a"))
    log.finish(RunCompleted)
    now = ManualClock().time()
    run = Run("r", "agents/a", RunState.COMPLETED, expire_time=now + 60, last_sequence=2)
    store.finish([Finish(LOCAL, EndedRun(spec(), run), log)])
    first, second = store.log(LOCAL, "r"), store.log(LOCAL, "r")
    assert first is not None
    assert second is not None
    assert first[1] is second[1]
    del first, second
    gc.collect()
    assert not store._reading._logs
    store.close()


def test_writers_are_made_of_one_thread(store: SqliteStore) -> None:
    """Every job runs in the thread that owns the writing connection."""
    assert isinstance(store._writer, Writer)
    names = {store._writer.ask(lambda db: threading.current_thread().name) for _ in range(3)}
    assert names == {"pullcord-store"}
