"""A store that a test can make slow, hung or broken, around a real one. It keeps nothing itself."""

from collections.abc import Callable, Sequence

from pullcord.engine.log.log import EventLog
from pullcord.engine.ports import (
    DEFAULT_TERMS,
    Admitted,
    Age,
    AlreadyLive,
    CancelRequest,
    EndedRun,
    Entry,
    Finish,
    NotYet,
    OnLost,
    Recorded,
    RunStore,
    Scope,
    Spent,
    StoreSize,
    Terms,
    Waiting,
    Written,
    unheard,
)
from pullcord.engine.sharing import Asked
from pullcord.run.cancel import Cancellation
from pullcord.run.record import Erased, Run, RunFilter, RunSpec
from pullcord.run.scope import Reach

Hook = Callable[[str], None]
"""Receives the name of a verb. It may block, or raise, such as StoreUnavailable."""


def _nothing(verb: str) -> None:
    pass


class HookedStore:
    """A RunStore that calls `before` and `after` around each verb of the store within."""

    def __init__(
        self, within: RunStore, *, blocking: bool | None = None, durable: bool | None = None
    ) -> None:
        """`blocking` and `durable` are those of the store within, unless they are given."""
        self._within = within
        self.blocking = within.blocking if blocking is None else blocking
        self.durable = within.durable if durable is None else durable
        self.sharing = within.sharing
        self.swept = within.swept
        self.notices = within.notices
        self.before: Hook = _nothing
        self.after: Hook = _nothing

    def admit(
        self, scope: Scope, spec: RunSpec, terms: Terms = DEFAULT_TERMS
    ) -> Admitted | AlreadyLive | EndedRun:
        """Delegates to the inner store."""
        self.before("admit")
        answer = self._within.admit(scope, spec, terms)
        self.after("admit")
        return answer

    def recover(self, on_lost: OnLost = unheard) -> Sequence[Waiting]:
        """Delegates to the inner store."""
        self.before("recover")
        answer = self._within.recover(on_lost)
        self.after("recover")
        return answer

    def begin(self, scope: Scope, run_id: str) -> CancelRequest | NotYet | None:
        """Delegates to the inner store."""
        self.before("begin")
        answer = self._within.begin(scope, run_id)
        self.after("begin")
        return answer

    def go_on(self, scope: Scope, run_id: str, asked: Asked) -> bool:
        """Delegates to the inner store."""
        self.before("go_on")
        answer = self._within.go_on(scope, run_id, asked)
        self.after("go_on")
        return answer

    def write(self, entries: Sequence[Entry]) -> list[Written | None]:
        """Delegates to the inner store."""
        self.before("write")
        answer = self._within.write(entries)
        self.after("write")
        return answer

    def withdraw(self, scope: Scope, run_id: str) -> None:
        """Delegates to the inner store."""
        self.before("withdraw")
        self._within.withdraw(scope, run_id)
        self.after("withdraw")

    def finish(self, ends: Sequence[Finish]) -> Sequence[Cancellation | EndedRun | None]:
        """Delegates to the inner store."""
        self.before("finish")
        answer = self._within.finish(ends)
        self.after("finish")
        return answer

    def request_stop(
        self,
        scope: Scope,
        run_id: str,
        request: CancelRequest,
        *,
        before_start: bool,
        most_early: int | None = None,
    ) -> Recorded | EndedRun | None:
        """Delegates to the inner store."""
        self.before("request_stop")
        answer = self._within.request_stop(
            scope, run_id, request, before_start=before_start, most_early=most_early
        )
        self.after("request_stop")
        return answer

    def find(self, scope: Scope, run_id: str) -> EndedRun | None:
        """Delegates to the inner store."""
        self.before("find")
        answer = self._within.find(scope, run_id)
        self.after("find")
        return answer

    def log(self, scope: Scope, run_id: str) -> tuple[EndedRun, EventLog] | None:
        """Delegates to the inner store."""
        self.before("log")
        answer = self._within.log(scope, run_id)
        self.after("log")
        return answer

    def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """Delegates to the inner store."""
        self.before("owners")
        answer = self._within.owners(reach, run_id)
        self.after("owners")
        return answer

    def page(self, reach: Reach, matching: RunFilter, before: Age | None, size: int) -> list[Run]:
        """Delegates to the inner store."""
        self.before("page")
        answer = self._within.page(reach, matching, before, size)
        self.after("page")
        return answer

    def history(
        self, scope: Scope, session_id: str, user_id: str, runnable: str, limit: int
    ) -> list[Run]:
        """Delegates to the inner store."""
        self.before("history")
        answer = self._within.history(scope, session_id, user_id, runnable, limit)
        self.after("history")
        return answer

    def erase(self, reach: Reach, matching: RunFilter, *, validate_only: bool) -> Erased:
        """Delegates to the inner store."""
        self.before("erase")
        answer = self._within.erase(reach, matching, validate_only=validate_only)
        self.after("erase")
        return answer

    def size(self) -> StoreSize:
        """Delegates to the inner store, without a hook: tests look with this."""
        return self._within.size()

    def spent(self, tenant: str) -> Spent:
        """Delegates to the inner store."""
        self.before("spent")
        answer = self._within.spent(tenant)
        self.after("spent")
        return answer

    def stored_bytes(self, tenant: str) -> int:
        """Delegates to the inner store."""
        self.before("stored_bytes")
        answer = self._within.stored_bytes(tenant)
        self.after("stored_bytes")
        return answer

    def close(self) -> None:
        """Delegates to the inner store."""
        self._within.close()
