"""Decides what a caller may do with which run: the one place for every verb.

A run that a caller may not see is answered as one that never was. One that it may see, but not do
this with, is refused by name. Nothing here knows how a caller was verified.
"""

from collections.abc import Callable
from typing import Protocol

from pullcord.engine.directory import RunHandle
from pullcord.run.caller import Caller
from pullcord.run.cancel import CancelCause
from pullcord.run.errors import InvalidArgument, PermissionDenied, RunNotFound, Violation
from pullcord.run.principal import Principal, Verb
from pullcord.run.record import RunSpec
from pullcord.run.scope import EVERYBODY, Reach, Scope

MAX_NAMED = 5
"""Owners that a refusal names, of several that have a run of one id."""

Policy = Callable[[Principal, str], bool]
"""Whether a caller may start the runnable of this full name. Called on the RPC loop: quick."""


def everybody(principal: Principal, runnable: str) -> bool:
    """The policy that lets everybody start everything that their grants let them start."""
    return True


class Where(Protocol):
    """The lookups of an engine that are needed here."""

    def find_here(self, run_id: str, *, scope: Scope) -> RunHandle | None:
        """The run, if it is live here."""

    def find(self, run_id: str, *, scope: Scope) -> RunHandle:
        """The run. Raises RunNotFound."""

    def owners(self, reach: Reach, run_id: str) -> list[Scope]:
        """The scopes within reach that have a run of this id."""


class Access:
    """Decides for one engine. What asks the store may block; `at_once` never does."""

    def __init__(
        self, runs: Where, policy: Policy = everybody, *, own_approval: bool = True
    ) -> None:
        """`own_approval`: whether a caller may decide about the calls of its own runs."""
        self._runs = runs
        self._policy = policy
        self._own_approval = own_approval

    # --- starting

    def starts(self, caller: Caller, runnable: str) -> bool:
        """Whether the caller may start this; else it is not there for it."""
        principal = caller.principal
        return principal.grants.starts(runnable) and self._policy(principal, runnable)

    def check_start(self, caller: Caller, spec: RunSpec) -> None:
        """Raises PermissionDenied if the run would be in somebody else's name."""
        principal, user = caller.principal, spec.user_id
        if user in ("", principal.subject, principal.name) or principal.grants.act_as:
            return
        if not principal.is_local:
            raise PermissionDenied("start", f"runs for user_id {user[:160]!r}")

    # --- runs that exist

    def reach(self, caller: Caller, verb: Verb, whose: Reach = EVERYBODY) -> Reach | None:
        """Whose runs a look at many finds; None: nobody's.

        Raises:
            PermissionDenied: the caller has no grant for the verb at all.
        """
        reach = caller.principal.reach(verb)
        if reach is None or caller.principal.only_run:
            raise PermissionDenied(verb, "runs")
        return _both(reach, whose)

    def at_once(self, caller: Caller, verb: Verb, run_id: str, whose: Reach) -> Scope | None:
        """The scope of the run that is meant, if that is known without asking the store.

        Raises RunNotFound for a caller whose credential is for another run.
        """
        principal = caller.principal
        if principal.only_run not in ("", run_id):
            raise RunNotFound(run_id)
        own, reach = principal.scope, principal.reach(verb)
        if reach is None or not whose.covers(own):
            return None
        if principal.is_local:  # all runs are its own, or else it says whose it means
            return own
        is_own = reach == Reach(*own) and principal.reach(Verb.WATCH) in (None, reach)
        if is_own or self._runs.find_here(run_id, scope=own) is not None:
            return own
        return None

    def locate(
        self, caller: Caller, verb: Verb, run_id: str, whose: Reach, *, before_start: bool = False
    ) -> Scope:
        """The scope of the run that is meant. May wait for the store.

        Raises:
            RunNotFound: there is none that the caller may see, and `before_start` is not set.
            PermissionDenied: the caller may see it, but not do this.
            InvalidArgument: several are meant.
        """
        if (scope := self.at_once(caller, verb, run_id, whose)) is not None:
            return scope
        principal = caller.principal
        own, may = principal.scope, principal.reach(verb)
        sees = [reach for reach in (may, principal.reach(Verb.WATCH)) if reach is not None]
        if not sees:
            raise PermissionDenied(verb, "runs")
        found = {
            scope
            for reach in sees
            if (within := _both(reach, whose)) is not None
            for scope in self._runs.owners(within, run_id)
        }
        if own in found:
            found = {own}
        if len(found) > 1:
            raise _ambiguous(run_id, sorted(found))
        if not found:
            target = _one(whose, own)
            if not before_start or may is None or not may.covers(target):
                raise RunNotFound(run_id)
            return target
        (scope,) = found
        if may is None or not may.covers(scope):
            raise PermissionDenied(verb, f"run {run_id!r}")
        return scope

    def check_cause(self, caller: Caller, scope: Scope, cause: CancelCause) -> None:
        """Raises PermissionDenied for a cause that only the run's owner can know."""
        principal = caller.principal
        if cause is CancelCause.PARENT and scope != principal.scope:
            raise PermissionDenied("cancel", "a run of somebody else with cause PARENT")

    def check_hands_on(self, caller: Caller) -> None:
        """Raises PermissionDenied if the caller's own credential is for one run."""
        if caller.principal.only_run:
            raise PermissionDenied("create", "tokens with a token for one run")

    def check_approval(self, caller: Caller, scope: Scope) -> None:
        """Raises PermissionDenied if somebody else has to decide."""
        if not self._own_approval and scope == caller.principal.scope:
            raise PermissionDenied("continue", "a run of your own: somebody else has to decide")

    def is_guest(self, caller: Caller, scope: Scope) -> bool:
        """Whether the caller may watch the run but not stop it, so that leaving must not either."""
        may = caller.principal.reach(Verb.CANCEL)
        return may is None or not may.covers(scope)


def _both(reach: Reach, whose: Reach) -> Reach | None:
    """The part that is within both; None: there is none."""
    for mine, asked in zip(reach, whose, strict=True):
        if mine and asked and mine != asked:
            return None
    return Reach(reach.tenant or whose.tenant, reach.owner or whose.owner)


def _one(whose: Reach, own: Scope) -> Scope:
    """The scope that is named, as far as it is; the rest is the caller's own."""
    return Scope(whose.tenant or own.tenant, whose.owner or own.owner)


def _ambiguous(run_id: str, found: list[Scope]) -> InvalidArgument:
    names = ", ".join(f"{scope.tenant}/{scope.owner}" for scope in found[:MAX_NAMED])
    more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
    words = f"names a run of each of {names}{more}; set tenant and owner"
    return InvalidArgument(Violation("run_id", words))
