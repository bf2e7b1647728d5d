"""The questions of processes that share a store about one another's runs.

The shapes only: a store that is shared fills `Sharing`, the engine fills `Ear`. Nothing is decided
or kept here.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pullcord.engine.log.log import EventLog
from pullcord.run.cancel import CancelRequest
from pullcord.run.record import Decision, Run, RunFilter, RunSpec
from pullcord.run.scope import Reach, Scope

if TYPE_CHECKING:
    from pullcord.engine.ports import Age, EndedRun, Waiting

Key = tuple[Scope, str]
"""A run's scope and run_id."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Decisions that were recorded for a run that waits for them."""

    decisions: tuple[Decision, ...]
    actor: str
    question: int = 0
    """The number of the event that asked."""


class Ear(Protocol):
    """Hears what others have recorded for the runs of this process. Called in the store's thread,
    and again until it was done: each call is quick, and never blocks."""

    def stop(self, key: Key, request: CancelRequest) -> None:
        """A stop is recorded for a run that is live here."""

    def decide(self, key: Key, asked: Asked) -> None:
        """Decisions are recorded for a paused run that is live here."""

    def watched(self, keys: Collection[Key]) -> None:
        """Just these runs that are live here have watchers at other processes."""

    def turns(self) -> None:
        """A run has ended somewhere: another one's turn may have come."""

    def queued(self) -> None:
        """There are runs that nobody executes."""

    def lost(self, run: Run) -> None:
        """A run of a process that is gone was ended by this one's store."""

    def fenced(self) -> None:
        """The others took this process for dead: every run that was live here is lost to it."""

    def unfenced(self) -> None:
        """`Sharing.is_fenced` was true, and is no more: this process lives."""

    def forgotten(self) -> None:
        """The store may have forgotten the last of what it had recorded: it is another server's
        copy. What is known here is recorded again."""


class Elsewhere(Protocol):
    """A live run that another process executes, as its store has it. Any thread may call, and
    nothing waits. While it is watched, or its end is waited for, it is kept up to date."""

    spec: RunSpec
    log: EventLog
    """Its events with their own numbers. Closed once the run has ended."""

    @property
    def reserved(self) -> int:
        """Events up to this number may have been shown by its owner, stored or not."""

    @property
    def ended(self) -> "EndedRun | None":
        """The run, once it has ended."""

    def snapshot(self) -> Run:
        """The run as its store has it."""

    def decided(self) -> str:
        """The digest of the decisions that continued it last; empty: it never continued."""

    def come(self, *, is_guest: bool = False) -> None:
        """One more watches. Its owner learns of it, unless it is a guest, who may not stop it."""

    def leave(self, *, is_guest: bool = False, comes_back: bool = False) -> None:
        """One less does. `comes_back`: this server made it leave, so that it counts as present for
        the time of the run's lease, and may come back anywhere meanwhile."""

    def on_end(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Calls back once, in any thread, when the run has ended; returns the unsubscribe call."""

    def wait_for(self, sequence: int, timeout: float) -> bool:
        """Blocks until the store has the event of this number, or the run's end."""


class Sharing(Protocol):
    """What a shared store can be asked beside the verbs of a RunStore. The same rules hold."""

    def listen(self, ear: Ear) -> None:
        """From now on this ear hears. Called once, before anything is started."""

    def is_fenced(self) -> bool:
        """Whether others may take this process for dead now, so that it shows nothing of its live
        runs. Any thread; quick."""

    def claim(self, serves: Collection[str]) -> "Sequence[Waiting]":
        """Takes over runs that nobody executes and that have not begun, of these runnables."""

    def give_back(self, keys: Collection[Key]) -> None:
        """These were claimed, and could not be taken up: the next claim may have them. What
        nobody can take up any more is lost."""

    def elsewhere(self, scope: Scope, run_id: str) -> Elsewhere | None:
        """The live run of this id that another process executes."""

    def live(self, reach: Reach, matching: RunFilter, before: "Age | None", size: int) -> list[Run]:
        """At most `size` live runs of other processes, as `RunStore.page` lists ended ones; without
        their output."""

    def attend(self, scope: Scope, run_id: str) -> None:
        """Records that a run elsewhere has a watcher here, before that one is shown anything. From
        then on the store says so for as long as somebody watches."""

    @property
    def unserved(self) -> int:
        """Runs that have waited for a while and that no process takes up, since none serves them.
        Any thread; quick."""

    def is_watched(self, scope: Scope, run_id: str) -> bool:
        """Whether a run that is live here has watchers at other processes now."""

    def decide(self, scope: Scope, run_id: str, asked: Asked) -> bool:
        """Records decisions for the question that a run waits with; False: it waits no longer, or
        others have decided."""

    def ahead(self, scope: Scope, run_id: str) -> list[str]:
        """The live runs of its session that were admitted before it, the oldest first."""
