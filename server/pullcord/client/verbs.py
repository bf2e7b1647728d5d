"""Every call of the client that has one answer, described once: its request, and how its answer is
read.

Both faces of the client make the calls that are described here. Nothing here calls a server, and
streams are in `following`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar

from pullcord.client.calls import CALL_TIMEOUT, LONGEST_CALL, SpecOptions, new_spec
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.record import CancelResult, Decision, Erased, Receipt, Run, RunFilter
from pullcord.run.requests import (
    CancelManyRequest,
    CancelRequest,
    ContinueRequest,
    EraseRequest,
    ListRequest,
    RunTokenRequest,
    WaitRequest,
)
from pullcord.run.runnable import RunnableInfo
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire.requests import (
    cancel_many_message,
    cancel_message,
    continue_message,
    erase_message,
    list_message,
    run_token_message,
    wait_message,
)
from pullcord.wire.run import cancel_results_of, erased_of, receipt_of, run_of, runnable_of
from pullcord.wire.spec import spec_message
from pullcord.wire.values import time_of

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One call of the service."""

    method: str
    """The rpc's name."""
    request: Any
    read: Callable[[Any], Answer]
    """Makes the answer of the response's message."""
    timeout: float | None = CALL_TIMEOUT
    """Seconds that the call may take; None: any."""
    is_start: bool = False
    """Whether it starts a run, which goes on with the caller's trace."""
    actor: str | None = None
    """On whose behalf it is made; None: the client's own."""

    @property
    def run_id(self) -> str:
        """The run that the call is about; empty if it is about none or several."""
        return getattr(self.request, "run_id", "")


@dataclass(frozen=True, slots=True)
class RunToken:
    """A token that is good for one run."""

    token: str
    expires_at: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class RunChange:
    """One thing that a follower of the list of runs learns."""

    run: Run | None
    """The run as it is now, without input and output; None: none has changed."""
    position: str
    """The point to resume from, by `after`."""
    caught_up: bool = False
    """All that was live has been shown, and only changes follow. Said once a connection."""
    missed: bool = False
    """Runs may have ended that are not shown: list again. Every live run follows."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the runs that match, and where the next ones begin."""

    runs: tuple[Run, ...]
    next_token: str
    """Empty: there are no more."""


class StreamCancelOptions(TypedDict, total=False):
    """Options for stopping a stream's run."""

    mode: CancelMode
    """GRACEFUL unless set."""
    grace_period: float | None
    """Seconds that a tool call in flight may take to finish; None: the server's default."""
    wait: float
    """Seconds that the answer may wait for the stop; 0 unless set."""


class CancelOptions(StreamCancelOptions, total=False):
    """Options for stopping a run."""

    before_start: bool
    """Whether a run that the server does not know yet is stopped when it comes."""
    cause: CancelCause
    """USER unless set; PARENT if the run is a child of a run elsewhere."""
    actor: str | None
    """On whose behalf the stop is requested; None: the client's own."""


class CancelManyOptions(TypedDict, total=False):
    """Options for stopping many runs."""

    mode: CancelMode
    """GRACEFUL unless set."""
    validate_only: bool
    """Whether the runs are only listed, and none is stopped."""
    max_affected: int
    """If more runs match, none is stopped; 1,000 unless set."""


def start(runnable: str, input: str, options: SpecOptions) -> Call[Run]:
    """Starts a run in the background."""
    request = v1.StartRunRequest(spec=spec_message(new_spec(runnable, input, options)))
    return Call("StartRun", request, _run_in, is_start=True)


def wait(run_id: str, timeout: float | None) -> Call[Run]:
    """Gets a run once it has ended, or as it is after `timeout` seconds."""
    left = None if timeout is None else min(timeout, LONGEST_CALL)
    limit = None if left is None else left + CALL_TIMEOUT
    return Call("WaitRun", wait_message(WaitRequest(run_id, left)), _run_in, limit)


def get(run_id: str) -> Call[Run]:
    """Gets a run as it is now."""
    return Call("GetRun", v1.GetRunRequest(run_id=run_id), _run_in)


def page(matching: RunFilter | None, size: int, token: str) -> Call[Page]:
    """Lists one page of the runs that match."""
    request = list_message(ListRequest(matching or RunFilter(), size, token))
    return Call("ListRuns", request, _page_in)


def runnables() -> Call[tuple[RunnableInfo, ...]]:
    """Lists what can be run."""
    return Call("ListRunnables", v1.ListRunnablesRequest(), _runnables_in)


def continue_run(run_id: str, decisions: Iterable[Decision]) -> Call[Run]:
    """Sends a paused run the decisions that it waits for."""
    request = continue_message(ContinueRequest(run_id, tuple(decisions)))
    return Call("ContinueRun", request, _run_in)


def cancel(run_id: str, reason: str, options: Mapping[str, object]) -> Call[Receipt]:
    """Stops a run; the options are `CancelOptions`."""
    given: dict[str, Any] = {**options}
    actor = given.pop("actor", None)
    request = CancelRequest(run_id, reason, **given)
    limit = CALL_TIMEOUT + request.wait
    return Call("CancelRun", cancel_message(request), receipt_of, limit, actor=actor)


def cancel_many(
    matching: RunFilter, reason: str, options: CancelManyOptions
) -> Call[tuple[CancelResult, ...]]:
    """Stops every live run that the filter matches."""
    request = CancelManyRequest(matching, reason, **options)
    return Call("CancelRuns", cancel_many_message(request), _results_in)


def erase(request: EraseRequest) -> Call[Erased]:
    """Deletes for good what is kept of the ended runs that match."""
    return Call("EraseRuns", erase_message(request), erased_of)


def create_run_token(run_id: str, lifetime: float, watch_only: bool) -> Call[RunToken]:
    """Gets a token for one run."""
    request = run_token_message(RunTokenRequest(run_id, lifetime, watch_only))
    return Call("CreateRunToken", request, _token_in)


def change_in(response: v1.WatchRunsResponse) -> RunChange:
    """One answer of WatchRuns."""
    run = run_of(response.run) if response.HasField("run") else None
    return RunChange(run, response.position, response.caught_up, response.missed)


def _token_in(response: v1.CreateRunTokenResponse) -> RunToken:
    return RunToken(response.token, time_of(response.expire_time))


def _run_in(response: Any) -> Run:
    return run_of(response.run)


def _page_in(response: v1.ListRunsResponse) -> Page:
    return Page(tuple(map(run_of, response.runs)), response.next_page_token)


def _runnables_in(response: v1.ListRunnablesResponse) -> tuple[RunnableInfo, ...]:
    return tuple(map(runnable_of, response.runnables))


def _results_in(response: v1.CancelRunsResponse) -> tuple[CancelResult, ...]:
    return tuple(cancel_results_of(response))
