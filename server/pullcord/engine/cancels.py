"""Brings a cancel to the runs it is meant for: one by its id, many by a filter, all at the end.

What a cancel does to a run is the run's own business.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from pullcord.engine.aside import in_batches
from pullcord.engine.clock import Clock
from pullcord.engine.directory import Directory
from pullcord.engine.live.live import Key, LiveRun
from pullcord.engine.paging import age
from pullcord.engine.ports import CancelRequest, RunStore
from pullcord.engine.sessions import Sessions
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.errors import RunNotFound, TooManyAffected
from pullcord.run.record import CancelResult, Receipt, Run, RunFilter
from pullcord.run.scope import Reach, Scope


class Cancels:
    """The cancels of one engine. Any thread may call."""

    def __init__(
        self,
        directory: Directory,
        sessions: Sessions,
        store: RunStore,
        clock: Clock,
        put_down: Callable[[LiveRun], bool],
    ) -> None:
        """`put_down` lets go of a run that another process can begin."""
        self._put_down = put_down
        self._directory = directory
        self._sessions = sessions
        self._store = store
        self._clock = clock

    def cancel(
        self,
        scope: Scope,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool,
        most_early: int | None = None,
    ) -> Receipt:
        """Stops a run, wherever it is in its life; the receipt says what is true on return.

        Raises:
            RunNotFound: there is none, and `before_start` is not set.
            ServerBusy, QuotaExceeded: `before_start`, and too many cancels wait already.
            StoreUnavailable: the stop could not be recorded; whether the run is being stopped here
                all the same, its `stopping` says.
        """
        live = self._directory.here(scope, run_id)
        if live is None:
            with self._directory.deciding(scope, run_id):
                live = self._directory.here(scope, run_id)
                if live is None:
                    return self._ask_store(
                        scope,
                        run_id,
                        request,
                        before_start=before_start,
                        most_early=most_early,
                    )
        handle = self._directory.handle(live)
        receipt = handle.cancel(request)
        recording = handle.recording()
        return receipt if recording is None else recording.wait()

    def _ask_store(
        self,
        scope: Scope,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool,
        most_early: int | None = None,
    ) -> Receipt:
        accepted = replace(request.cancellation, accept_time=self._clock.time())
        request = replace(request, cancellation=accepted)
        return self._directory.stop_elsewhere(
            scope, run_id, request, before_start=before_start, most_early=most_early
        )

    def cancel_many(
        self,
        reach: Reach,
        matching: RunFilter,
        request: CancelRequest,
        *,
        validate_only: bool,
        max_affected: int,
    ) -> list[CancelResult]:
        """Stops every live run within reach that matches; what was achieved, the newest first.

        Raises:
            TooManyAffected: more match than `max_affected`; nothing was stopped.
            StoreUnavailable: not every stop could be recorded; all were delivered.
        """
        found = [
            (live, run)
            for live in self._directory.all_here()
            if reach.covers(live.scope)
            and not live.state.is_terminal
            and matching.matches(run := live.snapshot(with_output=False))
        ]
        elsewhere = self._elsewhere(reach, matching, max_affected)
        if len(found) + len(elsewhere) > max_affected:
            raise TooManyAffected(len(found) + len(elsewhere), max_affected)
        outcomes: dict[Key, CancelOutcome | None] = {}
        if not validate_only:
            # Parents first, so that no run learns that a child of its was stopped, and goes on.
            ordered = sorted((live for live, _ in found), key=lambda live: live.lineage.depth)
            recordings = []
            for live in in_batches(ordered):
                handle = self._directory.handle(live)
                outcomes[live.key] = handle.cancel(request).outcome
                recordings.append((live.key, handle.recording()))
            for key, recording in recordings:
                if recording is not None:
                    outcomes[key] = recording.wait().outcome
            for run in elsewhere:
                with suppress(RunNotFound):  # its row is gone: it was refused after all
                    receipt = self._ask_store(run.scope, run.run_id, request, before_start=False)
                    outcomes[run.scope, run.run_id] = receipt.outcome
        runs = sorted([*(run for _, run in found), *elsewhere], key=age, reverse=True)
        return [
            CancelResult(run.run_id, outcomes.get((run.scope, run.run_id)), *run.scope)
            for run in runs
        ]

    def _elsewhere(self, reach: Reach, matching: RunFilter, most: int) -> list[Run]:
        """The runs of other processes, parents before their children."""
        if self._store.sharing is None:
            return []
        found = self._store.sharing.live(reach, matching, None, most + 1)
        return sorted(found, key=lambda run: (bool(run.parent_run_id), run.create_time))

    def shut_down(self, mode: CancelMode, grace_period: float | None) -> None:
        """Cancels every live run with cause SHUTDOWN, except those that can begin elsewhere."""
        cancellation = Cancellation(
            CancelCause.SHUTDOWN, reason="the server is stopping", mode=mode
        )
        request = CancelRequest(cancellation, grace_period)
        # Runs that wait for their turn first, or the end of another would begin them.
        waiting = [run for run in self._sessions.waiting() if not self._put_down(run)]
        here = [run for run in self._directory.all_here() if not self._put_down(run)]
        live: list[LiveRun] = [*waiting, *here]
        for run in in_batches(live):
            run.cancel(request)
