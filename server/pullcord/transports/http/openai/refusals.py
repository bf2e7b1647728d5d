"""Refusals in OpenAI's shape, which are problems all the same: `error` is one more member.

A client of theirs sends a request again after 408, 409, 429 and 5xx, so what must not be tried
again says so in a header.
"""

import json
from collections.abc import Mapping

from pullcord.transports.http.messages import Answer
from pullcord.transports.http.problems import problem, renamed

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
_NAMES = {
    "labels": "metadata",
    "messages": "input",
    "parts": "input",
    "runnable": "model",
    "session_id": "conversation",
    "user_id": "user",
}
"""Fields of a run's spec by the names that OpenAI has for them."""
_CHAT_NAMES = {**_NAMES, **dict.fromkeys(("input", "parts", "messages"), "messages")}


def chat_refusal(error: Exception) -> Answer:
    """The same for chat completions, which have `messages` for the whole input."""
    return refusal(error, _CHAT_NAMES)


def refusal(error: Exception, names: Mapping[str, str] = _NAMES) -> Answer:
    """The answer that says why a request was refused."""
    answer = problem(renamed(error, names))
    said = json.loads(answer.body)
    fields = said.get("fields") or [{}]
    wrong = fields[0].get("field")
    words = said["detail"]
    if wrong is not None:
        words = f"{wrong} {fields[0].get('description', '')}".strip()
    said["error"] = {
        "message": words,
        "type": _TYPES.get(answer.status, "server_error"),
        "param": wrong,
        "code": said.get("reason"),
    }
    headers = list(answer.headers)
    if "retry_after" in said:
        headers.append(("retry-after-ms", str(round(1000 * said["retry_after"]))))
    elif answer.status not in (408, 429, 503):
        headers.append(("x-should-retry", "false"))
    return Answer(json.dumps(said).encode(), answer.status, "application/json", headers)
