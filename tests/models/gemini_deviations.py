"""The rows of Google's generateContent."""
# ruff: noqa: E501  # a table: one row, one line

from typing import Any

from tests.models.deviations import (
    BOTH,
    CALLS,
    ERROR,
    FILTER,
    LENGTH,
    ONE,
    OSLO,
    OTHER,
    ROME,
    Fails,
    Means,
    Row,
    framed,
    row,
)
from tests.models.misbehaving import HOLD, Reply


def said(*parts: Any, finish: Any = None, **fields: Any) -> dict[str, Any]:
    candidate = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    candidate |= {"finishReason": finish} if finish is not None else {}
    return {"candidates": [candidate], **fields}


def text(value: Any, **fields: Any) -> dict[str, Any]:
    return {"text": value, **fields}


def call(city: str = "Rome", **fields: Any) -> dict[str, Any]:
    return {"functionCall": {"name": "weather", "args": {"city": city}, **fields}}


def count(sent: Any, spent: Any, **fields: Any) -> dict[str, Any]:
    return {"usageMetadata": {"promptTokenCount": sent, "candidatesTokenCount": spent, **fields}}


END = {"candidates": [{"finishReason": "STOP", "index": 0}]}
HI = said(text("hi"))
CALLED = Means(calls=ONE, reason=CALLS)

ROWS: list[Row] = [
    *framed([said(text("hell")), said(text("o")), END], "hello"),
    row("the end with the text", [said(text("hi"), finish="STOP")], Means("hi")),
    row("the end with an empty part", [HI, said(text(""), finish="STOP")], Means("hi")),
    row("a list as the old endpoint has it", [Reply(200, [HI, END])], Means("hi")),
    row("JSON instead of a stream", [Reply(200, said(text("hi"), finish="STOP", **count(3, 4)))], Means("hi", tokens=(3, 4))),
    row("names of protobuf", [HI, {"candidates": [{"finish_reason": "STOP"}], "usage_metadata": {"prompt_token_count": 3, "candidates_token_count": 4}}], Means("hi", tokens=(3, 4))),
    row("no candidates", [{"modelVersion": "x"}, HI, END], Means("hi")),
    row("null candidates", [{"candidates": None}, HI, END], Means("hi")),
    row("a null candidate", [{"candidates": [None]}, HI, END], Means("hi")),
    row("no content", [{"candidates": [{"index": 0}]}, HI, END], Means("hi")),
    row("null content", [{"candidates": [{"content": None}]}, HI, END], Means("hi")),
    row("null parts", [{"candidates": [{"content": {"parts": None}}]}, HI, END], Means("hi")),
    row("a null part", [said(None, text("hi")), END], Means("hi")),
    row("parts that are an object", [{"candidates": [{"content": {"parts": text("hi")}}]}, END], Means("hi")),
    row("parts that are text", [{"candidates": [{"content": {"parts": ["h", "i"]}}]}, END], Means("hi")),
    row("content that is text", [{"candidates": [{"content": "hi"}]}, END], Means("hi")),
    row("text that is null", [said(text(None)), HI, END], Means("hi")),
    row("text that is a number", [said(text(42)), END], Means("42")),
    row("a part that nobody knows", [said({"executableCode": {"code": "1"}}, text("hi")), END], Means("hi")),
    row("a second candidate", [HI, {"candidates": [{"index": 1, "content": {"parts": [text("no")]}}]}, END], Means("hi")),
    row("halves of an emoji", [said(text("a\ud83d")), said(text("\ude00")), END], Means("a😀")),
    row("a thought", [said(text("hm", thought=True), text("hi")), END], Means("hi", "hm")),
    row("a signature goes back where it stood", [said(text("h", thought=True)), said(text("m", thought=True)), said({**call(), "thoughtSignature": "s"}), END],
        Means("", "hm", ONE, CALLS, kept=[text("hm", thought=True), {**call(), "thoughtSignature": "s"}])),
    # calls
    row("a call", [said(call()), END], CALLED),
    row("args that are null", [said({"functionCall": {"name": "now", "args": None}}), END], Means(calls=(("now", "{}"),), reason=CALLS)),
    row("no args", [said({"functionCall": {"name": "now"}}), END], Means(calls=(("now", "{}"),), reason=CALLS)),
    row("args that are text", [said({"functionCall": {"name": "weather", "args": ROME}}), END], CALLED),
    row("two calls", [said(call(), call("Oslo")), END], Means(calls=BOTH, reason=CALLS)),
    row("two calls in two frames", [said(call()), said({"functionCall": {"name": "weather", "args": OSLO}}), END], Means(calls=BOTH, reason=CALLS)),
    row("two calls with ids", [said(call(id="a"), call("Oslo", id="b")), END], Means(calls=BOTH, reason=CALLS)),
    row("two calls with one id", [said(call(id="a"), call("Oslo", id="a")), END], Means(calls=BOTH, reason=CALLS)),
    row("a call that is said again", [said(call(id="a")), said(call(id="a"), finish="STOP")], CALLED),
    row("a function call that is null", [said({"functionCall": None}, text("hi")), END], Means("hi")),
    # ends
    *(row(f"finish reason {word!r}", [HI, said(finish=word)], Means("hi", reason=reason)) for word, reason in (
        ("MAX_TOKENS", LENGTH), ("SAFETY", FILTER), ("RECITATION", FILTER), ("PROHIBITED_CONTENT", FILTER), ("MALFORMED_FUNCTION_CALL", ERROR), ("BECAUSE", OTHER),
        ("IMAGE_PROHIBITED_CONTENT", FILTER), ("IMAGE_RECITATION", FILTER), ("MODEL_ARMOR", FILTER), ("MALFORMED_RESPONSE", ERROR), ("TOO_MANY_TOOL_CALLS", ERROR), ("MISSING_THOUGHT_SIGNATURE", ERROR),
    )),
    row("an unspecified reason, then one", [said(text("hi"), finish="FINISH_REASON_UNSPECIFIED"), END, HOLD], Means("hi")),
    row("a prompt that is blocked", [{"promptFeedback": {"blockReason": "SAFETY"}, **count(3, None)}], Means(reason=FILTER, tokens=(3, 0))),
    row("an error in the stream", [HI, {"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}], Fails("overloaded", 503, text="hi")),
    # usage
    row("a running sum", [said(text("h"), **count(3, 1)), said(text("i"), finish="STOP", **count(3, 2))], Means("hi", tokens=(3, 2))),
    row("thoughts count", [HI, {**END, **count(3, 4, thoughtsTokenCount=5)}], Means("hi", tokens=(3, 9))),
    row("usage of nulls, text and below 0", [HI, {**END, **count("3", -4, thoughtsTokenCount=None)}], Means("hi", tokens=(0, 0))),
    row("usage that is a list", [HI, {**END, "usageMetadata": [1]}], Means("hi", tokens=(0, 0))),
]  # fmt: skip

ROWS += [
    row("a block reason of 0", [{"promptFeedback": {"blockReason": 0}}, HI, END], Means("hi")),
    row("a name with its namespace", [said({"functionCall": {"name": "default_api.weather", "args": {"city": "Rome"}}}), END], CALLED),
    row("a name with its namespace and a colon", [said({"functionCall": {"name": "default_api:weather", "args": {"city": "Rome"}}}), END], CALLED),
    row("empty content, and a call that is malformed", [{"candidates": [{"content": {}, "finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "print("}], "usageMetadata": {"promptTokenCount": 9}}], Means(reason=ERROR, tokens=(9, 0))),
    row("within a response", [{"response": HI}, {"response": END}], Means("hi")),
    row("another API", [{"choices": [{"delta": {"content": "hi"}}]}, "[DONE]"], Fails("no answer of this API")),
    row("a thought that says so in words", [said(text("hm", thought="true"), text("hi")), END], Means("hi", "hm")),
    row("calls that are a list", [said({"functionCall": [{"name": "weather", "args": {"city": "Rome"}}]}), END], CALLED),
    row("arguments in pieces", [said({"functionCall": {"name": "weather", "willContinue": True}}), said({"functionCall": {"partialArgs": [{"jsonPath": "$.city", "stringValue": "Rome"}]}}), END], Fails("streamFunctionCallArguments")),
    row("finish reason 1", [said(text("hi"), finish=1)], Means("hi")),
    row("finish reason 2", [said(text("hi"), finish=2)], Means("hi", reason=LENGTH)),
    row("finish reason 3", [said(text("hi"), finish=3)], Means("hi", reason=FILTER)),
]  # fmt: skip
