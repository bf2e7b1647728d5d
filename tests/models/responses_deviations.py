"""The rows of the Responses API."""
# ruff: noqa: E501  # a table: one row, one line

from typing import Any

from tests.models.deviations import (
    BOTH,
    CALLS,
    DONE,
    ERROR,
    FILTER,
    LENGTH,
    ONE,
    OSLO,
    REFUSAL,
    ROME,
    Fails,
    Means,
    Row,
    framed,
    row,
)
from tests.models.misbehaving import HOLD, Reply


def event(type: str, **fields: Any) -> dict[str, Any]:
    return {"type": type, "sequence_number": 1, **fields}


def said(delta: Any, **fields: Any) -> dict[str, Any]:
    at = {"item_id": "m1", "output_index": 0, "content_index": 0}
    return event("response.output_text.delta", delta=delta, **{**at, **fields})


def response(status: str = "completed", output: Any = (), **fields: Any) -> dict[str, Any]:
    output = list(output) if isinstance(output, tuple) else output
    return {"id": "r", "object": "response", "status": status, "output": output, **fields}


def completed(output: Any = (), **fields: Any) -> dict[str, Any]:
    return event("response.completed", response=response(output=output, **fields))


def message(text: Any, **fields: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"type": "message", "id": "m1", "role": "assistant", "content": content, **fields}


def call(arguments: Any = ROME, name: Any = "weather", **fields: Any) -> dict[str, Any]:
    item = {"type": "function_call", "id": "f1", "call_id": "a", "status": "completed"}
    return {**item, "name": name, "arguments": arguments, **fields}


def done(item: Any, index: Any = 0) -> dict[str, Any]:
    return event("response.output_item.done", output_index=index, item=item)


def added(item: Any, index: Any = 0) -> dict[str, Any]:
    return event("response.output_item.added", output_index=index, item=item)


def pieces(delta: Any, **fields: Any) -> dict[str, Any]:
    at = {"item_id": "f1", "output_index": 0}
    return event("response.function_call_arguments.delta", delta=delta, **{**at, **fields})


END = completed()
CALLED = Means(calls=ONE, reason=CALLS)
THOUGHT = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"}  # fmt: skip

ITEMS = [
    row("text four times", [said("h"), said("i"), event("response.output_text.done", text="hi"), event("response.content_part.done", part={"type": "output_text", "text": "hi"}), done(message("hi")), completed((message("hi"),))], Means("hi")),
    row("text only at its end", [event("response.output_text.done", text="hi"), END], Means("hi")),
    row("text only in its part", [event("response.content_part.done", part={"type": "output_text", "text": "hi"}), END], Means("hi")),
    row("text only in its item", [done(message("hi")), END], Means("hi")),
    row("text only in the response", [completed((message("hi"),))], Means("hi")),
    row("text only in output_text", [completed(None, output_text="hi")], Means("hi")),
    row("half in deltas, whole in the response", [said("h"), completed((message("hi"),))], Means("hi")),
    row("two items, the second whole", [said("h"), done(message("h")), done(message("i"), 1), completed((message("h"), message("i")))], Means("hi")),
    row("two parts", [said("h"), said("i", content_index=1), event("response.output_text.done", text="i", content_index=1, output_index=0), END], Means("hi")),
    row("an item's id that changes", [said("h", item_id="x"), said("i", item_id="y"), done(message("hi", id="z")), END], Means("hi")),
    row("no places", [said("h", item_id=None, output_index=None, content_index=None), said("i", item_id=None, output_index=None, content_index=None), END], Means("hi")),
    row("a delta in parts", [said([{"type": "text", "text": "hi"}]), END], Means("hi")),
    row("a delta that is null", [said(None), said("hi"), END], Means("hi")),
    row("halves of an emoji in two deltas", [said("a\ud83d"), said("\ude00"), done(message("a😀")), END], Means("a😀")),
    row("an item that is null", [done(None), said("hi"), END], Means("hi")),
    row("content that is text", [done({"type": "message", "content": "hi"}), END], Means("hi")),
    row("content that is null", [done({"type": "message", "content": None}), said("hi"), END], Means("hi")),
    row("events that nobody knows", [event("response.wonder", x=1), event("keepalive"), said("hi"), END], Means("hi")),
    row("the type in the event's name alone", [b'event: response.output_text.delta\ndata: {"delta": "hi"}\n\n', b'event: response.completed\ndata: {"response": {}}\n\n'], Means("hi")),
    row("a type that is a number", [event(7), said("hi"), END], Means("hi")),  # type: ignore[arg-type]  # on purpose
    row("no response at the end", [said("hi"), event("response.completed")], Means("hi")),
    row("a null response at the end", [said("hi"), event("response.completed", response=None), HOLD], Means("hi")),
    row("response.done", [said("hi"), event("response.done", response=response())], Means("hi")),
    row("no end but [DONE]", [said("hi"), DONE], Means("hi")),
    row("JSON instead of a stream", [Reply(200, response(output=(message("hi"),)))], Means("hi")),
    row("JSON with a call", [Reply(200, response(output=(call(),)))], CALLED),
    row("JSON without output", [Reply(200, response(output=None, output_text="hi"))], Means("hi")),
    row("reasoning as a summary", [event("response.reasoning_summary_text.delta", delta="hm"), said("hi"), END], Means("hi", "hm")),
    row("reasoning as text", [event("response.reasoning_text.delta", delta="hm"), said("hi"), END], Means("hi", "hm")),
    row("reasoning only in its item", [done(THOUGHT), said("hi"), END], Means("hi", "hm", kept=[THOUGHT])),
    row("reasoning only in the response", [said("hi"), completed((THOUGHT, message("hi")))], Means("hi", "hm", kept=[THOUGHT])),
]  # fmt: skip

CALL = [
    row("a call", [added(call("")), pieces('{"city":'), pieces(' "Rome"}'), event("response.function_call_arguments.done", item_id="f1", output_index=0, arguments=ROME), done(call()), completed((call(),))], CALLED),
    row("a call only in its item", [done(call()), END], CALLED),
    row("a call only in the response", [completed((call(),))], CALLED),
    row("a call only in deltas", [added(call("")), pieces(ROME), END], CALLED),
    row("arguments only at their end", [added(call("")), event("response.function_call_arguments.done", item_id="f1", output_index=0, arguments=ROME), END], CALLED),
    row("a call's item whose id changes", [added(call("", id="x")), pieces('{"city":', item_id="y"), pieces(' "Rome"}', item_id="z"), done(call(id="w")), END], CALLED),
    row("a call without places", [added(call(""), None), pieces(ROME, item_id=None, output_index=None), done(call(), None), END], CALLED),
    row("no call_id", [done(call(call_id=None)), completed((call(call_id=None),))], CALLED),
    row("no ids at all", [done(call(call_id=None, id=None)), completed((call(call_id=None, id=None),))], CALLED),
    row("arguments that are an object", [done(call({"city": "Rome"})), END], CALLED),
    row("arguments that are null", [done(call(None, "now")), END], Means(calls=(("now", "{}"),), reason=CALLS)),
    row("arguments that are empty", [done(call("", "now")), END], Means(calls=(("now", "{}"),), reason=CALLS)),
    row("two calls", [done(call()), done(call(OSLO, id="f2", call_id="b"), 1), END], Means(calls=BOTH, reason=CALLS)),
    row("two calls with one place", [done(call()), done(call(OSLO, id="f2", call_id="b")), END], Means(calls=BOTH, reason=CALLS)),
    row("two calls without places and ids", [done(call(call_id=None, id=None), None), done(call(OSLO, call_id=None, id=None), None), END], Means(calls=BOTH, reason=CALLS)),
    row("two calls with one id", [done(call()), done(call(OSLO), 1), END], Means(calls=BOTH, reason=CALLS)),
    row("fields of the provider's own", [done(call(extra_content={"s": 1})), END], Means(calls=ONE, reason=CALLS, extra={"extra_content": {"s": 1}})),
]  # fmt: skip


def cut(reason: Any) -> dict[str, Any]:
    details = {"reason": reason} if reason is not None else None
    return event("response.incomplete", response=response("incomplete", incomplete_details=details))


ENDS = [
    row("cut off", [said("hi"), cut("max_output_tokens")], Means("hi", reason=LENGTH)),
    row("cut off, by completed", [said("hi"), event("response.completed", response=response("incomplete", incomplete_details={"reason": "max_output_tokens"}))], Means("hi", reason=LENGTH)),
    row("withheld", [said("hi"), cut("content_filter")], Means("hi", reason=FILTER)),
    row("incomplete without a reason", [said("hi"), cut(None)], Means("hi", reason=LENGTH)),
    row("cut off in a call", [added(call("")), pieces('{"ci'), cut("max_output_tokens")], Means(calls=(("weather", '{"ci'),), reason=LENGTH)),
    row("a refusal", [event("response.refusal.delta", delta="No."), END], Means("No.", reason=REFUSAL)),
    row("a refusal in its item", [done({"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}), END], Means("No.", reason=REFUSAL)),
    row("failed", [said("hi"), event("response.failed", response=response("failed", error={"code": "server_error", "message": "quota gone"}))], Fails("quota gone", 500, text="hi")),
    row("failed, without words", [said("hi"), event("response.failed", response=None)], Fails("failed", text="hi")),
    row("failed, by completed", [said("hi"), completed(error={"message": "quota gone"})], Fails("quota gone", text="hi")),
    row("an error event", [said("hi"), event("error", message="quota gone", code=None)], Fails("quota gone", text="hi")),
    row("an error event of the other shape", [said("hi"), event("error", error={"message": "quota gone"})], Fails("quota gone", text="hi")),
    row("cancelled", [said("hi"), event("response.cancelled", response=response("cancelled"))], Means("hi", reason=ERROR)),
]  # fmt: skip


def count(sent: Any, spent: Any) -> dict[str, Any]:
    return {"input_tokens": sent, "output_tokens": spent}


USAGE = [
    row("usage", [said("hi"), completed(usage=count(3, 4))], Means("hi", tokens=(3, 4))),
    row("usage under the other names", [said("hi"), completed(usage={"prompt_tokens": 3, "completion_tokens": 4})], Means("hi", tokens=(3, 4))),
    row("usage that is null", [said("hi"), completed(usage=None)], Means("hi", tokens=(0, 0))),
    row("usage of text, and below 0", [said("hi"), completed(usage=count("3", -4))], Means("hi", tokens=(0, 0))),
    row("usage while it goes on", [event("response.in_progress", response=response("in_progress", usage=count(3, 1))), said("hi"), END], Means("hi", tokens=(3, 1))),
    row("details that are null", [said("hi"), completed(usage={**count(3, 4), "input_tokens_details": None, "output_tokens_details": None})], Means("hi", tokens=(3, 4))),
]  # fmt: skip

ROWS: list[Row] = [*framed([said("hell"), said("o"), END], "hello"), *ITEMS, *CALL, *ENDS, *USAGE]

ROWS += [
    row("text at its end in another place", [said("h"), said("i"), event("response.output_text.done", text="hi", item_id="m1", output_index=1, content_index=0), done(message("hi"), 1), completed((message("hi"),))], Means("hi")),
    row("text only in a part that begins", [event("response.content_part.added", part={"type": "output_text", "text": "hi"}, output_index=0, content_index=0), END], Means("hi")),
    row("text only in an item that begins", [added(message("hi")), END], Means("hi")),
    row("text in an item that begins, and again", [added(message("hi")), said("hi"), done(message("hi")), END], Means("hi")),
    row("output_text that is a list", [completed(None, output_text=["h", "i"])], Means("hi")),
    row("arguments only in parsed_arguments", [done(call(None, parsed_arguments={"city": "Rome"})), END], CALLED),
    row("the type in the object's name", [{"object": "response.output_text.delta", "delta": "hi"}, END], Means("hi")),
    row("a delta in text", [event("response.output_text.delta", text="hi"), END], Means("hi")),
    row("a call's name with its namespace", [done(call(name="functions.weather")), END], CALLED),
    row("two calls in one place, by the items' ids", [added(call("", id="f1", call_id="a")), added(call("", id="f2", call_id="b")), pieces(ROME, item_id="f1"), pieces(OSLO, item_id="f2"), END], Means(calls=BOTH, reason=CALLS)),
    row("thinking in the text, four times", [said("<think>h"), said("m</think>"), said("hi"), event("response.output_text.done", text="<think>hm</think>hi"), done(message("<think>hm</think>hi")), completed((message("<think>hm</think>hi"),))], Means("hi", "hm")),
    row("failed by a filter", [said("hi"), event("response.failed", response=response("failed", error={"code": "invalid_prompt", "message": "no"}))], Means("hi", reason=FILTER)),
    row("a text that is a list at its end", [event("response.output_text.done", text=["h", "i"]), completed()], Means("hi")),
    row("output that is text", [Reply(200, response(output="hi"))], Means("hi")),
    row("another API", [{"choices": [{"delta": {"content": "hi"}}]}, "[DONE]"], Fails("no answer of this API")),
    row("calls of a provider's own", [done({"type": "web_search_call", "id": "w"}), said("hi"), completed()], Means("hi")),
]  # fmt: skip
