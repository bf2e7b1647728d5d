"""The errors of calls: each says whose fault it is and what to do next.

A run's own failure is not here: it is data (`RunError`), because a failed run is a normal answer.
Status codes and details on the wire are in `wire.errors`.
"""

from dataclasses import dataclass

from pullcord.run.state import RunState


class PullcordError(Exception):
    """The base of every error that a call can end with."""


def _shown(name: str) -> str:
    """A name of the caller's, in quotes, and no longer than any valid one."""
    return repr(name[:160])


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that is wrong."""

    field: str
    """The field's path in the request, such as `spec.limits.timeout`; empty: the whole request."""
    description: str
    """The error, and what would be valid."""

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


class InvalidArgument(PullcordError):
    """The caller's mistake: `violations` names every wrong field."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(map(str, violations)))
        self.violations = violations


class RunNotFound(PullcordError):
    """There is no such run, or it has expired."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {_shown(run_id)}: it never started here, or has expired")
        self.run_id = run_id


class RunnableNotFound(PullcordError):
    """No runnable of that name is served."""

    def __init__(self, runnable: str) -> None:
        super().__init__(f"unknown runnable {_shown(runnable)}; ListRunnables lists what is served")
        self.runnable = runnable


class RunExists(PullcordError):
    """There is a run of this run_id already, with another spec."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {_shown(run_id)} exists with another spec; use another run_id")
        self.run_id = run_id


class ServerBusy(PullcordError):
    """There is no capacity for another run. Try again after `retry_after` seconds."""

    def __init__(self, why: str, retry_after: float = 1.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class Draining(PullcordError):
    """The server is stopping. Try another, or again after `retry_after` seconds."""

    def __init__(self, retry_after: float = 1.0) -> None:
        super().__init__("the server is stopping and takes no new runs")
        self.retry_after = retry_after


class StoreUnavailable(PullcordError):
    """The store does not answer. What was asked may have been done all the same: ask again."""

    def __init__(
        self, why: str = "the store does not answer; ask again", stopping: bool = False
    ) -> None:
        super().__init__(why)
        self.stopping = stopping
        """Whether the run is being stopped all the same: only that is not recorded yet."""


class SessionBusy(PullcordError):
    """The session is busy with another run, and the spec's policy is REJECT."""

    def __init__(self, session_id: str, run_id: str) -> None:
        super().__init__(
            f"session {_shown(session_id)} is busy with run {_shown(run_id)};"
            " wait for it, or use the session policy QUEUE or SUPERSEDE"
        )
        self.session_id = session_id
        self.run_id = run_id


class TooManyAffected(PullcordError):
    """A filter matches more runs than the caller allowed. Nothing was cancelled."""

    def __init__(self, matched: int, allowed: int) -> None:
        super().__init__(
            f"the filter matches {matched} runs, and max_affected is {allowed}; none was cancelled"
        )
        self.matched = matched
        self.allowed = allowed


class RunNotPaused(PullcordError):
    """The run is not paused, so there is nothing to decide. Nothing was changed."""

    def __init__(
        self,
        run_id: str,
        state: RunState,
        repeated: bool = False,
        waiting: tuple[str, ...] = (),
    ) -> None:
        words = "; it has continued by these decisions already" if repeated else ""
        if waiting:
            children = " and ".join(map(_shown, waiting))
            words = f"; its child run {children} does: decide there"
        super().__init__(f"run {_shown(run_id)} does not wait for a decision: it is {state}{words}")
        self.run_id = run_id
        self.state = state
        self.repeated = repeated
        """Whether it has continued by the same decisions, such as those of a retried call."""
        self.waiting = waiting
        """Ids of child runs that wait for a decision, the first few."""


class Unauthenticated(PullcordError):
    """The call carries no credential, or one that is not valid. `why` is for the server's log."""

    def __init__(self, why: str = "") -> None:
        super().__init__(
            "the server knows its callers, and not this one: send a valid credential,"
            " such as `authorization: Bearer TOKEN`"
        )
        self.why = why


class PermissionDenied(PullcordError):
    """The caller may see this, but not do it. Nothing was changed."""

    def __init__(self, verb: str, what: str, why: str = "") -> None:
        """`why` replaces the words for a missing grant."""
        super().__init__(
            why or f"you may not {verb} {what}; ask the server's operator for the grant"
        )
        self.verb = verb
        self.what = what


class QuotaExceeded(PullcordError):
    """The caller, or its tenant, has its share. Try again after `retry_after` seconds."""

    def __init__(self, quota: str, subject: str, why: str, retry_after: float = 1.0) -> None:
        super().__init__(why)
        self.quota = quota
        """The setting that bounds it, such as `starts_per_minute`."""
        self.subject = subject
        """Whose share it is: `caller` or `tenant`."""
        self.retry_after = retry_after


class CredentialExpired(PullcordError):
    """The credential of a stream is not valid any more. The run goes on for its lease: watch it
    with a fresh credential, after the last event seen."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"the credential has expired or was withdrawn; watch run {_shown(run_id)} again with"
            " a fresh one, after the last event seen"
        )
        self.run_id = run_id


class ServerFault(PullcordError):
    """The server's own fault, not the caller's or the run's. Its log says more."""

    def __init__(self, error_id: str = "") -> None:
        where = f" at error {error_id}" if error_id else ""
        super().__init__(f"the server made a mistake; its log says more{where}")
        self.error_id = error_id
        """The id by which the log knows it."""


class CallFailed(PullcordError):
    """A call that failed on its way, or with a status that this client does not know."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        """The name of the gRPC status, such as `PERMISSION_DENIED`."""
        self.message = message


class ConnectionLost(CallFailed):
    """The server cannot be reached. The run may go on: watch it, or call again."""

    def __init__(self, message: str = "", run_id: str = "") -> None:
        super().__init__("UNAVAILABLE", message)
        self.run_id = run_id


class DeadlineExceeded(CallFailed):
    """The caller's deadline for the call has passed. Only Run stops the run then."""

    def __init__(self, message: str = "", run_id: str = "") -> None:
        super().__init__("DEADLINE_EXCEEDED", message)
        self.run_id = run_id


class PublicError(Exception):
    """An error of a run's code whose message callers may read, also where the server hides errors.

    Raise it, or a class derived from it, in runnables and tools. Of all other exceptions, callers
    of a server with PULLCORD_ERRORS=type see the class.
    """

    says_all = False
    """Whether its public words are all that an operator needs: the log has them, and no stack."""

    def __init__(self, message: str = "", *, said: str = "") -> None:
        """`said` is what somebody else said of it: part of the words, and hidden like others."""
        super().__init__(f"{message}: {said}" if said else message)
        self._message = message

    @property
    def public(self) -> str:
        """The words that callers may read."""
        return self._message


class RunCancelledError(BaseException):
    """Raised in a run's code when the run must stop.

    Like asyncio.CancelledError it is no `Exception`, so that `except Exception:` around a tool
    does not swallow it. If code swallows it, the run still ends CANCELLED.
    """


class RunInterrupted(RunCancelledError):
    """Raised by the engine in the thread of a run that must stop IMMEDIATE."""
