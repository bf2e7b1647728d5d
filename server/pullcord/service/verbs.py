"""The verbs: what a caller of any transport can ask about runs. Domain values in, values out.

Each runs on the RPC loop and waits for nobody's code. A run that is live here is found, followed,
waited for and cancelled without a thread; what may wait for the store waits in its lane. Nothing
here knows a message, a status code or a connection.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Protocol, TypeVar

from pullcord.engine.directory import RunHandle
from pullcord.engine.engine import Engine
from pullcord.engine.log.watch import Watcher
from pullcord.engine.paging import Page
from pullcord.run.caller import Caller
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, CancelOutcome
from pullcord.run.cancel import CancelRequest as StopRequest
from pullcord.run.errors import (
    InvalidArgument,
    PermissionDenied,
    PullcordError,
    QuotaExceeded,
    RunnableNotFound,
    Violation,
)
from pullcord.run.plain import NOT_VALID, UnreadData, is_valid, where_invalid
from pullcord.run.principal import Verb
from pullcord.run.record import CancelResult, Decision, Erased, Receipt, Run, RunSpec
from pullcord.run.requests import (
    CancelManyRequest,
    CancelRequest,
    ContinueRequest,
    EraseRequest,
    GetRequest,
    ListRequest,
    RunTokenRequest,
    WaitRequest,
    WatchListRequest,
    WatchRequest,
)
from pullcord.run.runnable import Runnable, RunnableInfo
from pullcord.run.scope import Reach, Scope
from pullcord.service.access import Access
from pullcord.service.audit import Audit, NoAudit
from pullcord.service.following import Following
from pullcord.service.lanes import Lane, Lanes
from pullcord.service.notifier import Notifier
from pullcord.service.quotas import Quotas
from pullcord.service.readers import Readers
from pullcord.service.rosters import ListFollowing, Rosters
from pullcord.service.tracing import trace_of
from pullcord.service.turnstile import Turn

T = TypeVar("T")

SMALL_DATA = 2 * 1024
"""Bytes of a run's data that the loop itself reads: they hold a thousand values at most."""

_LONG_ANSWERS = 64 * 1024
"""Characters of answers from which on a decision is brought by a thread."""

NOBODYS = Reach("\0", "\0")
"""A reach that contains no run."""

ANSWER_MARGIN = 0.05
"""Seconds before a caller's deadline at which a verb that waits answers with what there is."""


class Catalog(Protocol):
    """The runnables on offer. They may change meanwhile, because workers report them."""

    def find(self, name: str) -> Runnable:
        """The runnable of this full name. Raises RunnableNotFound."""

    def all(self) -> Sequence[RunnableInfo]:
        """The public description of each, in order of name."""


class RunTokens(Protocol):
    """Makes tokens that are good for one run."""

    def make(
        self, scope: Scope, run_id: str, verbs: Sequence[Verb], lifetime: float
    ) -> tuple[str, float]:
        """The token, and when it expires, in seconds since the epoch."""


class NoRunTokens:
    """Makes none."""

    def make(
        self, scope: Scope, run_id: str, verbs: Sequence[Verb], lifetime: float
    ) -> tuple[str, float]:
        """Raises PermissionDenied."""
        raise PermissionDenied("create", "tokens for runs here")


class Verbs:
    """Made and used on one loop. Every verb raises the typed errors of `run.errors`."""

    def __init__(
        self,
        engine: Engine,
        catalog: Catalog,
        lanes: Lanes,
        notifier: Notifier,
        readers: Readers,
        access: Access | None = None,
        quotas: Quotas | None = None,
        audit: Audit | None = None,
        run_tokens: RunTokens | None = None,
    ) -> None:
        """Without `access`, everybody whose grants let it may start everything."""
        self._engine = engine
        self._catalog = catalog
        self._lanes = lanes
        self._notifier = notifier
        self._readers = readers
        self._access = access or Access(engine)
        self._quotas = quotas or Quotas()
        self._audit = audit or NoAudit()
        self._run_tokens = run_tokens or NoRunTokens()
        self._rosters = Rosters(engine, lanes.lists, notifier.heartbeat)

    def end_lists(self) -> None:
        """Ends the streams that never end by themselves."""
        self._rosters.end()

    async def close(self) -> None:
        """Ends what goes on beside the calls."""
        await self._rosters.close()

    @contextlib.contextmanager
    def under_way(self, caller: Caller, *, is_stop: bool) -> Iterator[None]:
        """A call that is no stream, while it is answered. Raises QuotaExceeded."""
        with self._bounded(caller):
            left = self._quotas.call(caller, is_stop=is_stop)
        try:
            yield
        finally:
            left()

    def ended_unread(self, caller: Caller, run_id: str) -> None:
        """Records in the audit log that a stream was ended because its reader took nothing."""
        self._audit.record("quota.refused", "max_unread", caller, run_id=run_id, detail="stream")

    # --- starting

    async def turn(self, caller: Caller) -> Turn:
        """A start's turn. Taken before the request is read, since reading takes the loop's time."""
        return await self._lanes.turnstile.enter(caller.principal.scope)

    async def start(self, caller: Caller, spec: RunSpec) -> Run:
        """Starts a run in the background; it goes on without a watcher."""

        def start() -> Run:
            with trace_of(caller.trace):
                return self._engine.start(
                    runnable,
                    spec,
                    scope=caller.principal.scope,
                    share=partial(self._quotas.share, caller, self._engine),
                )

        with self._told(caller, "run.start", spec.run_id, spec.runnable) as told:
            runnable = self._admit(caller, spec)
            run = await self._ask(self._lanes.starts, start, aside=_is_large(spec))
            told.run_id = run.run_id
        return run

    async def run(
        self, caller: Caller, spec: RunSpec, begun: Callable[[], None] = lambda: None
    ) -> Following:
        """Starts a run and follows it. A caller that leaves meanwhile has left its run, too.

        `begun` is called once what the run said at first is sent.
        """

        def follow() -> Watcher:
            with trace_of(caller.trace):
                return self._engine.follow(
                    runnable,
                    spec,
                    deadline=caller.time_left,
                    scope=caller.principal.scope,
                    share=partial(self._quotas.share, caller, self._engine),
                )

        with self._told(caller, "run.start", spec.run_id, spec.runnable) as told:
            runnable = self._admit(caller, spec)
            left = self._quotas.watch(caller)
            aside = self._engine.blocking or _is_large(spec)
            watcher = await self._watcher(self._lanes.starts, follow, left, aside=aside)
            told.run_id = watcher.run_id
        return Following(watcher, self._notifier, self._readers, begun, left)

    def _admit(self, caller: Caller, spec: RunSpec) -> Runnable:
        """The runnable of this name, if the caller may start it."""
        # All else of it is checked by the engine.
        for name in ("runnable", "run_id", "user_id"):
            if not is_valid(getattr(spec, name)):
                raise InvalidArgument(Violation(f"spec.{name}", NOT_VALID))
        if not self._access.starts(caller, spec.runnable):
            raise RunnableNotFound(spec.runnable)
        self._access.check_start(caller, spec)
        runnable = self._catalog.find(spec.runnable)
        again = self._engine.find_here(spec.run_id, scope=caller.principal.scope)
        if again is None:  # else it is a retry, which starts nothing
            self._quotas.start(caller)
        return runnable

    # --- looking

    async def watch(self, caller: Caller, request: WatchRequest) -> Following:
        """Follows a run that exists, live or ended."""
        _check(request)
        run_id, after_sequence = request.run_id, request.after_sequence
        scope = await self._scope(caller, Verb.WATCH, run_id, request.whose)
        if scope != caller.principal.scope:
            self._audit.record("run.watch.foreign", "ok", caller, run_id=run_id, detail=scope.owner)
        is_guest = self._access.is_guest(caller, scope)
        here = self._engine.find_here(run_id, scope=scope)

        def watch() -> Watcher:
            run = here or self._engine.find(run_id, scope=scope)
            return run.watch(after_sequence, is_guest=is_guest)

        with self._bounded(caller, run_id):
            left = self._quotas.watch(caller)
        aside = here is None and self._engine.blocking
        watcher = await self._watcher(self._lanes.lookups, watch, left, aside=aside)
        return Following(watcher, self._notifier, self._readers, on_close=left)

    async def wait(self, caller: Caller, request: WaitRequest) -> Run:
        """A run once it has ended, or as it is after the request's time, or the caller's."""
        _check(request)
        run = await self._find(caller, Verb.WATCH, request.run_id, request.whose)
        await self._end_of(run, request.timeout, caller)
        return run.snapshot()

    async def get(self, caller: Caller, request: GetRequest) -> Run:
        """A run as it is now."""
        _check(request)
        return (await self._find(caller, Verb.WATCH, request.run_id, request.whose)).snapshot()

    async def asked(self, caller: Caller, request: GetRequest) -> tuple[Run, str]:
        """A run as it is now, and the words of the question that it waits with; empty: none."""
        _check(request)
        run = await self._find(caller, Verb.WATCH, request.run_id, request.whose)
        return run.snapshot(), run.question()

    async def list(self, caller: Caller, request: ListRequest) -> Page:
        """One page of runs, the newest first."""
        _check(request)
        reach = self._access.reach(caller, Verb.LIST, request.whose)
        with self._bounded(caller):
            self._quotas.look_at_many(caller)
        if reach is None:
            return Page([], "")
        return await self._lanes.lists.ask(
            self._engine.list_page,
            request.filter,
            request.page_size,
            request.page_token,
            reach=reach,
        )

    async def runnables(self, caller: Caller) -> Sequence[RunnableInfo]:
        """The runnables that the caller may start, in order of name."""
        return [info for info in self._catalog.all() if self._access.starts(caller, info.name)]

    def about(self, runnable: str) -> RunnableInfo | None:
        """The description of a runnable, for a caller that was shown a run of it; None: unknown."""
        return next((info for info in self._catalog.all() if info.name == runnable), None)

    async def watch_list(self, caller: Caller, request: WatchListRequest) -> ListFollowing:
        """Follows the list of runs: what is live and matches, and then every change."""
        _check(request)
        reach = self._access.reach(caller, Verb.LIST, request.whose) or NOBODYS
        with self._bounded(caller):
            self._quotas.look_at_many(caller)
            left = self._quotas.watch(caller)
        return await self._rosters.follow(reach, request.filter, request.after, left)

    async def create_run_token(self, caller: Caller, request: RunTokenRequest) -> tuple[str, float]:
        """A token for one run that the caller may see, and the time at which it expires."""
        _check(request)
        with self._told(caller, "run.token", request.run_id):
            self._access.check_hands_on(caller)
            verbs = [Verb.WATCH] if request.watch_only else [Verb.WATCH, Verb.CANCEL]
            for verb in verbs:
                scope = await self._scope(caller, verb, request.run_id, request.whose)
            return self._run_tokens.make(scope, request.run_id, verbs, request.lifetime)

    # --- continuing and stopping

    async def continue_run(self, caller: Caller, request: ContinueRequest) -> Run:
        """Brings a paused run the decision on every call that waits; the run as it then is."""
        _check(request)
        with self._told(caller, "run.continue", request.run_id):
            scope = await self._scope(caller, Verb.CONTINUE, request.run_id, request.whose)
            self._access.check_approval(caller, scope)
            run = self._engine.find_here(request.run_id, scope=scope)
            if run is None:  # a run elsewhere is continued through the store
                run = await self._find_in(scope, request.run_id)
            elif self._is_quick(request.decisions):
                return run.decide(request.decisions, caller.name)
            return await self._lanes.lookups.ask(run.decide, request.decisions, caller.name)

    def _is_quick(self, decisions: Sequence[Decision]) -> bool:
        """Whether a run that is here can be continued on the loop: no store must be asked."""
        answers = sum(len(made.answer or "") for made in decisions)
        return not self._engine.blocking and answers < _LONG_ANSWERS

    async def cancel(self, caller: Caller, request: CancelRequest) -> Receipt:
        """Stops a run, wherever it is in its life; the receipt says what is true on return."""
        _check(request)
        with self._told(caller, "run.cancel", request.run_id):
            return await self._cancel(caller, request)

    async def _cancel(self, caller: Caller, request: CancelRequest) -> Receipt:
        run_id, before_start = request.run_id, request.before_start
        scope = self._access.at_once(caller, Verb.CANCEL, run_id, request.whose)
        if scope is None:
            locate = partial(
                self._access.locate,
                caller,
                Verb.CANCEL,
                run_id,
                request.whose,
                before_start=before_start,
            )
            scope = await self._ask(self._lanes.cancels, locate)
        self._access.check_cause(caller, scope, request.cause)
        stop = _stop(caller, request.reason, request.mode, request.grace_period, request.cause)
        run = self._engine.find_here(run_id, scope=scope)
        if run is None:
            ask = partial(
                self._engine.cancel,
                run_id,
                stop,
                before_start=before_start,
                most_early=self._quotas.most_early(caller),
                scope=scope,
            )
            receipt = await self._ask(self._lanes.cancels, ask)
            if receipt.outcome is not CancelOutcome.REQUESTED or not request.wait:
                return receipt
            run = await self._find_in(scope, run_id)
        else:
            receipt = run.cancel(stop)
            if (recording := run.recording()) is not None:
                receipt = await recording.receipt()
        if request.wait and receipt.outcome is CancelOutcome.REQUESTED:
            await self._end_of(run, request.wait, caller)
            receipt = run.receipt()
        return receipt

    async def cancel_many(
        self, caller: Caller, request: CancelManyRequest
    ) -> Sequence[CancelResult]:
        """Stops every live run that the filter matches; what was achieved, the newest first."""
        _check(request)
        with self._told(caller, "run.cancel_many", ""):
            reach = self._access.reach(caller, Verb.CANCEL, request.whose)
            self._quotas.look_at_many(caller)
            if reach is None:
                return []
            return await self._lanes.lists.ask(
                self._engine.cancel_many,
                request.filter,
                _stop(caller, request.reason, request.mode),
                validate_only=request.validate_only,
                max_affected=request.max_affected,
                reach=reach,
            )

    # --- erasing

    async def erase(self, caller: Caller, request: EraseRequest) -> Erased:
        """Deletes for good what is kept of the ended runs that match; live ones stay."""
        _check(request)
        with self._told(caller, "run.erase", "", str(request)):
            reach = self._access.reach(caller, Verb.ERASE, request.whose)
            self._quotas.look_at_many(caller)
            if reach is None:
                return Erased()
            return await self._lanes.lists.ask(
                self._engine.erase, reach, request.filter, validate_only=request.validate_only
            )

    # --- inside

    async def _find(self, caller: Caller, verb: Verb, run_id: str, whose: Reach) -> RunHandle:
        """The run, held: it answers though it ends and is forgotten meanwhile."""
        return await self._find_in(await self._scope(caller, verb, run_id, whose), run_id)

    async def _find_in(self, scope: Scope, run_id: str) -> RunHandle:
        here = self._engine.find_here(run_id, scope=scope)
        if here is not None:
            return here
        return await self._ask(self._lanes.lookups, lambda: self._engine.find(run_id, scope=scope))

    async def _scope(self, caller: Caller, verb: Verb, run_id: str, whose: Reach) -> Scope:
        """Whose run is meant, if the caller may do this with it."""
        scope = self._access.at_once(caller, verb, run_id, whose)
        if scope is None:
            locate = partial(self._access.locate, caller, verb, run_id, whose)
            scope = await self._ask(self._lanes.lookups, locate)
        return scope

    @contextlib.contextmanager
    def _told(
        self, caller: Caller, action: str, run_id: str, detail: str = ""
    ) -> Iterator["_Told"]:
        """A block whose outcome is written to the audit log."""
        told = _Told(run_id)
        try:
            with self._bounded(caller, run_id):
                yield told
        except PullcordError as error:
            self._audit.record(
                action, type(error).__name__, caller, run_id=told.run_id, detail=detail
            )
            raise
        self._audit.record(action, "ok", caller, run_id=told.run_id, detail=detail)

    @contextlib.contextmanager
    def _bounded(self, caller: Caller, run_id: str = "") -> Iterator[None]:
        """A block that writes to the audit log which share is full, if one is."""
        try:
            yield
        except QuotaExceeded as error:
            self._audit.record(
                "quota.refused", error.quota, caller, run_id=run_id, detail=error.subject
            )
            raise

    async def _end_of(self, run: RunHandle, timeout: float | None, caller: Caller) -> None:
        """Waits for a run's end, but not longer than the caller does."""
        if (left := caller.time_left) is not None:
            remaining = max(0.0, left - ANSWER_MARGIN)
            timeout = remaining if timeout is None else min(timeout, remaining)
        forget: list[Callable[[], None]] = []

        def arm(wake: Callable[[], None]) -> bool:
            forget.append(run.on_end(wake))
            return True

        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._notifier.wait(arm, heartbeat=False)
        finally:
            for call in forget:
                call()

    async def _ask(self, lane: Lane, call: Callable[[], T], *, aside: bool = False) -> T:
        """Calls the engine: here, unless its store may block, or `aside` the call takes long."""
        return await lane.ask(call) if aside or self._engine.blocking else call()

    async def _watcher(
        self,
        lane: Lane,
        call: Callable[[], Watcher],
        left: Callable[[], None],
        *,
        aside: bool,
    ) -> Watcher:
        """Makes a watcher: here, or `aside` in a lane, if the call may wait or take long.

        It is closed if its caller has left meanwhile. `left` is called if there will be none.
        """
        try:
            if not aside:
                return call()
            made = lane.submit(call)
            try:
                return await asyncio.wrap_future(made)
            except asyncio.CancelledError:
                made.add_done_callback(_close)
                raise
        except BaseException:
            left()
            raise


def _is_large(spec: RunSpec) -> bool:
    """Whether to compare this spec with that of an earlier start may take long."""
    data = spec.input_data
    return isinstance(data, UnreadData) and data.nbytes > SMALL_DATA


class _Told:
    """The run that a call under way is about, once it is known."""

    __slots__ = ("run_id",)

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id


def _check(request: object) -> None:
    """Raises InvalidArgument, which names it, for text that no message or store can hold."""
    if (where := where_invalid(request)) is not None:
        raise InvalidArgument(Violation(where, NOT_VALID))


def _close(made: "Future[Watcher]") -> None:
    if not made.cancelled() and made.exception() is None:
        made.result().close()


def _stop(
    caller: Caller,
    reason: str,
    mode: CancelMode,
    grace_period: float | None = None,
    cause: CancelCause = CancelCause.USER,
) -> StopRequest:
    stop = Cancellation(cause, caller.name, reason, mode, claimed_actor=caller.unchecked_name)
    return StopRequest(stop, grace_period)
