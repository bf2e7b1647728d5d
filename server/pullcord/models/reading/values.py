"""Validated values of our own, made of whatever stands in a provider's field.

Each function takes any JSON value and never raises. A value that it cannot read becomes None or
empty, or is skipped.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any

from pullcord.models.reading.text import encodable, sendable
from pullcord.run.finish import FinishReason
from pullcord.run.usage import Usage

_MAX_DEPTH = 8
_DECODER = json.JSONDecoder()
_FENCE = re.compile(r"```\w*\s*\n(.*?)\n?```", re.DOTALL)
_NO_NAME = re.compile(r"[^A-Za-z0-9_-]")
_MOST = 2**40
"""More tokens than this no call has; it is a mistake of the provider's."""
_MAX_KEPT = 4 * 1024 * 1024


class Kind(Enum):
    """The kinds of text in an answer."""

    TEXT = "text"
    REASONING = "reasoning"
    REFUSAL = "refusal"


def mapping(value: Any) -> Mapping[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; an object alone is a list of one."""
    if isinstance(value, Mapping):
        return [value]
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []


def text(value: Any) -> str:
    """A text; a number is its text, and everything else none."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    return ""


def name(value: Any) -> str:
    """A text that names something: an id, a tool, a type."""
    return encodable(text(value)).strip()


def index(value: Any) -> int | None:
    """A place in a list, if it is one."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 9:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count(value: Any) -> int | None:
    """A whole number of tokens, if it is one."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _MOST:
        value = int(value)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST
    return value if is_count else None


def usage(told: Any) -> Usage | None:
    """The tokens that a provider reports, under the names of either protocol.

    `estimated` says that a count of 0 was not reported. None: no count was.
    """
    if not isinstance(told, Mapping):
        return None
    sent = _first(told, "prompt_tokens", "input_tokens")
    said = _first(told, "completion_tokens", "output_tokens")
    if not sent and not said:
        return None
    about_sent = mapping(told.get("prompt_tokens_details") or told.get("input_tokens_details"))
    about_said = mapping(told.get("completion_tokens_details") or told.get("output_tokens_details"))
    cached = _first(about_sent, "cached_tokens") or _first(told, "prompt_cache_hit_tokens") or 0
    reasoned = _first(about_said, "reasoning_tokens") or _first(told, "reasoning_tokens") or 0
    return Usage(
        input_tokens=sent or 0,
        output_tokens=said or 0,
        reasoning_tokens=min(reasoned, said or 0),
        cached_tokens=min(cached, sent or 0),
        estimated=not sent or not said,
    )


def _first(told: Mapping[str, Any], *names: str) -> int | None:
    return next((n for key in names if (n := count(told.get(key))) is not None), None)


def spoken(value: Any, kind: Kind = Kind.TEXT, depth: int = 0) -> Iterator[tuple[Kind, str]]:
    """The pieces in a field that is text, a list of parts, or one part."""
    if isinstance(value, str | int | float):
        if piece := text(value):
            yield kind, piece
    elif depth > _MAX_DEPTH:
        return
    elif isinstance(value, list):
        for part in value:
            yield from spoken(part, kind, depth + 1)
    elif isinstance(value, Mapping):
        type_ = text(value.get("type"))
        if "think" in type_ or "reason" in type_ or value.get("thought") is True:
            kind = Kind.REASONING
        elif "refusal" in type_:
            kind = Kind.REFUSAL
        for field in ("text", "thinking", "reasoning", "refusal", "summary", "content", "value"):
            if value.get(field):
                yield from spoken(value[field], kind, depth + 1)
                return


def arguments(value: Any) -> str:
    """A tool call's arguments, or a piece of them, as text."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return json.dumps(sendable(value), ensure_ascii=False)


def all_arguments(written: str) -> list[str]:
    """The arguments of a call that has been read to its end.

    They are several where a server has glued those of several calls together.
    """
    whole = whole_arguments(written)
    if not whole.startswith("{") or _json(whole) is not None:
        return [whole]
    found: list[str] = []
    position = 0
    while position < len(whole):
        try:
            value, end = _DECODER.raw_decode(whole, position)
        except (ValueError, RecursionError):
            return [whole]
        if not isinstance(value, Mapping):
            return [whole]
        found.append(whole[position:end])
        position = next((n for n in range(end, len(whole)) if not whole[n].isspace()), len(whole))
    return list(dict.fromkeys(found))


def whole_arguments(written: str) -> str:
    """The arguments of one call: JSON, if the model made no mistake."""
    written = encodable(written).strip()
    if fenced := _FENCE.fullmatch(written):
        written = fenced[1].strip()
    parsed = _json(written)
    if isinstance(parsed, str):  # encoded twice
        inner = parsed.strip()
        if isinstance(_json(inner), Mapping) or not inner:
            written, parsed = inner, _json(inner)
    if not written or (parsed is None and written == "null"):
        return "{}"
    if parsed is None and written.startswith("{}"):  # an empty object, then the real one
        rest = written[2:].strip()
        if isinstance(_json(rest), Mapping):
            return rest
    return written


def is_whole_object(written: str) -> bool:
    """Whether these arguments are one JSON object already."""
    return written.rstrip().endswith("}") and isinstance(_json(written), Mapping)


def sent_arguments(written: str) -> str:
    """A call's arguments as they can be sent back: always a JSON object, whatever was written."""
    if not isinstance(parsed := _json(written), Mapping):
        return "{}" if written.strip() in ("", "null") else json.dumps({"not_json": written})
    cleaned = sendable(parsed)
    if cleaned != parsed or not written.isascii():  # NaN, and halves of an emoji, also escaped
        return json.dumps(cleaned, ensure_ascii=False)
    return written


def sent_name(called: str) -> str:
    """A tool's name as it can be sent back, where the model asked for what cannot be a name."""
    return _NO_NAME.sub("_", called)[:64] or "unnamed"


def _json(written: str) -> Any:
    try:
        return json.loads(written)
    except (ValueError, RecursionError):
        return None


def kept(value: Any) -> Any:
    """A provider's own field, to be sent back as it is; None where that cannot be."""
    cleaned = sendable(value)
    try:
        return cleaned if len(json.dumps(cleaned)) <= _MAX_KEPT else None
    except (ValueError, RecursionError):
        return None


def merged(have: Any, more: Any) -> Any:
    """Two pieces of a provider's own field: texts and lists grow, else the last one counts."""
    if have is None or more is None:
        return more if have is None else have
    if isinstance(have, str) and isinstance(more, str):
        return have + more
    if isinstance(have, list) and isinstance(more, list):
        grown = list(have)
        for item in more:
            if grown and _continues(grown[-1], item):
                grown[-1] = _grown(grown[-1], item)
            else:
                grown.append(item)
        return grown
    if isinstance(have, Mapping) and isinstance(more, Mapping):
        return {**have, **more}
    return more


_GROWING = ("text", "summary", "data", "thinking", "signature")


def _continues(last: Any, item: Any) -> bool:
    """Whether an entry of a list is the next piece of the one before."""
    if not isinstance(last, Mapping) or not isinstance(item, Mapping):
        return False
    place = index(item.get("index"))
    return place is not None and place == last.get("index") and item.get("type") == last.get("type")


def _grown(last: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    grown = dict(last)
    for key, value in item.items():
        have = grown.get(key)
        both = isinstance(have, str) and isinstance(value, str)
        if both and key in _GROWING:
            grown[key] = have + value
        elif value is not None:
            grown[key] = value
    return grown


_REASONS = {
    FinishReason.STOP: "stop end_turn eos eos_token stop_sequence stop_token completed complete"
    " done finished end success",
    FinishReason.TOOL_CALLS: "tool_calls tool_call tool_use function_call function_calls tools",
    FinishReason.LENGTH: "length max_tokens max_output_tokens max_completion_tokens model_length"
    " max_length token_limit model_context_window_exceeded context_length_exceeded truncated",
    FinishReason.CONTENT_FILTER: "content_filter content_filtered safety prohibited_content"
    " blocklist spii recitation sensitive moderation blocked image_safety language model_armor"
    " image_prohibited_content image_recitation guardrail_intervened",
    FinishReason.REFUSAL: "refusal refused",
    FinishReason.ERROR: "error network_error failed failure insufficient_system_resource abort"
    " aborted cancelled canceled server_error timeout malformed_function_call unexpected_tool_call"
    " malformed_response too_many_tool_calls missing_thought_signature",
}
_REASON_OF = {word: reason for reason, words in _REASONS.items() for word in words.split()}


def reason(value: Any) -> tuple[FinishReason, str] | None:
    """Why an answer ended, and the provider's word for it; None: it has not."""
    word = name(value)
    if not word:
        return None
    return _REASON_OF.get(word.lower().replace("-", "_"), FinishReason.OTHER), word[:100]


_GRAVITY: Sequence[FinishReason] = (
    FinishReason.OTHER,
    FinishReason.STOP,
    FinishReason.TOOL_CALLS,
    FinishReason.LENGTH,
    FinishReason.CONTENT_FILTER,
    FinishReason.REFUSAL,
    FinishReason.ERROR,
)


def graver(one: FinishReason, other: FinishReason) -> FinishReason:
    """Of two reasons for one end, the one that says more of what is missing."""
    return max(one, other, key=_GRAVITY.index)
