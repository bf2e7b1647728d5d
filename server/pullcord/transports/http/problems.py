"""Answers refused requests by application/problem+json, with the reason of gRPC.

`detail` is always a string; the wrong fields stand beside it. The table of errors is in
`wire.errors`.
"""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from google.protobuf.message import Message
from google.rpc.code_pb2 import Code
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.transports.http.messages import Answer, Refused
from pullcord.wire.errors import status_message
from pullcord.wire.values import seconds_of

STATUS: Mapping[int, int] = {
    Code.INVALID_ARGUMENT: 400,
    Code.UNAUTHENTICATED: 401,
    Code.PERMISSION_DENIED: 403,
    Code.NOT_FOUND: 404,
    Code.ABORTED: 409,
    Code.ALREADY_EXISTS: 409,
    Code.FAILED_PRECONDITION: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNAVAILABLE: 503,
    Code.DEADLINE_EXCEEDED: 504,
}
"""The HTTP status of each status code; others: 500."""


def problem(error: Exception) -> Answer:
    """The answer that says why a request was refused. Never says the words of a foreign error."""
    if isinstance(error, Refused):
        return _answer(error.status, str(error), {"reason": error.reason}, error.headers)
    status = status_message(error)
    info, bad, retry = ErrorInfo(), BadRequest(), RetryInfo()
    details: list[Message] = [info, bad, retry]
    for packed in status.details:
        for part in details:
            packed.Unpack(part)
    more: dict[str, Any] = {"reason": info.reason}
    if info.metadata:
        more["metadata"] = dict(info.metadata)
    if bad.field_violations:
        more["fields"] = [
            {"field": violation.field, "description": violation.description}
            for violation in bad.field_violations
        ]
    headers: dict[str, str] = {}
    if retry.HasField("retry_delay"):
        more["retry_after"] = seconds_of(retry.retry_delay)
        headers["retry-after"] = str(max(1, round(more["retry_after"])))
    code = STATUS.get(status.code, 500)
    if code == 401:
        headers["www-authenticate"] = "Bearer"
    return _answer(code, status.message, more, headers)


def renamed(error: Exception, names: Mapping[str, str]) -> Exception:
    """The error with the fields of a run's spec as a surface calls them: `names` are those that
    have other names there."""
    if not isinstance(error, InvalidArgument):
        return error
    return InvalidArgument(
        *(Violation(_name(wrong.field, names), wrong.description) for wrong in error.violations)
    )


def _name(field: str, names: Mapping[str, str]) -> str:
    name = field.removeprefix("spec.")
    end = min((name.index(mark) for mark in ".[" if mark in name), default=len(name))
    return names.get(name[:end], name[:end]) + name[end:]


def _answer(
    status: int, detail: str, more: Mapping[str, Any], headers: Mapping[str, str]
) -> Answer:
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return Answer(
        json.dumps(body).encode(), status, "application/problem+json", tuple(headers.items())
    )
