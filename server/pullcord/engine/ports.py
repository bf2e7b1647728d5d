"""The ports that a store, an executor and an observer fill. The engine knows them by these shapes.

Nothing is decided or kept here.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from pullcord.engine.live.carried import Carried as Carried
from pullcord.engine.live.carried import Pause as Pause
from pullcord.engine.log.log import EventLog
from pullcord.engine.log.numbered import UNBOUNDED as UNBOUNDED
from pullcord.engine.log.record import Record
from pullcord.engine.notices import Notice as Notice
from pullcord.engine.notices import Notices
from pullcord.engine.observer import Observer as Observer
from pullcord.engine.observer import SilentObserver as SilentObserver
from pullcord.engine.shares import Share as Share
from pullcord.engine.shares import Spent as Spent
from pullcord.engine.sharing import Asked, Sharing
from pullcord.run.cancel import Cancellation
from pullcord.run.cancel import CancelRequest as CancelRequest
from pullcord.run.place import Runs
from pullcord.run.port import Execution, RunPort
from pullcord.run.record import DisconnectPolicy, Erased, Run, RunFilter, RunSpec
from pullcord.run.runnable import Runnable
from pullcord.run.scope import LOCAL as LOCAL
from pullcord.run.scope import Reach
from pullcord.run.scope import Scope as Scope

OnLost = Callable[[Run], object]
"""Is told of a run whose process is gone, and that was ended without it. Quick."""


def unheard(run: Run) -> None:
    """An OnLost that does nothing."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that has ended, without its events."""

    spec: RunSpec
    run: Run
    deliver_time: float = 0.0
    """When its code learned of its stop; 0: never."""
    decided: str = ""
    """The digest of the decisions that continued it last; empty: it never continued."""


@dataclass(frozen=True, slots=True)
class Finish:
    """An ended run that its store is asked to keep."""

    scope: Scope
    ended: EndedRun
    log: EventLog
    """Closed, so it never changes again."""
    after: int = 0
    """The number of the last event that the store has, as far as its owner knows."""


Age = tuple[float, str, str, str]
"""By what lists are sorted, the newest last: create_time, run_id, tenant, owner."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What holds for a run beside its spec. A process that takes the run over needs both."""

    policy: DisconnectPolicy = DisconnectPolicy.CONTINUE
    deadline: float = 0.0
    """Seconds since the epoch at which the run must have ended; 0: none."""
    parent_run_id: str = ""
    begins: bool = True
    """Whether its code may begin as soon as the run is admitted. If not, `begin` is called first,
    and until then the run can be taken over without running anything twice."""
    share: Share | None = None
    """Bounds that are checked when the run is admitted, and never kept. None: none."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The run now belongs to the process that asked; no other run gets its run_id."""

    cancellation: Cancellation | None = None
    """A cancel that came before its run; the run ends CANCELLED without doing anything."""
    reserved: int = UNBOUNDED
    """No event above this number may be shown to anybody before a `write` has reserved more.
    UNBOUNDED: the store does not outlive its process."""
    place: int = 0
    """In its session, among the runs of all processes; 0: the process knows the order itself."""


class Entry(NamedTuple):
    """What one live run has made since its store was last asked to write."""

    scope: Scope
    spec: RunSpec
    records: Sequence[Record]
    """In order, as they stand in the log. The terminal event is never among them."""
    after: int
    """The number of the last event before them, which the store has."""
    reserve: int
    """Events up to this number may be shown once this is written."""
    base: Run | None = None
    """The run at `after`. Set where the log has been trimmed since: the store may have fewer
    events than `after`, drops all of them, and goes on from here."""
    pause: Pause | None = None
    """Set where the run waits for a decision, and can be continued without its process. Kept if
    the event that says so is the last among the records that says whether the run waits."""
    opens: Terms | None = None
    """Set for a child that its store has not heard of: the row is made, live."""


class Written(NamedTuple):
    """What a store has of a live run."""

    last_sequence: int
    """Of the last event it has. Other than the last one asked for: go on from here."""
    reserved: int
    stop: CancelRequest | None = None
    """The stop that is recorded, of any caller."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A run that was admitted by a process that is gone, and had not begun, or waits for a decision
    and can be continued anywhere. It is live, and belongs to the process that asked."""

    scope: Scope
    spec: RunSpec
    terms: Terms
    reserved: int
    create_time: float
    """When it was admitted first."""
    place: int = 0
    """As for `Admitted`."""
    carried: Carried | None = None
    """Set if it waits for a decision, or for children that do."""
    children: "tuple[Waiting, ...]" = ()
    """The children that it waits for."""
    ended: tuple[Run, ...] = ()
    """Those of them that were stopped while no process had the run."""

    def whole(self) -> "Iterator[Waiting]":
        """It and the children that it waits for, at any depth."""
        yield self
        for child in self.children:
            yield from child.whole()


@dataclass(frozen=True, slots=True)
class AlreadyLive:
    """A run of this run_id and spec is live. Its owner answers for it."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The stop that stands after a request. It was recorded before this was answered."""

    request: CancelRequest
    """The first cause, actor, reason and accept time; the stricter mode, the shorter grace."""
    before_start: bool
    """Whether it waits for a run that has not come."""
    run: Run | None = field(default=None, compare=False)
    """The run without its output, where the store knows it and its asker may not."""


@dataclass(frozen=True, slots=True)
class NotYet:
    """Runs of its session that other processes execute were admitted before it and live."""


@dataclass(frozen=True, slots=True)
class StoreSize:
    """What a store holds now."""

    live: int
    """Runs that were admitted and have not ended."""
    tombstones: int
    """Cancels that wait for a run."""
    ended: int
    ended_bytes: int
    """Memory or disk that ended runs take, roughly."""


DEFAULT_TERMS = Terms()


class RunStore(Protocol):
    """What all processes that share runs must agree on. Each verb is one transaction.

    Values go in and values come out: no callback and no live run crosses this port.

    There is one row for each scope and run_id, whatever came first: a run, or a cancel before it.
    A row is a tombstone, a live run or an ended run, and only the verbs below change which.

    Any thread may call. If `blocking` is set, a call may take as long as its time-out; such a store
    must not be called on an event loop, on the clock, or under a lock. A store that fails raises
    StoreUnavailable. A time-out is not a no: each verb may be asked again, and does its work once.

    An expired row counts as absent in every verb, whether or not the store has deleted it yet. The
    store deletes expired rows by itself, also while nobody calls.

    A *durable* store outlives its process, and is asked to write what live runs make. Then:

    1. No event is shown above the number that the store has reserved, and no end before `finish`
       has returned. Other events may be shown before they are written.
    2. An accepted cancel is answered once `request_stop` has returned.
    3. Only the incarnation of the process that owns a run writes for it, and each write proves in
       the same transaction that this incarnation lives.
    4. A run whose owner is gone ends FAILED, cause LOST, one above what was reserved, behind a gap,
       with all that was written; CANCELLED if a stop had been recorded. One that had not begun is
       `Waiting` instead, and begins elsewhere; so is one whose last event is a pause that was
       written together with its continuation, unless `go_on` was asked since.
    """

    blocking: bool
    durable: bool

    @property
    def swept(self) -> int:
        """Rows that were deleted since the store was opened, because they had expired or were more
        than the bounds."""

    @property
    def sharing(self) -> Sharing | None:
        """What processes that share the store can ask it besides; None: there is only one."""

    @property
    def notices(self) -> Notices:
        """What somebody must be notified of; nothing is kept before it is opened."""

    def admit(
        self, scope: Scope, spec: RunSpec, terms: Terms = DEFAULT_TERMS
    ) -> Admitted | AlreadyLive | EndedRun:
        """Makes a live row, or returns what the row is already. Takes a tombstone with it.

        Raises:
            RunExists: the row is a run with another spec.
            QuotaExceeded: the row would be more than its owner's share. Rows of children do not
                count, and those of a dead process until it has been declared dead.
        """

    def withdraw(self, scope: Scope, run_id: str) -> None:
        """Takes back `admit`: the run was refused after all. A tombstone that it took is back."""

    def recover(self, on_lost: OnLost = unheard) -> Sequence[Waiting]:
        """Ends the runs of processes that are gone, and takes over those that had not begun.

        `on_lost` is told of each run that has been ended, as it then is.
        """

    def begin(self, scope: Scope, run_id: str) -> CancelRequest | NotYet | None:
        """The code of this run is about to begin, and from now on nobody begins it again.

        Returns the stop that came meanwhile: then the run ends without beginning.
        """

    def go_on(self, scope: Scope, run_id: str, asked: Asked) -> bool:
        """A run that waits here for a decision is about to go on by this one: from now on nobody
        else decides about the question, and nobody takes the run over. False: others have decided,
        or the run is being stopped, or does not wait, or does not belong to this process.
        """

    def write(self, entries: Sequence[Entry]) -> list[Written | None]:
        """Appends what live runs have made, all in one transaction, and reserves numbers.

        None: the run does not belong to this process, or no longer. Nothing was written for it.
        An entry that comes again, with more or fewer records, stores each event once.
        """

    def finish(self, ends: Sequence[Finish]) -> Sequence[Cancellation | EndedRun | None]:
        """Turns live rows into ended ones, all in one transaction; makes missing rows.

        Returns for each run the stop that keeps it from ending as proposed: one was recorded, and
        the proposed end is not CANCELLED. Nothing was changed for that run. None: it is kept. A run
        that has ended already stays as it is; if others have ended it, because they took this
        process for dead, its end is returned.
        """

    def request_stop(
        self,
        scope: Scope,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool,
        most_early: int | None = None,
    ) -> Recorded | EndedRun | None:
        """Records a stop for a live run, or before a run that has not come.

        None: there is no such run, and `before_start` is not set. An ended run is not changed.

        Raises:
            ServerBusy: too many cancels wait for runs that have not come.
            QuotaExceeded: the tenant has `most_early` of them.
        """

    def find(self, scope: Scope, run_id: str) -> EndedRun | None:
        """The ended run of this run_id."""

    def log(self, scope: Scope, run_id: str) -> tuple[EndedRun, EventLog] | None:
        """The same with its events. The log is closed."""

    def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """The scopes within reach that have a run of this id, live or ended; in any order."""

    def page(self, reach: Reach, matching: RunFilter, before: Age | None, size: int) -> list[Run]:
        """At most `size` ended runs within reach that match, the newest first by age.

        `before` is the age of the last run of the page before.
        """

    def history(
        self, scope: Scope, session_id: str, user_id: str, runnable: str, limit: int
    ) -> list[Run]:
        """The last `limit` runs of one runnable in a user's session, in the order they ended."""

    def erase(self, reach: Reach, matching: RunFilter, *, validate_only: bool) -> Erased:
        """Deletes ended runs within reach that match a session and a user, with all that is kept of
        them, expired or not; with neither, also the cancels that wait for a run there.

        Live runs stay, and are named. A failure may leave some undeleted: to be asked again.
        """

    def size(self) -> StoreSize:
        """What the store holds, expired rows not counted."""

    def spent(self, tenant: str) -> Spent:
        """What the tenant's ended runs have used in the last HOURS hours, erased ones included."""

    def stored_bytes(self, tenant: str) -> int:
        """Memory or disk that the tenant's ended runs take, roughly."""

    def close(self) -> None:
        """Writes what waits, and lets go of files and connections."""


class Executor(Protocol):
    """Where code runs. Any thread may call; nothing here waits for an author's code."""

    def start(
        self,
        port: RunPort,
        runnable: Runnable,
        runs: Runs,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        parent: Execution | None = None,
    ) -> Execution:
        """Begins a run's code as soon as there is room for it; a child beside its parent.

        Async code runs on `loop` where one is given. Raises ServerBusy where too much waits.
        """

    def owns_loop(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether this is an event loop of the executor's, which no caller may block."""

    def close(self) -> None:
        """Ends everything that can be ended."""
