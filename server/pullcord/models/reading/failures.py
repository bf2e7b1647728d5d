"""Providers' failures, in any shape: the words, the status, how long to wait.

The words are made fit for callers here: no key, no address, no account. They are never logged, and
whether callers see them at all is a setting. Whether to ask again is not decided here.
"""

import email.utils
import json
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pullcord.models.base import ModelError
from pullcord.models.reading.text import one_line
from pullcord.run.redaction import redacted

_MAX_WORDS = 1000
_MAX_DEPTH = 6
_PASSING = frozenset({408, 409, 429})

_WORDS = ("error", "message", "detail", "details", "msg", "errors", "error_message")
_MORE_WORDS = ("error_description", "description", "reason", "title", "text")
_CODES = ("code", "status", "type")

# Statuses that some servers only name. Whole words of `code`, `type` or `status`.
_NAMED_STATUS = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "rate_limited": 429,
    "too_many_requests": 429,
    "resource_exhausted": 429,
    "server_error": 500,
    "internal_error": 500,
    "internal_server_error": 500,
    "internal": 500,
    "api_error": 500,
    "overloaded": 503,
    "overloaded_error": 503,
    "service_unavailable": 503,
    "unavailable": 503,
    "engine_overloaded_error": 503,
    "timeout_error": 504,
    "deadline_exceeded": 504,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
}


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as a provider reported it."""

    words: str = ""
    """In the provider's words, as they came."""
    status: int | None = None
    retry_after: float | None = None
    """Seconds that it wants us to wait."""
    is_withheld: bool = False
    """A filter refused what was asked, or withheld the answer."""


class Withheld(ModelError):
    """A failure that is a filter's: the answer ends with it, and asking again is of no use."""

    def __init__(self, words: str, provider: str, status: int | None) -> None:
        super().__init__(
            f"the model's provider withheld the answer: {words}", provider=provider, status=status
        )
        self.words = words


def failure_in(body: Any, headers: Mapping[str, str] | None = None) -> Failure:
    """The failure in a body of any shape."""
    told = retry_after(headers or {})
    wait = _delay_in(body) if told is None else told
    return Failure(words_of(body), status_of(body), wait, is_withheld(body))


def parsed_body(content: bytes) -> Any:
    """The JSON of an error's body, or its text; tags are taken out of HTML."""
    text = content.decode("utf-8", "replace").strip()
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        if text.lower().startswith(("<!doctype", "<html")):
            return " ".join(re.sub(r"(?s)<(style|script).*?</\1>|<[^>]*>", " ", text).split())
        return text


def words_of(value: Any, depth: int = 0) -> str:
    """The words in an error of any shape; empty where there are none."""
    if isinstance(value, str):
        return value.strip()
    if depth > _MAX_DEPTH:
        return ""
    if isinstance(value, list | tuple):
        found = [words for item in value[:5] if (words := words_of(item, depth + 1))]
        return "; ".join(found)
    if not isinstance(value, Mapping):
        return ""
    for name in (*_WORDS, *_MORE_WORDS):
        words = words_of(value.get(name), depth + 1)
        if words:
            return _with_details(words, value)
    named = [str(value[name]) for name in _CODES if isinstance(value.get(name), str | int)]
    return " ".join(dict.fromkeys(named))


def _with_details(words: str, value: Mapping[str, Any]) -> str:
    place = value.get("loc")  # as FastAPI names the wrong field
    if isinstance(place, list):
        words = f"{'.'.join(map(str, place[:8]))}: {words}"
    behind = value.get("metadata")  # as a gateway passes on its provider's words
    if isinstance(behind, Mapping) and isinstance(raw := behind.get("raw"), str) and raw.strip():
        words = f"{words}: {raw.strip()}"
    return words


def status_of(value: Any, depth: int = 0) -> int | None:
    """The HTTP status that an error names, wherever it stands."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, list | tuple):
        return next((s for item in value[:5] if (s := status_of(item, depth + 1))), None)
    if not isinstance(value, Mapping):
        return None
    for name in ("status_code", "code", "status", "http_code", "type"):
        status = _status(value.get(name))
        if status is not None:
            return status
    return status_of(value.get("error"), depth + 1)


def _status(value: Any) -> int | None:
    if isinstance(value, str):
        if value.lower() in _NAMED_STATUS:
            return _NAMED_STATUS[value.lower()]
        value = int(value) if re.fullmatch(r"[45]\d\d", value) else None
    is_status = isinstance(value, int) and not isinstance(value, bool) and 400 <= value < 600
    return value if is_status else None


def is_withheld(value: Any, depth: int = 0) -> bool:
    """Whether an error is a filter's, by its codes or, where there are none, by its words."""
    if depth > _MAX_DEPTH:
        return False
    if isinstance(value, str):
        return _FILTER_WORDS.search(value[: 8 * _MAX_WORDS]) is not None
    if isinstance(value, list | tuple):
        return any(is_withheld(item, depth + 1) for item in value[:5])
    if not isinstance(value, Mapping):
        return False
    codes = (value.get(name) for name in _CODES)
    if "flagged_input" in value or any(
        isinstance(code, str) and code.lower() in _FILTER_CODES for code in codes
    ):
        return True
    return any(is_withheld(value.get(name), depth + 1) for name in (*_WORDS, *_BEHIND))


# How filters name themselves, in `code`, `type` or `status`.
_FILTER_CODES = frozenset(
    {
        "content_filter",  # OpenAI, Azure, Moonshot
        "responsibleaipolicyviolation",  # Azure, in innererror
        "content_policy_violation",  # OpenAI, LiteLLM
        "contentpolicyviolationerror",
        "invalid_prompt",  # OpenAI's reasoning models
        "data_inspection_failed",  # Alibaba
        "datainspectionfailed",
        "content_policy",
        "moderation",
        "moderation_error",
        "1301",  # Zhipu
    }
)
_BEHIND = ("innererror", "inner_error", "metadata", "provider_specific_fields", "raw")
_FILTER_WORDS = re.compile(
    r"(?i)blocked by (?:our |the )?content[- ]filter"  # Anthropic
    r"|content management policy"  # Azure, behind a gateway that keeps the words alone
    r"|ContentPolicyViolationError"  # LiteLLM
    r"|responsible ai practices"  # Vertex AI
    r"|content exists risk"  # DeepSeek
    r"|content violates usage guidelines"  # xAI
    r"|flagged as potentially violating"  # OpenAI
    r"|considered high risk"  # Moonshot
    r"|input data may contain inappropriate content"  # Alibaba
    r"|requires moderation .{0,40}your input was flagged"  # OpenRouter
)


def model_error(
    how: str, failure: Failure, provider: str, secrets: Iterable[str] = (), *, passes: bool = False
) -> ModelError:
    """The error for a failure that a provider reported; `how` says by which means."""
    status = failure.status
    if failure.is_withheld:
        return Withheld(fit(failure.words, secrets), provider, status)
    words = fit(failure.words, secrets) or "it gave no reason"
    if status in (401, 403):  # these texts repeat parts of the key
        words = "it does not accept the credentials"
    return ModelError(
        how,
        said=words,
        provider=provider,
        status=status,
        may_pass=passes or (status is not None and (status in _PASSING or status >= 500)),
        retry_after=failure.retry_after,
    )


def fit(words: str, secrets: Iterable[str] = ()) -> str:
    """A provider's words fit for callers: in one line, without keys, addresses and accounts."""
    text = redacted(_without(words[: 8 * _MAX_WORDS], secrets))
    for pattern, instead in _HIDDEN:
        text = pattern.sub(instead, text)
    return one_line(text, _MAX_WORDS)


def _without(words: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        if len(secret) > 4:
            words = words.replace(secret, "***")
    return words


_HIDDEN = [
    (re.compile(r"(?i)\b[a-z][a-z0-9+.-]*://[^\s\"'<>)\]}]+"), "<address>"),
    (re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"), "<account>"),
    (re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b"), "<address>"),
    (re.compile(r"\[?(?:[0-9a-fA-F]{1,4}:){3,}[0-9a-fA-F:]*[0-9a-fA-F]\]?(?::\d+)?"), "<address>"),
    (re.compile(r"(?i)\blocalhost(?::\d+)?\b"), "<address>"),
    (re.compile(r"(?i)\b[a-z0-9-]+(?:\.[a-z0-9-]+)*:\d{4,5}\b"), "<address>"),
    (
        re.compile(r"(?i)\b[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:internal|local|svc|lan|intranet|corp)\b"
                   r"(?:\.[a-z0-9-]+)*"),
        "<address>",
    ),
    (re.compile(r"\b(?:org|proj|acct|user|tenant)[-_][A-Za-z0-9]{8,}\b"), "<account>"),
    (re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])\w{32,}\b"), "***"),
]  # fmt: skip


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds to wait that the headers name, as a number or a date."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        told = headers.get(name)
        if told is None:
            continue
        try:
            seconds = float(told) * unit
        except ValueError:
            seconds = _until(told)
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return None


def _until(date: str) -> float:
    try:
        return email.utils.parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError, OSError, TypeError):
        return math.nan


def _delay_in(value: Any, depth: int = 0) -> float | None:
    """The seconds to wait that an error's body names."""
    if depth > _MAX_DEPTH:
        return None
    if isinstance(value, list | tuple):
        items: Iterable[Any] = value[:10]
    elif isinstance(value, Mapping):
        for name, unit in (("retry_after_ms", 0.001), ("retry_after", 1.0), ("retryDelay", 1.0)):
            told = value.get(name)
            if isinstance(told, str) and re.fullmatch(r"\d{1,9}(\.\d{1,9})?s?", told):
                told = float(told.rstrip("s"))
            if isinstance(told, int | float) and not isinstance(told, bool) and told == told:
                return max(0.0, min(float(told), 1e9) * unit)
        items = (value.get(name) for name in ("error", "details", "metadata"))
    else:
        return None
    return next((d for item in items if (d := _delay_in(item, depth + 1)) is not None), None)
