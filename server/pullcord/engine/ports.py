"""The ports that a store, an executor and an observer fill. The engine knows them by these shapes.

Nothing is decided or kept here.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pullcord.engine.log.log import EventLog
from pullcord.run.cancel import Cancellation
from pullcord.run.cancel import CancelRequest as CancelRequest
from pullcord.run.place import Runs
from pullcord.run.port import Execution, RunPort
from pullcord.run.record import Run, RunFilter, RunSpec
from pullcord.run.runnable import Runnable


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose runs a call is about. The same run_id in two scopes names two runs."""

    tenant: str = "default"
    owner: str = "local"


LOCAL = Scope()
"""The scope of every run until callers are authenticated."""


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


@dataclass(frozen=True, slots=True)
class Admitted:
    """The run now belongs to the process that asked; no other run gets its run_id."""

    cancellation: Cancellation | None = None
    """A cancel that came before its run; the run ends CANCELLED without doing anything."""


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
    """

    blocking: bool

    def admit(self, scope: Scope, spec: RunSpec) -> Admitted | AlreadyLive | EndedRun:
        """Makes a live row, or returns what the row is already. Takes a tombstone with it.

        Raises:
            RunExists: the row is a run with another spec.
        """

    def withdraw(self, scope: Scope, run_id: str) -> None:
        """Takes back `admit`: the run was refused after all. A tombstone that it took is back."""

    def finish(self, ends: Sequence[Finish]) -> list[Cancellation | None]:
        """Turns live rows into ended ones, all in one transaction; makes missing rows.

        Returns for each run the stop that keeps it from ending as proposed: one was recorded, and
        the proposed end is not CANCELLED. Nothing was changed for that run. None: it is kept. A run
        that has ended already stays as it is.
        """

    def request_stop(
        self, scope: Scope, run_id: str, request: CancelRequest, *, before_start: bool
    ) -> Recorded | EndedRun | None:
        """Records a stop for a live run, or before a run that has not come.

        None: there is no such run, and `before_start` is not set. An ended run is not changed.

        Raises:
            ServerBusy: too many cancels wait for runs that have not come.
        """

    def find(self, scope: Scope, run_id: str) -> EndedRun | None:
        """The ended run of this run_id."""

    def log(self, scope: Scope, run_id: str) -> tuple[EndedRun, EventLog] | None:
        """The same with its events. The log is closed."""

    def page(
        self, scope: Scope, matching: RunFilter, before: tuple[float, str] | None, size: int
    ) -> list[Run]:
        """At most `size` ended runs that match, the newest first by create_time and run_id.

        `before` is the create_time and run_id of the last run of the page before.
        """

    def history(self, scope: Scope, session_id: str, runnable: str, limit: int) -> list[Run]:
        """The last `limit` runs of one runnable in a session, in the order they ended."""

    def size(self) -> StoreSize:
        """What the store holds, expired rows not counted."""


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


class Observer(Protocol):
    """Receives what operators count and read. Quick, and never raises."""

    def run_started(self, run: Run) -> None:
        """A run was admitted."""

    def run_ended(self, run: Run) -> None:
        """A run has its terminal event."""

    def run_refused(self, reason: str) -> None:
        """A run was not admitted."""

    def run_abandoned(self, run: Run, stack: str) -> None:
        """A run did not stop in time; `stack` is where its thread is, if known."""

    def loop_stalled(self, run_id: str, seconds: float, stack: str) -> None:
        """A run blocks its event loop; `run_id` is empty where it is not known whose code does."""


class SilentObserver:
    """Does nothing."""

    def run_started(self, run: Run) -> None:
        """Nothing."""

    def run_ended(self, run: Run) -> None:
        """Nothing."""

    def run_refused(self, reason: str) -> None:
        """Nothing."""

    def run_abandoned(self, run: Run, stack: str) -> None:
        """Nothing."""

    def loop_stalled(self, run_id: str, seconds: float, stack: str) -> None:
        """Nothing."""
