"""The one table of errors."""

from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st
from pullcord.run import errors
from pullcord.run.errors import PullcordError, Violation
from pullcord.run.state import RunState
from pullcord.wire.errors import MAX_DETAILS_BYTES, TABLE, from_rpc_error, to_status

from tests.wire.strategies import ids, names, texts, waits

refusals = st.one_of(
    st.lists(st.builds(Violation, texts, texts), min_size=1, max_size=9).map(
        lambda violations: errors.InvalidArgument(*violations)
    ),
    st.builds(errors.RunNotFound, ids),
    st.builds(errors.RunnableNotFound, names),
    st.builds(errors.RunExists, ids),
    st.builds(errors.ServerBusy, texts, waits),
    st.builds(errors.Draining, waits),
    st.builds(errors.StoreUnavailable, texts),
    st.builds(errors.SessionBusy, ids, ids),
    st.builds(errors.RunNotPaused, ids, st.sampled_from(RunState), st.booleans()),
    st.builds(errors.TooManyAffected, st.integers(0), st.integers(0)),
)


class Failed(grpc.RpcError, grpc.Call):
    """A call that ended with this status."""

    def __init__(self, code: grpc.StatusCode, details: str, trailing_metadata: Any = ()) -> None:
        super().__init__()
        self._ended = code, details, trailing_metadata

    def code(self) -> grpc.StatusCode:
        return self._ended[0]

    def details(self) -> str:
        return self._ended[1]

    def trailing_metadata(self) -> Any:
        return self._ended[2]


for _name in grpc.Call.__abstractmethods__ - vars(Failed).keys():
    setattr(Failed, _name, None)
Failed.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]  # a call that has ended


@given(refusals)
def test_a_refusal_comes_back_as_it_was(error: PullcordError) -> None:
    """The client raises the class that the server raised, with the same fields."""
    heard = from_rpc_error(Failed(*to_status(error)))  # type: ignore[misc]  # a named tuple
    assert type(heard) is type(error)
    assert vars(heard) == vars(error)


@pytest.mark.parametrize("reason", TABLE)
def test_a_refusal_carries_one_error_info(reason: str) -> None:
    """Every refusal has one ErrorInfo with its reason and the domain `pullcord`."""
    made: dict[str, PullcordError] = {
        "INVALID_ARGUMENT": errors.InvalidArgument(Violation("a", "b")),
        "RUN_NOT_FOUND": errors.RunNotFound("r"),
        "RUNNABLE_NOT_FOUND": errors.RunnableNotFound("agents/a"),
        "RUN_EXISTS": errors.RunExists("r"),
        "SERVER_BUSY": errors.ServerBusy("full"),
        "DRAINING": errors.Draining(),
        "STORE_UNAVAILABLE": errors.StoreUnavailable(),
        "RUN_NOT_PAUSED": errors.RunNotPaused("r", RunState.RUNNING, True),
        "SESSION_BUSY": errors.SessionBusy("s", "r"),
        "TOO_MANY_AFFECTED": errors.TooManyAffected(3, 2),
        "UNAUTHENTICATED": errors.Unauthenticated("a secret reason"),
        "PERMISSION_DENIED": errors.PermissionDenied("cancel", "run 'r'"),
        "QUOTA_EXCEEDED": errors.QuotaExceeded("starts_per_minute", "caller", "enough", 2.0),
        "CREDENTIAL_EXPIRED": errors.CredentialExpired("r"),
        "INTERNAL": errors.ServerFault(),
    }
    status = Status.FromString(to_status(made[reason]).trailing_metadata[0][1])  # type: ignore[index,arg-type]
    infos = [detail for detail in status.details if detail.Is(_INFO)]
    info = error_details_pb2.ErrorInfo()
    assert len(infos) == 1
    infos[0].Unpack(info)
    assert (info.reason, info.domain) == (reason, "pullcord")


_INFO: Any = error_details_pb2.ErrorInfo.DESCRIPTOR


def test_many_violations_fit_into_a_status() -> None:
    """A status stays small enough for gRPC's metadata, and says how many violations it left out."""
    violations = [Violation(f"labels[{n}]", "x" * 200) for n in range(500)]
    status = to_status(errors.InvalidArgument(*violations))
    assert len(status.trailing_metadata[0][1]) <= MAX_DETAILS_BYTES  # type: ignore[index]
    heard = from_rpc_error(Failed(*status))  # type: ignore[misc]
    assert isinstance(heard, errors.InvalidArgument)
    *kept, last = heard.violations
    assert tuple(kept) == tuple(violations[: len(kept)])
    assert last.description == f"{500 - len(kept)} more fields are wrong"


def test_our_own_fault_is_internal_and_says_nothing() -> None:
    """An exception that is no refusal does not leak its words."""
    status = to_status(ValueError("password=hunter2"))
    assert status.code is grpc.StatusCode.INTERNAL
    assert "hunter2" not in repr(status)


@pytest.mark.parametrize(
    ("code", "details", "expected"),
    [
        (grpc.StatusCode.UNAVAILABLE, "no route", errors.ConnectionLost),
        (grpc.StatusCode.INTERNAL, "Received RST_STREAM with error 2", errors.ConnectionLost),
        (grpc.StatusCode.UNKNOWN, "Stream removed", errors.ConnectionLost),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceeded),
        (grpc.StatusCode.PERMISSION_DENIED, "no", errors.CallFailed),
        (grpc.StatusCode.INTERNAL, "internal error", errors.CallFailed),
        (grpc.StatusCode.CANCELLED, "", errors.CallFailed),
    ],
)
def test_a_call_that_failed_without_details(
    code: grpc.StatusCode, details: str, expected: type[errors.CallFailed]
) -> None:
    """Without details of ours, the status code says whether the line broke or the time was up."""
    heard = from_rpc_error(Failed(code, details), "r")
    assert type(heard) is expected
    assert isinstance(heard, errors.CallFailed)
    assert heard.message == details
    if expected is not errors.CallFailed:
        assert heard.run_id == "r"  # type: ignore[attr-defined]
    else:
        assert heard.code == code.name


def test_a_reason_of_a_newer_server_is_a_failed_call() -> None:
    """A reason that the client does not know, or somebody else's, becomes CallFailed."""
    for domain, reason in (("pullcord", "NEW"), ("example.com", "RUN_NOT_FOUND")):
        packed = AnyMessage()
        packed.Pack(error_details_pb2.ErrorInfo(domain=domain, reason=reason))
        status = rpc_status.to_status(Status(code=5, message="words", details=[packed]))
        heard = from_rpc_error(Failed(*status))
        assert isinstance(heard, errors.CallFailed)
        assert (heard.code, heard.message) == ("NOT_FOUND", "words")


def test_a_status_that_was_rewritten_on_the_way_is_a_failed_call() -> None:
    """Details that do not fit their status are not believed."""
    _, _, metadata = to_status(errors.RunNotFound("r"))  # type: ignore[misc]
    for trailing in (metadata, (("grpc-status-details-bin", b"\xff"),)):
        heard = from_rpc_error(Failed(grpc.StatusCode.PERMISSION_DENIED, "no", trailing))
        assert isinstance(heard, errors.CallFailed)
        assert heard.code == "PERMISSION_DENIED"
