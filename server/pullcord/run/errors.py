"""The errors a caller can meet, each saying whose fault it is and what to do next.

These are refusals of a call. A run's own failure is not here: it is data (`RunError`), because a
failed run is a normal answer. Status codes and wire details are the wire layer's.
"""

from dataclasses import dataclass

from pullcord.run.state import RunState


class PullcordError(Exception):
    """The root of every refusal."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One field of a request that is wrong."""

    field: str
    """The field's path in the request, such as `spec.limits.timeout`; empty: the whole of it."""
    description: str
    """What is wrong, and what would be right."""

    def __str__(self) -> str:
        return f"{self.field}: {self.description}" if self.field else self.description


class InvalidArgument(PullcordError):
    """The caller's mistake: `violations` names every wrong field."""

    def __init__(self, *violations: Violation) -> None:
        super().__init__("; ".join(map(str, violations)))
        self.violations = violations


class RunNotFound(PullcordError):
    """No such run, or it has been forgotten."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"there is no run {run_id!r}")
        self.run_id = run_id


class RunnableNotFound(PullcordError):
    """Nothing of that name is on offer."""

    def __init__(self, runnable: str) -> None:
        super().__init__(f"nothing is on offer as {runnable!r}")
        self.runnable = runnable


class RunExists(PullcordError):
    """The run_id belongs to a run with another spec."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"run {run_id!r} exists already, with another spec")
        self.run_id = run_id


class ServerBusy(PullcordError):
    """No room for another run. Try again after `retry_after` seconds."""

    def __init__(self, why: str, retry_after: float = 1.0) -> None:
        super().__init__(why)
        self.retry_after = retry_after


class Draining(PullcordError):
    """The server is stopping. Try another, or again after `retry_after` seconds."""

    def __init__(self, retry_after: float = 1.0) -> None:
        super().__init__("the server is stopping and takes no new runs")
        self.retry_after = retry_after


class StoreUnavailable(PullcordError):
    """The shared store does not answer. Nothing was changed."""

    def __init__(self, why: str = "the shared store does not answer") -> None:
        super().__init__(why)


class SessionBusy(PullcordError):
    """The session is busy with another run, and the spec said to reject."""

    def __init__(self, session_id: str, run_id: str) -> None:
        super().__init__(f"session {session_id!r} is busy with run {run_id!r}")
        self.session_id = session_id
        self.run_id = run_id


class TooManyAffected(PullcordError):
    """A filter matches more runs than the caller allowed. Nothing was cancelled."""

    def __init__(self, matched: int, allowed: int) -> None:
        super().__init__(f"the filter matches {matched} runs, and {allowed} are allowed")
        self.matched = matched
        self.allowed = allowed


class RunNotPaused(PullcordError):
    """The run does not wait for a decision. Nothing was changed."""

    def __init__(self, run_id: str, state: RunState, repeated: bool = False) -> None:
        words = "; it has gone on by these decisions already" if repeated else ""
        super().__init__(f"run {run_id!r} does not wait for a decision: it is {state}{words}")
        self.run_id = run_id
        self.state = state
        self.repeated = repeated
        """Whether it has gone on by the same decisions, such as when a call is tried again."""


class ServerFault(PullcordError):
    """The server's own fault, never the caller's and never the run's. Its log says more."""

    def __init__(self) -> None:
        super().__init__("the server made a mistake; its log says more")


class CallFailed(PullcordError):
    """A call that failed on its way, or with words that this client does not know."""

    def __init__(self, code: str, message: str = "") -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        """The name of the gRPC status, such as `PERMISSION_DENIED`."""
        self.message = message


class ConnectionLost(CallFailed):
    """The server cannot be reached. The run may be at work all the same: watch it, or ask again."""

    def __init__(self, message: str = "", run_id: str = "") -> None:
        super().__init__("UNAVAILABLE", message)
        self.run_id = run_id


class DeadlineExceeded(CallFailed):
    """The caller's own time for the call was up. The run is stopped only where the call says so."""

    def __init__(self, message: str = "", run_id: str = "") -> None:
        super().__init__("DEADLINE_EXCEEDED", message)
        self.run_id = run_id


class RunCancelledError(BaseException):
    """Raised in a run's code when the run is cancelled.

    Like asyncio.CancelledError it is no `Exception`, so that `except Exception:` around a tool
    does not swallow it. Code that does swallow it changes nothing: the run still ends CANCELLED.
    """


class RunInterrupted(RunCancelledError):
    """Raised from outside in a thread whose run must stop IMMEDIATE."""
