"""The table of deviations: what a server sends, and what a model is to make of it.

One row is one deviation of one kind. `test_deviations` holds every model to its rows, over a real
connection; a new deviation is a new row.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pullcord.run.finish import FinishReason

from tests.models.misbehaving import COMMENTS, HOLD, RESET, Piece, Reply


@dataclass(frozen=True)
class Means:
    """The answer that it is."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[tuple[str, str], ...] = ()
    reason: FinishReason = FinishReason.STOP
    tokens: tuple[int, int] | None = None
    """Input and output; None: it does not matter here."""
    kept: Any = None
    extra: Mapping[str, Any] | None = None
    """Of the first call."""


@dataclass(frozen=True)
class Fails:
    """The ModelError that it is."""

    words: str
    """A part of its words."""
    status: int | None = None
    text: str = ""
    """What was said before."""
    without: str = ""
    """What must not be in its words."""


@dataclass(frozen=True)
class Row:
    """One deviation."""

    name: str
    pieces: tuple[Piece, ...]
    is_: Means | Fails


def row(name: str, pieces: Sequence[Piece], is_: Means | Fails) -> Row:
    return Row(name, tuple(pieces), is_)


STOP, CALLS, LENGTH = FinishReason.STOP, FinishReason.TOOL_CALLS, FinishReason.LENGTH
FILTER, REFUSAL = FinishReason.CONTENT_FILTER, FinishReason.REFUSAL
ERROR, OTHER = FinishReason.ERROR, FinishReason.OTHER
DONE = "[DONE]"
ROME, OSLO = '{"city": "Rome"}', '{"city": "Oslo"}'
ONE, BOTH = (("weather", ROME),), (("weather", ROME), ("weather", OSLO))

# What no protocol has of its own: frames, connections, errors.


def framed(whole: Sequence[Piece], text: str) -> list[Row]:
    """Deviations of the stream, given the frames of an answer that says `text`."""
    said = Means(text)
    lines = b"".join(b"data: %b\n\n" % json.dumps(frame).encode() for frame in whole)
    glued = lines.replace(b"\n\n", b"")
    failing = "the model's provider"
    return [
        row("as it should be", whole, said),
        row("comments before, between and after", [b": a\n\n", *_between(whole, b": b\n\n")], said),
        row("retry:", [b"retry: 3000\n\n", *whole], said),
        row("id: alone", [b"id: 7\n\n", *whole], said),
        row("data: without data", [b"data:\n\n", *_between(whole, b"data: \n\n")], said),
        row("an event's name without data", [b"event: ping\n\n", *whole], said),
        row("a comment after an id", [b"id: 1\n: ping\n\n", *whole], said),
        row("CRLF", [lines.replace(b"\n", b"\r\n")], said),
        row("CR", [lines.replace(b"\n", b"\r")], said),
        row("CRLF cut in its middle", _cut(lines.replace(b"\n", b"\r\n"), b"\r"), said),
        row("byte by byte", [lines[i : i + 1] for i in range(len(lines))], said),
        row("a byte order mark", [b"\xef\xbb\xbf", *whole], said),
        row("no blank after the colon", [lines.replace(b"data: ", b"data:")], said),
        row("no empty line between frames", [lines.replace(b"\n\n", b"\n")], said),
        row("JSON without data:, line by line", [lines.replace(b"data: ", b"")], said),
        row("blanks before data:", [lines.replace(b"data:", b"  data:")], said),
        row("DATA: in capitals", [lines.replace(b"data:", b"DATA:")], said),
        row("data: twice", [lines.replace(b"data:", b"data: data:")], said),
        row("frames glued together", [glued + b"\n\n"], said),
        row(
            "JSON glued together",
            [b"data: " + glued.replace(b"data: ", b"")],
            said,
        ),
        row("glued together with [DONE]", [glued + b"data: [DONE]\n\n"], said),
        row("null as data", ["null", *whole], said),
        row("an empty object as data", [{}, *whole], said),
        row("open after [DONE]", [*whole, DONE, HOLD], said),
        row("open after its end", [*whole, HOLD], said),
        row("open after its end, without the last line end", [lines.rstrip(b"\n"), HOLD], said),
        row("comments after its end", [*whole, COMMENTS], said),
        row("torn after its end", [*whole, RESET], said),
        row("twice [DONE]", [*whole, DONE, DONE], said),
        row("[DONE] in small letters", [*whole, b"data:[done]\n\n", HOLD], said),
        row("no JSON", ["{", *whole], Fails(f"{failing} sent something that is not JSON: {{")),
        row("text as a frame", ["quota gone"], Fails("quota gone")),
        row("JSON text as a frame", ['"quota gone"'], Fails("quota gone")),
        row("HTML as a stream", [b"<html><body>log in</body></html>"], Fails("log in")),
        row("text instead of a stream", [Reply(200, b"upstream is gone")], Fails("upstream")),
        row("nothing", [], Fails("broke off")),
        row(
            "JSON that is no answer",
            [Reply(200, {"status": "x", "why": "quota gone"})],
            Fails("quota gone"),
        ),
        row("an empty body", [Reply(200, b"")], Fails("broke off")),
        row("only [DONE]", [DONE], Means()),
        row("torn at once", [b": x\n\n", RESET], Fails("connection")),
        row("torn in its middle", [whole[0], RESET], Fails("connection", text=text[:4])),
        row("ended in its middle", [whole[0]], Fails("broke off", text=text[:4])),
        row("endless depth", ["[" * 100_000], Fails("not JSON")),
        row("a number of 5,000 digits", ['{"choices": ' + "9" * 5000 + "}"], Fails("not JSON")),
        *_errors(whole[0], text[:4]),
        *_filtered(whole[0], text[:4]),
    ]


def _between(whole: Sequence[Piece], piece: bytes) -> list[Piece]:
    return [part for frame in whole for part in (frame, piece)]


def _cut(data: bytes, after: bytes) -> list[Piece]:
    parts = data.split(after)
    return [part + after for part in parts[:-1]] + [parts[-1]]


_WORDS = {
    "error.message": {"error": {"message": "quota gone", "type": "x", "code": "y"}},
    "error as text": {"error": "quota gone"},
    "error with null": {"error": {"message": None, "detail": "quota gone"}},
    "error within error": {"error": {"error": {"message": "quota gone"}}},
    "detail": {"detail": "quota gone"},
    "detail as a list": {"detail": [{"loc": ["body", "x"], "msg": "quota gone", "type": "t"}]},
    "message": {"object": "error", "message": "quota gone", "code": 400},
    "errors": {"errors": [{"message": "quota gone"}]},
    "msg": {"code": 1234, "msg": "quota gone"},
    "a list": [{"error": {"code": 400, "message": "quota gone", "status": "INVALID"}}],
    "behind a gateway": {
        "error": {"message": "Provider returned error", "metadata": {"raw": "quota gone"}}
    },
}


_FILTERS: dict[str, tuple[int, Any]] = {
    "Azure": (
        400,
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering a policy.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {
                    "code": "ResponsibleAIPolicyViolation",
                    "content_filter_result": {"hate": {"filtered": True, "severity": "high"}},
                },
            }
        },
    ),
    "Azure, by innererror alone": (
        400,
        {"error": {"message": "no", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
    ),
    "Azure, behind a gateway": (
        400,
        {"statusCode": 400, "message": "triggering Azure OpenAI's content management policy."},
    ),
    "OpenAI": (400, {"error": {"message": "Invalid prompt: flagged", "code": "invalid_prompt"}}),
    "Anthropic": (
        400,
        {
            "type": "error",
            "error": {
                "type": "invalid_request_error",
                "message": "Output blocked by content filtering policy",
            },
        },
    ),
    "Vertex AI": (
        400,
        [
            {
                "error": {
                    "code": 400,
                    "message": "The prompt contains words that violate Google's Responsible AI "
                    "practices.",
                    "status": "INVALID_ARGUMENT",
                }
            }
        ],
    ),
    "OpenRouter": (
        403,
        {
            "error": {
                "code": 403,
                "message": "It requires moderation on X. Your input was flagged for 'violence'.",
                "metadata": {"reasons": ["violence"], "flagged_input": "…"},
            }
        },
    ),
    "LiteLLM": (
        400,
        {"error": {"message": "litellm.ContentPolicyViolationError: no", "code": "400"}},
    ),
    "DeepSeek": (400, {"error": {"message": "Content Exists Risk", "code": "invalid_request"}}),
    "Alibaba": (400, {"error": {"message": "no", "code": "data_inspection_failed"}}),
}


def _filtered(begun: Piece, text: str) -> list[Row]:
    """A filter that says so by an error is no failure of the provider's."""
    rows = []
    for name, (status, body) in _FILTERS.items():
        rows += [
            row(f"{status}, filtered by {name}", [Reply(status, body)], Means(reason=FILTER)),
            row(f"200, filtered by {name}", [Reply(200, body)], Means(reason=FILTER)),
            row(f"filtered in the stream by {name}", [begun, body], Means(text, reason=FILTER)),
        ]
    return rows


def _errors(begun: Piece, text: str) -> list[Row]:
    rows = []
    for name, body in _WORDS.items():
        rows += [
            row(f"400, {name}", [Reply(400, body)], Fails("400: ", 400)),
            row(f"400 with words, {name}", [Reply(400, body)], Fails("quota gone", 400)),
            row(f"200, {name}", [Reply(200, body)], Fails("quota gone")),
            row(f"in the stream, {name}", [begun, body], Fails("quota gone", text=text)),
        ]
    return [
        *rows,
        row("404 as text", [Reply(404, b"no such model")], Fails("404: no such model", 404)),
        row("422 as JSON text", [Reply(422, "quota gone")], Fails("quota gone", 422)),
        row("500 as HTML", [Reply(500, b"<html><b>gone</b></html>")], Fails("500: gone", 500)),
        row("500 with nothing", [Reply(500, b"")], Fails("500: it gave no reason", 500)),
        row("500 with null", [Reply(500, None)], Fails("500: it gave no reason", 500)),
        row("400 that is no UTF-8", [Reply(400, b"caf\xe9 closed")], Fails("closed", 400)),
        row("400 in broken gzip", [Reply(400, b"x", {"content-encoding": "gzip"})], Fails("400")),
        row("200 in broken gzip", [Reply(200, b"x", {"content-encoding": "gzip"})], Fails("the")),
        row(
            "400 whose body never ends",
            [Reply(400, b'{"error": "quota gone"}', {"content-length": "999"})],
            Fails("quota gone", 400),
        ),
        row("event: error", [b"event: error\ndata: quota gone\n\n"], Fails("quota gone")),
        row(
            "event: error with JSON",
            [b'event: error\ndata: {"message": "quota gone"}\n\n'],
            Fails("quota gone"),
        ),
        row(
            "401 that repeats the key",
            [Reply(401, {"error": "wrong key sk-abcdef1234"})],
            Fails("credentials", 401, without="sk-"),
        ),
        row(
            "400 that repeats a key and an address",
            [Reply(400, {"error": "no: Bearer sk-live-4711abcd at http://10.0.0.7:8080/v1 in x"})],
            Fails("in x", 400, without="4711"),
        ),
        row(
            "400 with an inner address",
            [Reply(400, {"error": "vllm.internal:8000 and 10.0.0.7 and org-AbCdEfGh1234"})],
            Fails("and", 400, without="vllm"),
        ),
        row(
            "an error in the stream that repeats the key",
            [begun, {"error": {"message": "key not-a-key-but-secret is over its quota"}}],
            Fails("over its quota", text=text, without="secret"),
        ),
    ]
