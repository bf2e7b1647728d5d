"""The rows of Anthropic's Messages API."""
# ruff: noqa: E501  # a table: one row, one line

from typing import Any

from tests.models.deviations import (
    BOTH,
    CALLS,
    FILTER,
    LENGTH,
    ONE,
    OSLO,
    OTHER,
    REFUSAL,
    ROME,
    Fails,
    Means,
    Row,
    framed,
    row,
)
from tests.models.misbehaving import HOLD, Piece, Reply


def event(type: str, **fields: Any) -> dict[str, Any]:
    return {"type": type, **fields}


def start(sent: Any = 3, said: Any = 1, **usage: Any) -> dict[str, Any]:
    usage = {"input_tokens": sent, "output_tokens": said, **usage}
    return event("message_start", message={"id": "m", "content": [], "usage": usage})


def block(index: Any = 0, type: str = "text", **fields: Any) -> dict[str, Any]:
    return event("content_block_start", index=index, content_block={"type": type, **fields})


def delta(index: Any = 0, **fields: Any) -> dict[str, Any]:
    return event("content_block_delta", index=index, delta=fields)


def said(text: Any, index: Any = 0) -> dict[str, Any]:
    return delta(index, type="text_delta", text=text)


def end(reason: Any = "end_turn", tokens: Any = 4) -> list[Piece]:
    changed = {"stop_reason": reason, "stop_sequence": None}
    return [event("message_delta", delta=changed, usage={"output_tokens": tokens}), STOPPED]


def call(index: Any = 0, arguments: Any = ROME, **fields: Any) -> list[Piece]:
    begun = block(
        index, "tool_use", **{"id": f"t{index}", "name": "weather", "input": {}, **fields}
    )
    return [begun, delta(index, type="input_json_delta", partial_json=arguments)]


def whole(*content: Any, **fields: Any) -> dict[str, Any]:
    return event("message", content=list(content), stop_reason="end_turn", **fields)


STOPPED = event("message_stop")
HI = [start(), block(text=""), said("hi")]
CALLED = Means(calls=ONE, reason=CALLS)
SIGNED = [
    block(0, "thinking", thinking="", signature=""),
    delta(0, type="thinking_delta", thinking="h"),
    delta(0, type="thinking_delta", thinking="m"),
    delta(0, type="signature_delta", signature="s1"),
]

ROWS: list[Row] = [
    *framed([said("hell"), said("o"), *end()], "hello"),
    row("every event", [start(), event("ping"), *HI[1:], event("content_block_stop", index=0), *end()], Means("hi", tokens=(3, 4))),
    row("no start of the message", [said("hi"), *end()], Means("hi")),
    row("text in the block's start", [block(text="hi"), *end()], Means("hi")),
    row("no message_stop", [*HI, end()[0], HOLD], Means("hi")),
    row("no message_delta", [*HI, STOPPED], Means("hi")),
    row("the type in the event's name alone", [b'event: content_block_delta\ndata: {"index": 0, "delta": {"text": "hi"}}\n\n', b'event: message_stop\ndata: {"x": 1}\n\n'], Means("hi")),
    row("no delta", [event("content_block_delta", index=0), *HI, *end()], Means("hi")),
    row("a null delta", [event("content_block_delta", index=0, delta=None), *HI, *end()], Means("hi")),
    row("text that is null", [said(None), *HI, *end()], Means("hi")),
    row("text in parts", [said([{"type": "text", "text": "hi"}]), *end()], Means("hi")),
    row("no index", [block(None, text=""), said("h", None), said("i", None), *end()], Means("hi")),
    row("a block that nobody knows", [block(0, "server_tool_use", id="x", name="web"), delta(0, type="input_json_delta", partial_json="{}"), said("hi", 1), *end()], Means("hi")),
    row("a null message", [event("message_start", message=None), *HI, *end()], Means("hi")),
    row("events that nobody knows", [event("wonder"), *HI, *end()], Means("hi")),
    row("halves of an emoji in two deltas", [said("a\ud83d"), said("\ude00"), *end()], Means("a😀")),
    row("JSON instead of a stream", [Reply(200, whole({"type": "text", "text": "hi"}, usage={"input_tokens": 3, "output_tokens": 4}))], Means("hi", tokens=(3, 4))),
    row("JSON with a call", [Reply(200, whole({"type": "tool_use", "id": "t", "name": "weather", "input": {"city": "Rome"}}))], CALLED),
    row("thinking", [*SIGNED, said("hi", 1), *end()], Means("hi", "hm", kept=[{"type": "thinking", "signature": "s1", "thinking": "hm"}, {"type": "text", "text": "hi"}])),
    row("thinking that is hidden", [block(0, "redacted_thinking", data="d"), said("hi", 1), *end()], Means("hi", kept=[{"type": "redacted_thinking", "data": "d"}, {"type": "text", "text": "hi"}])),
    row("thinking without a signature", [block(0, "thinking", thinking="hm"), said("hi", 1), *end()], Means("hi", "hm", kept=[{"type": "text", "text": "hi"}])),
    # calls
    row("a call", [*call(), *end("tool_use")], CALLED),
    row("a call in pieces", [block(0, "tool_use", id="t", name="weather", input={}), delta(0, partial_json='{"city":'), delta(0, partial_json=' "Rome"}'), *end("tool_use")], CALLED),
    row("a call with its input at once", [block(0, "tool_use", id="t", name="weather", input={"city": "Rome"}), *end("tool_use")], CALLED),
    row("input that is null", [block(0, "tool_use", id="t", name="now", input=None), *end("tool_use")], Means(calls=(("now", "{}"),), reason=CALLS)),
    row("input of nothing", [block(0, "tool_use", id="t", name="now", input={}), delta(0, partial_json=""), *end("tool_use")], Means(calls=(("now", "{}"),), reason=CALLS)),
    row("input that is an object in its delta", [block(0, "tool_use", id="t", name="weather", input={}), delta(0, partial_json={"city": "Rome"}), *end("tool_use")], CALLED),
    row("two calls", [*call(0), *call(1, OSLO), *end("tool_use")], Means(calls=BOTH, reason=CALLS)),
    row("two calls with one index", [*call(0, id="a"), *call(0, OSLO, id="b"), *end("tool_use")], Means(calls=BOTH, reason=CALLS)),
    row("two calls without an index", [*call(None, id="a"), *call(None, OSLO, id="b"), *end("tool_use")], Means(calls=BOTH, reason=CALLS)),
    row("no id", [*call(0, id=None), *end("tool_use")], CALLED),
    row("two calls with one id", [*call(0, id="a"), *call(1, OSLO, id="a"), *end("tool_use")], Means(calls=BOTH, reason=CALLS)),
    row("text and a call", [said("so"), *call(1), *end("tool_use")], Means("so", calls=ONE, reason=CALLS)),
    row("a call whose end says end_turn", [*call(), *end()], CALLED),
    row("cut off in a call", [*call(0, '{"ci'), *end("max_tokens")], Means(calls=(("weather", '{"ci'),), reason=LENGTH)),
    # ends
    *(row(f"stop reason {word!r}", [*HI, *end(word)], Means("hi", reason=reason)) for word, reason in (
        ("stop_sequence", "stop"), ("max_tokens", LENGTH), ("model_context_window_exceeded", LENGTH), ("refusal", REFUSAL), ("pause_turn", OTHER), ("content_filter", FILTER), ({}, "stop"), (None, "stop"),
    )),
    row("an error event", [*HI, event("error", error={"type": "overloaded_error", "message": "Overloaded"})], Fails("Overloaded", 503, text="hi")),
    # usage
    row("usage of the cache", [start(3, 1, cache_read_input_tokens=5, cache_creation_input_tokens=7), *HI[1:], *end()], Means("hi", tokens=(15, 4))),
    row("usage of nulls", [start(None, None, cache_read_input_tokens=None), *HI[1:], *end(tokens=None)], Means("hi", tokens=(0, 0))),
    row("usage of text, and below 0", [start("3", -1), *HI[1:], *end(tokens="4")], Means("hi", tokens=(0, 0))),
    row("usage at the end alone", [*HI[1:], event("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 3, "output_tokens": 4})], Means("hi", tokens=(3, 4))),
]  # fmt: skip

ROWS += [
    row("a stop reason beside the delta", [*HI, event("message_delta", stop_reason="max_tokens"), STOPPED], Means("hi", reason=LENGTH)),
    row("a stop reason in message_stop", [*HI, event("message_stop", stop_reason="max_tokens")], Means("hi", reason=LENGTH)),
    row("JSON without a type", [Reply(200, {"id": "m", "role": "assistant", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn"})], Means("hi")),
    row("a delta that is text", [event("content_block_delta", index=0, delta="hi"), *end()], Means("hi")),
    row("a name with its namespace", [*call(name="functions.weather"), *end("tool_use")], CALLED),
    row("an index of -1, and no start", [start(), said("hi", -1), *end()], Means("hi")),
    row("empty arguments within the text", [start(), block(0, text=""), delta(0, type="input_json_delta", partial_json=""), said("h"), delta(0, type="input_json_delta", partial_json=""), said("i"), *end()], Means("hi")),
    row("content that is text", [event("message", content="hi", stop_reason="end_turn")], Means("hi")),
    row("another API", [{"choices": [{"delta": {"content": "hi"}}]}, "[DONE]"], Fails("no answer of this API")),
    row("a tool of the provider's", [start(), block(0, "server_tool_use", id="s", name="web_search", input={}), said("hi", 1), *end()], Means("hi")),
    row("input at once, and again in pieces", [start(), *call(input={"city": "Rome"}), *end("tool_use")], Means(calls=ONE, reason=CALLS)),
    row("a block that begins twice", [start(), block(0), block(0), said("hi"), *end()], Means("hi")),
]  # fmt: skip
