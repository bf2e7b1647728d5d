"""Why something was refused, in A2A's words: the kinds of errors that it knows, and ours beside.

What A2A has a kind for gets that; anything else (no credential, no room, the server drains) is
said with our reason, and is a matter of the transport's own status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from a2a.types import InvalidParamsError, TaskNotFoundError, UnsupportedOperationError
from a2a.utils.errors import A2A_ERROR_MAPPING, JSON_RPC_ERROR_CODE_MAP, A2AError
from google.protobuf import json_format
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status

from pullcord.run.errors import (
    InvalidArgument,
    PullcordError,
    RunNotFound,
    RunNotPaused,
    Violation,
)
from pullcord.run.plain import valid
from pullcord.wire.errors import MAX_MESSAGE_LENGTH, status_message

DOMAIN = "a2a-protocol.org"
OTHER = -32000
"""The JSON-RPC code of what A2A has no kind for."""
_INTERNAL = -32603

_FIELDS = {
    "session_id": "message.contextId",
    "input": "message.parts",
    "input_data": "message.parts",
    "parts": "message.parts",
    "runnable": "tenant",
    "page_size": "pageSize",
    "page_token": "pageToken",
}
"""Fields of ours by the names that A2A has for them; of others, metadata has our own names."""
_OURS = {"reason", "mode", "grace_period", "wait"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refusal, for every binding."""

    status: Status
    """For gRPC, and the body of HTTP+JSON."""
    rpc_code: int
    http_status: int | None
    """None: what the status code stands for everywhere else."""

    @property
    def details(self) -> list[dict[str, Any]]:
        """The `data` of a JSON-RPC error."""
        return [json_format.MessageToDict(detail) for detail in self.status.details]


def refusal(error: PullcordError | A2AError) -> Refusal:
    """The refusal for an error."""
    known = error if isinstance(error, A2AError) else _known(error)
    if known is None:
        assert isinstance(error, PullcordError)
        said = status_message(error)
        return Refusal(said, _INTERNAL if said.code == Code.INTERNAL else OTHER, None)
    mapping = A2A_ERROR_MAPPING.get(type(known))
    code, http, reason = "INVALID_ARGUMENT", 400, "INVALID_REQUEST"  # what is no JSON
    if mapping is not None:
        code, http, reason = mapping.grpc_status, mapping.http_code, mapping.reason
    status = Status(code=Code.Value(code), message=valid(str(known))[:MAX_MESSAGE_LENGTH])
    status.details.add().Pack(ErrorInfo(reason=reason, domain=DOMAIN))
    if violations := _violations(error):
        status.details.add().Pack(BadRequest(field_violations=violations))
    return Refusal(status, JSON_RPC_ERROR_CODE_MAP.get(type(known), OTHER), http)


def _known(error: PullcordError) -> A2AError | None:
    match error:
        case RunNotFound():
            return TaskNotFoundError(str(error))
        case InvalidArgument(violations=violations):
            return InvalidParamsError("; ".join(str(_named(one)) for one in violations))
        case RunNotPaused():
            return UnsupportedOperationError(str(error))
    return None


def _violations(error: PullcordError | A2AError) -> list[BadRequest.FieldViolation]:
    if isinstance(error, InvalidArgument):
        wrong = [_named(one) for one in error.violations]
        return [BadRequest.FieldViolation(field=v.field, description=v.description) for v in wrong]
    found: Any = (error.data or {}).get("errors") if isinstance(error, A2AError) else None
    if not isinstance(found, list):
        return []
    said = [one for one in found if isinstance(one, Mapping)]
    return [
        BadRequest.FieldViolation(field=str(v["field"]), description=str(v["message"]))
        for v in said
    ]


def _named(violation: Violation) -> Violation:
    """A field of a spec as the caller knows it."""
    if violation.field.startswith(("message.", "metadata.")):
        return violation
    name = violation.field.removeprefix("spec.")
    bare = name.partition(".")[0].partition("[")[0]
    if bare in _FIELDS:
        name = _FIELDS[bare]
    elif bare == "decisions":
        name = f"message.parts[0].data.{name}"
    elif violation.field.startswith("spec.") or bare in _OURS:
        name = f"metadata.pullcord.{name}"
    return Violation(name, violation.description)
