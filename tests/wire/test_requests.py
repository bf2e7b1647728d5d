"""The requests about runs that exist."""

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.errors import InvalidArgument
from pullcord.run.record import Decision, RunFilter
from pullcord.run.requests import (
    ASKED_CAUSES,
    CancelManyRequest,
    CancelRequest,
    ContinueRequest,
    ListRequest,
    WaitRequest,
    WatchRequest,
)
from pullcord.run.state import RunState
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire import requests

from tests.wire.strategies import ids, labels, names, texts, user_ids, waits


def wrong_fields(parse: Callable[[Any], object], message: object) -> list[str]:
    with pytest.raises(InvalidArgument) as caught:
        parse(message)
    return sorted(violation.field for violation in caught.value.violations)


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        (requests.parse_get, v1.GetRunRequest),
        (requests.parse_watch, v1.WatchRunRequest),
        (requests.parse_wait, v1.WaitRunRequest),
        (requests.parse_cancel, v1.CancelRunRequest),
        (lambda message: requests.parse_continue(message, 10), v1.ContinueRunRequest),
    ],
)
@pytest.mark.parametrize("run_id", ["", "no spaces", "x" * 129, "ü"])
def test_a_run_is_named_by_a_well_formed_id(parse: Any, message: Any, run_id: str) -> None:
    """A missing or malformed run_id is refused, whatever is asked."""
    assert wrong_fields(parse, message(run_id=run_id)) == ["run_id"]


@given(ids, st.none() | waits)
def test_a_wait_comes_back_as_it_was(run_id: str, timeout: float | None) -> None:
    """A wait of 0 asks at once, and is not a wait without end."""
    request = WaitRequest(run_id, timeout)
    assert requests.parse_wait(requests.wait_message(request)) == request


@given(
    st.builds(
        CancelRequest,
        ids,
        texts,
        st.sampled_from(CancelMode),
        st.none() | waits,
        waits,
        cause=st.sampled_from(sorted(ASKED_CAUSES)),
    )
)
def test_a_cancel_comes_back_as_it_was(request: CancelRequest) -> None:
    """A grace period of 0 is not the server's default."""
    assert requests.parse_cancel(requests.cancel_message(request)) == request


@pytest.mark.parametrize("cause", sorted(set(CancelCause) - ASKED_CAUSES))
def test_nobody_can_cancel_in_the_servers_name(cause: CancelCause) -> None:
    """Of the causes a caller may name USER and PARENT; the others are refused."""
    message = requests.cancel_message(CancelRequest("run-1", cause=cause))
    assert wrong_fields(requests.parse_cancel, message) == ["cause"]


def test_a_cancel_without_a_cause_is_its_users() -> None:
    """A client that says no cause, such as an older one, cancels with cause USER."""
    assert requests.parse_cancel(v1.CancelRunRequest(run_id="run-1")).cause is CancelCause.USER


@given(
    ids,
    st.lists(
        st.builds(Decision, ids, st.booleans(), st.none() | texts, texts),
        max_size=4,
        unique_by=lambda decision: decision.tool_call_id,
    ),
)
def test_decisions_come_back_as_they_were(run_id: str, decisions: list[Decision]) -> None:
    """What was decided arrives as it was meant; no answer and an empty one are not the same."""
    request = ContinueRequest(run_id, tuple(decisions))
    message = requests.continue_message(request)
    message = v1.ContinueRunRequest.FromString(message.SerializeToString())
    assert requests.parse_continue(message, 1000) == request


filters = st.builds(
    RunFilter,
    session_id=st.just("") | ids,
    user_id=st.just("") | user_ids,
    runnable=st.just("") | names,
    labels=labels,
)


@given(filters, texts, st.booleans(), st.integers(1, 2**31 - 1))
def test_a_cancel_of_many_comes_back_as_it_was(
    matching: RunFilter, reason: str, validate_only: bool, most: int
) -> None:
    """A cancel by filter says what the client meant, or is refused as empty."""
    request = CancelManyRequest(matching, reason, CancelMode.IMMEDIATE, validate_only, most)
    message = requests.cancel_many_message(request)
    if matching == RunFilter():
        names_ = ["labels", "runnable", "session_id", "user_id"]
        assert wrong_fields(requests.parse_cancel_many, message) == names_
    else:
        assert requests.parse_cancel_many(message) == request


@given(filters, st.frozensets(st.sampled_from(RunState)), st.integers(1, 1000), texts)
def test_a_list_comes_back_as_it_was(
    matching: RunFilter, states: frozenset[RunState], page_size: int, token: str
) -> None:
    """A page is asked for by filter, size and token."""
    parent = RunFilter(
        matching.session_id, matching.user_id, matching.runnable, "p", states, matching.labels
    )
    request = ListRequest(parent, page_size, token)
    assert requests.parse_list(requests.list_message(request)) == request


def test_what_is_unset_has_its_default() -> None:
    """Unset is GRACEFUL, the default grace, no wait, 100 a page, 1000 affected."""
    assert requests.parse_cancel(v1.CancelRunRequest(run_id="r")) == CancelRequest("r")
    assert requests.parse_list(v1.ListRunsRequest()) == ListRequest()
    assert requests.parse_watch(v1.WatchRunRequest(run_id="r")) == WatchRequest("r")
    many = requests.parse_cancel_many(v1.CancelRunsRequest(session_id="s"))
    assert many == CancelManyRequest(RunFilter(session_id="s"), max_affected=1000)


def test_every_wrong_field_of_a_watch_is_named() -> None:
    """A negative sequence is refused together with a bad id."""
    message = v1.WatchRunRequest(run_id="!", after_sequence=-1)
    assert wrong_fields(requests.parse_watch, message) == ["after_sequence", "run_id"]


def test_every_wrong_field_of_a_wait_is_named() -> None:
    """A negative time to wait is refused together with a bad id."""
    message = v1.WaitRunRequest(run_id="!", timeout=Duration(seconds=-1))
    assert wrong_fields(requests.parse_wait, message) == ["run_id", "timeout"]


def test_every_wrong_field_of_a_cancel_is_named() -> None:
    """Reason, mode, grace period and wait each have their bounds."""
    message = v1.CancelRunRequest(
        run_id="!",
        reason="x" * 1025,
        mode=9,  # type: ignore[arg-type]
        grace_period=Duration(seconds=-1),
        wait=Duration(nanos=2_000_000_000),
    )
    assert wrong_fields(requests.parse_cancel, message) == [
        "grace_period",
        "mode",
        "reason",
        "run_id",
        "wait",
    ]


def test_every_wrong_field_of_a_cancel_of_many_is_named() -> None:
    """A filter's fields have the forms they have in a spec."""
    message = v1.CancelRunsRequest(
        session_id="!",
        user_id="*",
        runnable="x",
        labels={"": ""},
        reason="x" * 1025,
        mode=9,  # type: ignore[arg-type]
        max_affected=-1,
    )
    assert wrong_fields(requests.parse_cancel_many, message) == [
        "labels['']",
        "max_affected",
        "mode",
        "reason",
        "runnable",
        "session_id",
        "user_id",
    ]


def test_every_wrong_field_of_a_list_is_named() -> None:
    """A page has at most 1000 runs, and states are stated."""
    message = v1.ListRunsRequest(
        session_id="!",
        parent_run_id="!",
        states=[1, 0, 99],  # type: ignore[list-item]
        page_size=1001,
        page_token="x" * 1025,
    )
    assert wrong_fields(requests.parse_list, message) == [
        "page_size",
        "page_token",
        "parent_run_id",
        "session_id",
        "states[1]",
        "states[2]",
    ]


def test_none_affected_is_not_sent_as_the_default() -> None:
    """A client refuses max_affected 0, which the proto would read as 1000."""
    with pytest.raises(InvalidArgument, match="max_affected"):
        requests.cancel_many_message(CancelManyRequest(RunFilter("s"), max_affected=0))
