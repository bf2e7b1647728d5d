"""The requests about runs that exist, between proto and domain.

Each is read from its message with every wrong field named, and written by the client. What is too
many is refused before any of it is looked at. Starting a run is in `spec`.
"""

from typing import Any

from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.record import MAX_REASON_LENGTH, Decision, RunFilter, decision_violations
from pullcord.run.requests import (
    ASKED_CAUSES,
    DEFAULT_MAX_AFFECTED,
    DEFAULT_PAGE_SIZE,
    DEFAULT_TOKEN_LIFETIME,
    MAX_PAGE_SIZE,
    MAX_PAGE_TOKEN_LENGTH,
    MAX_TOKEN_LIFETIME,
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
from pullcord.run.scope import Reach
from pullcord.run.state import RunState
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire.enums import CANCEL_CAUSE, CANCEL_MODE, RUN_STATE
from pullcord.wire.fields import Fields
from pullcord.wire.values import duration

MAX_STATES = 64
"""Entries of a filter's states, of which there are only a few."""

# --- reading. Each raises InvalidArgument that names every wrong field.


def parse_get(message: v1.GetRunRequest) -> GetRequest:
    """Reads GetRunRequest."""
    fields = Fields()
    request = GetRequest(fields.run_id("run_id", message.run_id), fields.whose(message))
    fields.check()
    return request


def parse_watch(message: v1.WatchRunRequest) -> WatchRequest:
    """Reads WatchRunRequest."""
    fields = Fields()
    request = WatchRequest(
        fields.run_id("run_id", message.run_id),
        fields.number("after_sequence", message.after_sequence),
        fields.whose(message),
    )
    fields.check()
    return request


def parse_watch_list(message: v1.WatchRunsRequest) -> WatchListRequest:
    """Reads WatchRunsRequest."""
    fields = Fields()
    parent = fields.run_id("parent_run_id", message.parent_run_id, required=False)
    request = WatchListRequest(
        filter=_filter(fields, message, parent),
        after=fields.text("after", message.after, MAX_PAGE_TOKEN_LENGTH),
        whose=fields.whose(message),
    )
    fields.check()
    return request


def parse_run_token(message: v1.CreateRunTokenRequest) -> RunTokenRequest:
    """Reads CreateRunTokenRequest."""
    fields = Fields()
    lifetime = fields.wait("lifetime", message, "lifetime")
    if lifetime is not None and not 0 < lifetime <= MAX_TOKEN_LIFETIME:
        fields.wrong("lifetime", "must be more than 0 and at most 24 hours")
    request = RunTokenRequest(
        fields.run_id("run_id", message.run_id),
        DEFAULT_TOKEN_LIFETIME if lifetime is None else lifetime,
        message.watch_only,
        fields.whose(message),
    )
    fields.check()
    return request


def parse_wait(message: v1.WaitRunRequest) -> WaitRequest:
    """Reads WaitRunRequest."""
    fields = Fields()
    request = WaitRequest(
        fields.run_id("run_id", message.run_id),
        fields.wait("timeout", message, "timeout"),
        fields.whose(message),
    )
    fields.check()
    return request


def parse_cancel(message: v1.CancelRunRequest) -> CancelRequest:
    """Reads CancelRunRequest."""
    fields = Fields()
    cause = fields.enum("cause", CANCEL_CAUSE, message.cause)
    if cause is not None and cause not in ASKED_CAUSES:
        fields.wrong("cause", "must be USER or PARENT; other causes cannot be asked for")
    request = CancelRequest(
        run_id=fields.run_id("run_id", message.run_id),
        reason=fields.text("reason", message.reason, MAX_REASON_LENGTH),
        mode=fields.enum("mode", CANCEL_MODE, message.mode) or CancelMode.GRACEFUL,
        grace_period=fields.wait("grace_period", message, "grace_period"),
        wait=fields.wait("wait", message, "wait") or 0.0,
        before_start=message.before_start,
        cause=cause or CancelCause.USER,
        whose=fields.whose(message),
    )
    fields.check()
    return request


def parse_continue(message: v1.ContinueRunRequest, max_answer_bytes: int) -> ContinueRequest:
    """Reads ContinueRunRequest. What it decides about is for the run to know."""
    fields = Fields()
    request = ContinueRequest(
        fields.run_id("run_id", message.run_id),
        tuple(
            Decision(
                made.tool_call_id,
                made.approved,
                made.answer if made.HasField("answer") else None,
                made.note,
            )
            for made in message.decisions
        ),
        fields.whose(message),
    )
    fields.violations += decision_violations(request.decisions, max_answer_bytes)
    fields.check()
    return request


def parse_cancel_many(message: v1.CancelRunsRequest) -> CancelManyRequest:
    """Reads CancelRunsRequest. A filter without any field is wrong: it would stop everything."""
    fields = Fields()
    names = ("session_id", "user_id", "runnable", "labels")
    if not any(getattr(message, name) for name in names):
        for name in names:
            fields.wrong(name, f"at least one of {', '.join(names)} must be set")
    request = CancelManyRequest(
        filter=_filter(fields, message),
        reason=fields.text("reason", message.reason, MAX_REASON_LENGTH),
        mode=fields.enum("mode", CANCEL_MODE, message.mode) or CancelMode.GRACEFUL,
        validate_only=message.validate_only,
        max_affected=fields.number("max_affected", message.max_affected) or DEFAULT_MAX_AFFECTED,
        whose=fields.whose(message),
    )
    fields.check()
    return request


def parse_erase(message: v1.EraseRunsRequest) -> EraseRequest:
    """Reads EraseRunsRequest. One without any field is wrong: it would delete everything."""
    fields = Fields()
    names = ("user_id", "session_id", "tenant", "owner")
    if not any(getattr(message, name) for name in names):
        for name in names:
            fields.wrong(name, f"at least one of {', '.join(names)} must be set")
    request = EraseRequest(
        user_id=fields.user_id("user_id", message.user_id),
        session_id=fields.run_id("session_id", message.session_id, required=False),
        whose=fields.whose(message),
        validate_only=message.validate_only,
    )
    fields.check()
    return request


def parse_list(message: v1.ListRunsRequest) -> ListRequest:
    """Reads ListRunsRequest."""
    fields = Fields()
    states: set[RunState] = set()
    if len(message.states) > MAX_STATES:
        fields.wrong("states", f"must be at most {MAX_STATES}")
    for index, number in enumerate(message.states[:MAX_STATES]):
        state = RUN_STATE.find(number)
        if state is None:
            fields.wrong(f"states[{index}]", f"has no value {number}")
        else:
            states.add(state)
    parent = fields.run_id("parent_run_id", message.parent_run_id, required=False)
    request = ListRequest(
        filter=_filter(fields, message, parent, frozenset(states)),
        page_size=fields.number("page_size", message.page_size, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE,
        page_token=fields.text("page_token", message.page_token, MAX_PAGE_TOKEN_LENGTH),
        whose=fields.whose(message),
    )
    fields.check()
    return request


def _filter(
    fields: Fields,
    message: v1.CancelRunsRequest | v1.ListRunsRequest | v1.WatchRunsRequest,
    parent_run_id: str = "",
    states: frozenset[RunState] = frozenset(),
) -> RunFilter:
    return RunFilter(
        session_id=fields.run_id("session_id", message.session_id, required=False),
        user_id=fields.user_id("user_id", message.user_id),
        runnable=fields.runnable("runnable", message.runnable),
        parent_run_id=parent_run_id,
        states=states,
        labels=fields.labels("labels", message.labels),
    )


# --- writing, for clients


def wait_message(request: WaitRequest) -> v1.WaitRunRequest:
    """Writes WaitRunRequest."""
    timeout = None if request.timeout is None else duration(request.timeout)
    return v1.WaitRunRequest(run_id=request.run_id, timeout=timeout, **_whose(request.whose))


def watch_list_message(request: WatchListRequest) -> v1.WatchRunsRequest:
    """Writes WatchRunsRequest."""
    matching = request.filter
    return v1.WatchRunsRequest(
        session_id=matching.session_id,
        user_id=matching.user_id,
        runnable=matching.runnable,
        parent_run_id=matching.parent_run_id,
        labels=dict(matching.labels),
        after=request.after,
        **_whose(request.whose),
    )


def run_token_message(request: RunTokenRequest) -> v1.CreateRunTokenRequest:
    """Writes CreateRunTokenRequest."""
    return v1.CreateRunTokenRequest(
        run_id=request.run_id,
        lifetime=duration(request.lifetime),
        watch_only=request.watch_only,
        **_whose(request.whose),
    )


def cancel_message(request: CancelRequest) -> v1.CancelRunRequest:
    """Writes CancelRunRequest."""
    grace = request.grace_period
    return v1.CancelRunRequest(
        run_id=request.run_id,
        reason=request.reason,
        mode=CANCEL_MODE.numbers[request.mode],
        grace_period=None if grace is None else duration(grace),
        wait=duration(request.wait) if request.wait else None,
        before_start=request.before_start,
        cause=CANCEL_CAUSE.numbers[request.cause],
        **_whose(request.whose),
    )


def continue_message(request: ContinueRequest) -> v1.ContinueRunRequest:
    """Writes ContinueRunRequest."""
    return v1.ContinueRunRequest(
        run_id=request.run_id,
        decisions=[
            v1.Decision(
                tool_call_id=made.tool_call_id,
                approved=made.approved,
                answer=made.answer,
                note=made.note,
            )
            for made in request.decisions
        ],
        **_whose(request.whose),
    )


def cancel_many_message(request: CancelManyRequest) -> v1.CancelRunsRequest:
    """Writes CancelRunsRequest.

    Raises:
        InvalidArgument: `max_affected` is 0, which the message would turn into the default.
    """
    fields = Fields()
    if not request.max_affected:
        fields.wrong("max_affected", "must be more than 0")
    fields.check()
    matching = request.filter
    return v1.CancelRunsRequest(
        session_id=matching.session_id,
        user_id=matching.user_id,
        runnable=matching.runnable,
        labels=dict(matching.labels),
        reason=request.reason,
        mode=CANCEL_MODE.numbers[request.mode],
        validate_only=request.validate_only,
        max_affected=request.max_affected,
        **_whose(request.whose),
    )


def list_message(request: ListRequest) -> v1.ListRunsRequest:
    """Writes ListRunsRequest."""
    matching = request.filter
    return v1.ListRunsRequest(
        session_id=matching.session_id,
        user_id=matching.user_id,
        runnable=matching.runnable,
        parent_run_id=matching.parent_run_id,
        states=[RUN_STATE.numbers[state] for state in sorted(matching.states)],
        labels=dict(matching.labels),
        page_size=request.page_size,
        page_token=request.page_token,
        **_whose(request.whose),
    )


def _whose(whose: Reach) -> dict[str, Any]:
    return {"tenant": whose.tenant, "owner": whose.owner}


def erase_message(request: EraseRequest) -> v1.EraseRunsRequest:
    """Writes EraseRunsRequest."""
    return v1.EraseRunsRequest(
        user_id=request.user_id,
        session_id=request.session_id,
        validate_only=request.validate_only,
        **_whose(request.whose),
    )
