"""The one table of errors: each refusal's class, status code, reason and google.rpc details.

The server's side writes a status from an error, the client's side makes the same error of it
again. A run's own failure is no error of a call, and never comes here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    QuotaFailure,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from pullcord.run import errors
from pullcord.run.errors import CallFailed, ConnectionLost, DeadlineExceeded, PullcordError
from pullcord.run.plain import valid
from pullcord.run.state import RunState
from pullcord.v1 import error_pb2
from pullcord.wire.values import duration, seconds_of

DOMAIN = "pullcord"
MAX_DETAILS_BYTES = 4096
"""Of one status. gRPC takes 8 KiB of metadata by default, and these are base64 on the wire."""
MAX_MESSAGE_LENGTH = 512

E = TypeVar("E", bound=PullcordError)


@dataclass(frozen=True, slots=True)
class Told:
    """The details of an error that a status carries beside its code and reason."""

    metadata: Mapping[str, str] = field(default_factory=dict)
    message: str = ""
    bad_request: BadRequest | None = None
    retry_after: float | None = None
    """Seconds."""
    resource: tuple[str, str] | None = None
    """Its type and name."""


@dataclass(frozen=True, slots=True)
class Row(Generic[E]):
    """One kind of error, in both directions."""

    error: type[E]
    code: grpc.StatusCode
    tell: Callable[[E], Told]
    hear: Callable[[Told], E]


def _bad_request(error: errors.InvalidArgument) -> Told:
    """As many violations as fit; the last one then says how many more there are."""
    message = BadRequest()
    room = MAX_DETAILS_BYTES - 1024
    for count, violation in enumerate(error.violations):
        part = message.field_violations.add(
            field=violation.field, description=violation.description
        )
        room -= part.ByteSize() + 4
        if room < 0:
            part.field = ""
            part.description = f"{len(error.violations) - count} more fields are wrong"
            break
    return Told(bad_request=message)


def _violations(told: Told) -> errors.InvalidArgument:
    found = told.bad_request.field_violations if told.bad_request is not None else []
    return errors.InvalidArgument(*(errors.Violation(v.field, v.description) for v in found))


def _not_paused(error: errors.RunNotPaused) -> Told:
    said = {"run_id": error.run_id, "state": error.state.name}
    if error.repeated:
        said["repeated"] = "true"
    if error.waiting:
        said["waiting"] = ",".join(error.waiting)
    return Told(said)


def _retry_after(told: Told) -> float:
    return 1.0 if told.retry_after is None else told.retry_after


TABLE: dict[str, Row[Any]] = {
    "INVALID_ARGUMENT": Row(
        errors.InvalidArgument, grpc.StatusCode.INVALID_ARGUMENT, _bad_request, _violations
    ),
    "RUN_NOT_FOUND": Row(
        errors.RunNotFound,
        grpc.StatusCode.NOT_FOUND,
        lambda e: Told({"run_id": e.run_id}, resource=("run", e.run_id)),
        lambda told: errors.RunNotFound(told.metadata["run_id"]),
    ),
    "RUNNABLE_NOT_FOUND": Row(
        errors.RunnableNotFound,
        grpc.StatusCode.NOT_FOUND,
        lambda e: Told({"runnable": e.runnable}, resource=("runnable", e.runnable)),
        lambda told: errors.RunnableNotFound(told.metadata["runnable"]),
    ),
    "RUN_EXISTS": Row(
        errors.RunExists,
        grpc.StatusCode.ALREADY_EXISTS,
        lambda e: Told({"run_id": e.run_id}, resource=("run", e.run_id)),
        lambda told: errors.RunExists(told.metadata["run_id"]),
    ),
    "SERVER_BUSY": Row(
        errors.ServerBusy,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        lambda e: Told(retry_after=e.retry_after),
        lambda told: errors.ServerBusy(told.message, _retry_after(told)),
    ),
    "DRAINING": Row(
        errors.Draining,
        grpc.StatusCode.UNAVAILABLE,
        lambda e: Told(retry_after=e.retry_after),
        lambda told: errors.Draining(_retry_after(told)),
    ),
    "STORE_UNAVAILABLE": Row(
        errors.StoreUnavailable,
        grpc.StatusCode.UNAVAILABLE,
        lambda e: Told({"stopping": "true"} if e.stopping else {}),
        lambda told: errors.StoreUnavailable(told.message, told.metadata.get("stopping") == "true"),
    ),
    "SESSION_BUSY": Row(
        errors.SessionBusy,
        grpc.StatusCode.ABORTED,
        lambda e: Told(
            {"session_id": e.session_id, "run_id": e.run_id}, resource=("session", e.session_id)
        ),
        lambda told: errors.SessionBusy(told.metadata["session_id"], told.metadata["run_id"]),
    ),
    "TOO_MANY_AFFECTED": Row(
        errors.TooManyAffected,
        grpc.StatusCode.FAILED_PRECONDITION,
        lambda e: Told({"matched": str(e.matched), "allowed": str(e.allowed)}),
        lambda told: errors.TooManyAffected(
            int(told.metadata["matched"]), int(told.metadata["allowed"])
        ),
    ),
    "RUN_NOT_PAUSED": Row(
        errors.RunNotPaused,
        grpc.StatusCode.FAILED_PRECONDITION,
        _not_paused,
        lambda told: errors.RunNotPaused(
            told.metadata["run_id"],
            # A state of a newer server is one that we do not know, and not PAUSED.
            RunState.__members__.get(told.metadata["state"], RunState.RUNNING),
            told.metadata.get("repeated") == "true",
            tuple(filter(None, told.metadata.get("waiting", "").split(","))),
        ),
    ),
    "UNAUTHENTICATED": Row(
        errors.Unauthenticated,
        grpc.StatusCode.UNAUTHENTICATED,
        lambda e: Told(),
        lambda told: errors.Unauthenticated(),
    ),
    "PERMISSION_DENIED": Row(
        errors.PermissionDenied,
        grpc.StatusCode.PERMISSION_DENIED,
        lambda e: Told({"verb": e.verb, "what": e.what}),
        lambda told: errors.PermissionDenied(
            told.metadata["verb"], told.metadata["what"], told.message
        ),
    ),
    "QUOTA_EXCEEDED": Row(
        errors.QuotaExceeded,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        lambda e: Told({"quota": e.quota, "subject": e.subject}, retry_after=e.retry_after),
        lambda told: errors.QuotaExceeded(
            told.metadata["quota"], told.metadata["subject"], told.message, _retry_after(told)
        ),
    ),
    "CREDENTIAL_EXPIRED": Row(
        errors.CredentialExpired,
        grpc.StatusCode.UNAUTHENTICATED,
        lambda e: Told({"run_id": e.run_id}, resource=("run", e.run_id)),
        lambda told: errors.CredentialExpired(told.metadata["run_id"]),
    ),
    "INTERNAL": Row(
        errors.ServerFault,
        grpc.StatusCode.INTERNAL,
        lambda e: Told({"error_id": e.error_id} if e.error_id else {}),
        lambda told: errors.ServerFault(told.metadata.get("error_id", "")),
    ),
}
"""By the reason that travels: the name in ErrorReason without its prefix."""

_REASONS = {row.error: reason for reason, row in TABLE.items()}
_UNTOLD = {f"ERROR_REASON_{reason}" for reason in ("UNSPECIFIED", *TABLE)} ^ set(
    error_pb2.ErrorReason.keys()
)
if _UNTOLD:
    raise TypeError(f"the table of errors and ErrorReason differ in {', '.join(sorted(_UNTOLD))}")


def reason_of(error: PullcordError) -> str:
    """The reason that travels; an error without one of its own is our fault."""
    return _REASONS.get(type(error), "INTERNAL")


def code_of(error: PullcordError) -> str:
    """The name of the code of the status that it becomes, such as `NOT_FOUND`."""
    code: grpc.StatusCode = TABLE[reason_of(error)].code
    return code.name


def told_of(error: PullcordError) -> Told:
    """The details of an error that a status carries beside its code and reason."""
    told: Told = TABLE[reason_of(error)].tell(error)
    return told


# --- the server's side


def to_status(error: Exception) -> grpc.Status:
    """The status of a refused call: its code, details and trailing metadata."""
    return rpc_status.to_status(status_message(error))


def status_message(error: Exception) -> Status:
    """The same as a message, for transports that have other ways to send it.

    What is no refusal of ours is our own fault: INTERNAL, without its words.
    """
    reason = _REASONS.get(type(error)) if isinstance(error, PullcordError) else None
    if reason is None:
        return status_message(errors.ServerFault())
    row = TABLE[reason]
    told: Told = row.tell(error)
    status = Status(code=row.code.value[0], message=valid(str(error))[:MAX_MESSAGE_LENGTH])
    info = ErrorInfo(reason=reason, domain=DOMAIN, metadata=told.metadata)
    _attach(status, info)
    if told.bad_request is not None:
        _attach(status, told.bad_request)
    if isinstance(error, errors.QuotaExceeded):
        violation = QuotaFailure.Violation(subject=error.subject, description=error.quota)
        _attach(status, QuotaFailure(violations=[violation]))
    if told.retry_after is not None:
        _attach(status, RetryInfo(retry_delay=duration(told.retry_after)))
    if told.resource is not None:
        kind, name = told.resource
        _attach(status, ResourceInfo(resource_type=kind, resource_name=name))
    return status


def _attach(status: Status, detail: Message) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


# --- the client's side


def from_rpc_error(error: grpc.RpcError, run_id: str = "") -> PullcordError:
    """The error that the server meant, or what is known of a call that failed without words.

    `run_id` is the run that the call was about, if it is known.
    """
    if not isinstance(error, (grpc.Call, grpc.aio.AioRpcError)):
        return CallFailed("UNKNOWN", str(error))
    code: grpc.StatusCode = error.code()
    words = error.details() or ""
    heard = _hear(error)
    if heard is not None:
        return heard
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded(words, run_id)
    if code is grpc.StatusCode.UNAVAILABLE or _is_broken_stream(code, words):
        return ConnectionLost(words, run_id)
    return CallFailed(code.name, words)


def _is_broken_stream(code: grpc.StatusCode, words: str) -> bool:
    """Whether HTTP/2 ended the call and no application did: gRPC has no code for just that."""
    broken = ("RST_STREAM", "Stream removed", "GOAWAY", "Connection reset")
    return code in {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN} and any(
        sign in words for sign in broken
    )


def _hear(call: Any) -> PullcordError | None:
    try:
        status: Status | None = rpc_status.from_call(call)
    except (ValueError, DecodeError):  # somebody on the way rewrote the status
        return None
    if status is None:
        return None
    info, bad_request, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        for part in (info, bad_request, retry):
            detail.Unpack(part)  # does nothing where the detail is of another type
    row = TABLE.get(info.reason) if info.domain == DOMAIN else None
    if row is None:
        return None
    told = Told(
        metadata=dict(info.metadata),
        message=status.message,
        bad_request=bad_request,
        retry_after=seconds_of(retry.retry_delay) if retry.HasField("retry_delay") else None,
    )
    try:
        heard: PullcordError = row.hear(told)
    except (KeyError, ValueError):  # a newer server tells it in another way
        return None
    return heard
