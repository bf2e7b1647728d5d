"""A run's place in its tree: the way up to its parents, and the children that stop with it.

A child is a live run like any other, with a log, watchers and an id of its own. A cancel goes down,
never up: the parent learns of a child's end by waiting for it, and decides by itself. Usage and
tool calls count in the parents as well. A child lives no longer than its parent.

Locks are taken from the leaf to the root, never the other way. What a child says enters its own log
and those of its parents in one step under its lock, so that all of them have it in one order.
"""

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Protocol

from pullcord.engine.live.effects import Rule
from pullcord.engine.live.machine import RunMachine
from pullcord.engine.log.log import EventLog
from pullcord.run.cancel import Cancellation
from pullcord.run.errors import InvalidArgument, RunCancelledError, ServerBusy, Violation
from pullcord.run.events import Payload, RunPaused, Source, ToolCall
from pullcord.run.port import Execution
from pullcord.run.record import Run
from pullcord.run.usage import Usage


class Kin(Protocol):
    """A live run, as its parents and children see it."""

    run_id: str
    lock: threading.RLock
    machine: RunMachine
    log: EventLog
    lineage: "Lineage"
    execution: Execution | None
    rests: bool

    def act(self, rule: Rule) -> None:
        """Asks the machine, and does what it decides."""

    def stop_with_parent(self, cancellation: Cancellation) -> None:
        """The parent must stop, and so must this."""

    def parent_ended(self) -> None:
        """The parent has ended, and so must this."""

    def wake(self) -> None:
        """Executes the run anew, if it waits for children without code, and may go on."""

    def as_decided(self) -> Run:
        """The run as its store and its parent see it."""

    def child_ended(self, child: "Kin") -> None:
        """A child has ended."""

    @property
    def is_deciding(self) -> bool:
        """Whether a decision about it is being recorded."""

    def rest_alone(self) -> bool:
        """The run waits on without its code, whatever becomes of the others of its tree."""

    def put_down(self) -> None:
        """The run waits on in its store, for another process."""


class Lineage:
    """The lineage of one run. What it guards, the run's lock guards."""

    def __init__(self, own: Kin, parent: Kin | None, source: Source | None) -> None:
        """`source` says who the run is in its parent's stream; None: it is not heard there."""
        self._run_id, self._lock = own.run_id, own.lock
        self._machine, self._log = own.machine, own.log
        self._me = weakref.ref(own)  # or an ended run would live until garbage is looked for
        self.parent = parent
        self.source = source
        self.depth: int = 0 if parent is None else parent.lineage.depth + 1
        """How many parents it has."""
        self.descendants = 0
        """Live runs of its tree, itself excepted; counted at the root only."""
        self._children: set[Kin] = set()

    @property
    def _own(self) -> Kin:
        """The run itself, which the caller holds."""
        own = self._me()
        assert own is not None
        return own

    @property
    def root(self) -> Kin:
        """The run at the top of its tree; itself, if it has no parent."""
        return self._own if self.parent is None else self.parent.lineage.root

    @property
    def parent_run_id(self) -> str:
        """Empty: it has no parent."""
        return "" if self.parent is None else self.parent.run_id

    def locked(self) -> AbstractContextManager[object]:
        """Holds the locks of the run and of all its parents, up to the root."""
        return self._lock if self.parent is None else self._all_locked()

    @contextmanager
    def _all_locked(self) -> Iterator[None]:
        with ExitStack() as locks:
            run: Kin | None = self._own
            while run is not None:
                locks.enter_context(run.lock)
                run = run.lineage.parent
            yield

    def must_go_on(self) -> None:
        """Raises RunCancelledError if a parent must stop, or has ended. All must be `locked`.

        The cancel of a distant parent may be accepted while it has not arrived here yet.
        """
        run = self.parent
        while run is not None:
            run.machine.must_go_on()
            run = run.lineage.parent

    # --- children

    def join(
        self,
        enter: Callable[[], None],
        max_descendants: int,
        max_depth: int,
        *,
        again: bool = False,
    ) -> None:
        """The run becomes its parent's child, and can be found once `enter` returns.

        All must be `locked`, so that nothing is checked in one step and counted in another.
        `again`: it was its child before, in a process that is gone, and does not begin.

        Raises:
            RunCancelledError: the parent has ended; or must stop, and would be heard to begin it.
            InvalidArgument, ServerBusy: it would be too deep, or one too many in its tree.
        """
        parent = self.parent
        if parent is None:
            enter()
            return
        if self.source is not None and not again:
            self.must_go_on()
        elif parent.machine.state.is_terminal:
            raise RunCancelledError("the run has ended: it starts nothing more")
        if self.depth + 1 > max_depth:
            deep = f"no more than {max_depth} runs may be one the parent of the other"
            raise InvalidArgument(Violation("runnable", deep))
        root = self.root.lineage
        if root.descendants >= max_descendants:
            raise ServerBusy(f"one run has {max_descendants} live children, at any depth")
        enter()
        root.descendants += 1
        parent.lineage._children.add(self._own)
        if self.source is not None:
            parent.machine.steps.is_done_by(self.source.path[:-1], self._run_id)

    def leave(self) -> None:
        """The run has ended: its parent has this child no more."""
        if (parent := self.parent) is not None:
            with parent.lock:
                parent.lineage._children.discard(self._own)
            with self.root.lock:
                self.root.lineage.descendants -= 1

    def children(self) -> list[Kin]:
        """Those that have not ended."""
        with self._lock:
            return list(self._children)

    def refused(self) -> None:
        """Something could not begin. No lock is held.

        The stop that refused it may be on its way here. It is delivered now, before the code gets
        RunCancelledError, so that the run does not fail by what is its own cancel.
        """
        parent = self.parent
        if parent is None:
            return
        parent.lineage.refused()
        if (cancellation := parent.machine.cancellation) is not None:
            self._own.stop_with_parent(cancellation)
        elif parent.machine.state.is_terminal:
            self._own.parent_ended()

    # --- what the run says is heard in the streams of its parents, as far up as each has a source

    def say(self, payload: Payload, source: Source | None) -> int:
        """An event enters the run's log, and those of its parents; its number in the run's own, 0
        if that is closed."""
        log = self._log
        if self.source is None:  # no order to be kept with another log
            survives = isinstance(payload, RunPaused) and payload.survives and source is None
            return log.append(payload, source, holds=survives)
        with self._lock:
            sequence = log.append(payload, source)
            if sequence:
                self.hear(payload, source)
            return sequence

    def hear(self, payload: Payload, source: Source | None) -> None:
        """An event that is in the run's log enters those of its parents. The lock is held."""
        if self.parent is None or self.source is None:
            return
        if isinstance(payload, RunPaused):  # the decision must come to the run whose calls wait
            own = self._run_id
            calls = (replace(call, run_id=call.run_id or own) for call in payload.tool_calls)
            payload = replace(payload, tool_calls=tuple(calls))
        self.parent.lineage.say(payload, self._as_heard(source))

    def write(self, text: str) -> None:
        """A content delta of the run itself, which is heard in its parent's stream."""
        with self._lock:
            if not self._machine.state.is_terminal:
                self._log.write(text)
                self._hear_text(text, None, False)

    def write_as(self, text: str, source: Source | None, reasoning: bool) -> None:
        """A delta enters the run's log, and those of its parents."""
        if self.source is None:
            self._log.write_as(text, source, reasoning)
            return
        with self._lock:
            if not self._machine.state.is_terminal:
                self._log.write_as(text, source, reasoning)
                self._hear_text(text, source, reasoning)

    def write_all(
        self, text: str, lengths: Sequence[int], source: Source | None, reasoning: bool
    ) -> None:
        """Deltas that were merged on their way enter the run's log, and those of its parents."""
        if self.source is None:
            self._log.extend(text, lengths, source, reasoning)
            return
        with self._lock:
            if not self._machine.state.is_terminal:
                self._log.extend(text, lengths, source, reasoning)
                if self.parent is not None:
                    heard = self._as_heard(source)
                    self.parent.lineage.write_all(text, lengths, heard, reasoning)

    def _hear_text(self, text: str, source: Source | None, reasoning: bool) -> None:
        if self.parent is not None:
            self.parent.lineage.write_as(text, self._as_heard(source), reasoning)

    def _as_heard(self, source: Source | None) -> Source:
        assert self.source is not None
        if source is None:
            return self.source
        return replace(source, path=(*self.source.path, *source.path[1:]))

    # --- what the run uses counts in its parents

    def note(self, call: ToolCall, *, begins: bool) -> None:
        """A tool call enters the ledgers of all parents."""
        if (parent := self.parent) is None:
            return
        call = replace(call, run_id=call.run_id or self._run_id)
        with parent.lock:
            if parent.machine.note(call, begins=begins):
                parent.lineage.note(call, begins=begins)

    def bear_names(self, killed: tuple[str, ...]) -> None:
        """All parents bear the names of processes that were killed. No lock is held."""
        if (parent := self.parent) is not None:
            with parent.lock:
                parent.machine.bear_names(killed)
            parent.lineage.bear_names(killed)

    def use(self, usage: Usage) -> None:
        """What the run used counts in all parents. No lock is held.

        Steps are counted where they are: a workflow's are not its agents' model calls.
        """
        if (parent := self.parent) is not None:
            used = replace(usage, steps=0)
            parent.act(lambda at: parent.machine.use(used, at))
            parent.lineage.use(used)
