"""The rows of Chat Completions."""
# ruff: noqa: E501  # a table: one row, one line

import json
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


def delta(finish: Any = None, usage: Any = None, **said: Any) -> dict[str, Any]:
    """A chunk as OpenAI sends it."""
    choice = {"index": 0, "delta": said, "finish_reason": finish}
    chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return {**chunk, "choices": [choice], **({"usage": usage} if usage is not None else {})}


def piece(**call: Any) -> dict[str, Any]:
    """A chunk with one piece of a call; `name` and `arguments` are its function's."""
    function = {key: call.pop(key) for key in ("name", "arguments") if key in call}
    return delta(tool_calls=[{**call, "function": function}])


def says(text: Any, finish: Any = "stop", usage: Any = None) -> list[Piece]:
    return [delta(content=text), delta(finish, usage), DONE]


def calls(*pieces: Piece, finish: Any = "tool_calls") -> list[Piece]:
    return [*pieces, delta(finish), DONE]


def whole(message: Any, finish: Any = "stop", **more: Any) -> dict[str, Any]:
    """The answer of a server that does not stream."""
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion", "created": 1, "choices": [choice], **more}


def count(sent: Any, said: Any) -> dict[str, Any]:
    return {"prompt_tokens": sent, "completion_tokens": said, "total_tokens": 1}


HI = delta(content="hi")
END = delta("stop")


def chunk(**fields: Any) -> dict[str, Any]:
    return {**HI, **fields}


def choice(**fields: Any) -> dict[str, Any]:
    return {**HI, "choices": [fields]}


FIELDS = [
    row("no delta", [choice(index=0, finish_reason=None), *says("hi")], Means("hi")),
    row("a null delta", [choice(index=0, delta=None), *says("hi")], Means("hi")),
    row("a delta that is a list", [choice(index=0, delta=[1]), *says("hi")], Means("hi")),
    row("a delta that is text", [choice(index=0, delta="x"), *says("hi")], Means("hi")),
    row("null choices", [chunk(choices=None), *says("hi")], Means("hi")),
    row("no choices", [{"id": "c"}, *says("hi")], Means("hi")),
    row("choices that are an object", [chunk(choices=HI["choices"][0]), END], Means("hi")),
    row("a null choice", [chunk(choices=[None]), *says("hi")], Means("hi")),
    row("choices that are JSON text", [chunk(choices='[{"delta": {"content": "hi"}}]'), END], Fails("cannot be understood: [{")),
    row("a message that is text", [choice(index=0, message="hi", finish_reason="stop")], Means("hi")),
    row("choices that are a number", [chunk(choices=7), *says("hi")], Means("hi")),
    row("no index", [choice(delta={"content": "hi"}), END], Means("hi")),
    row("an index that is text", [choice(index="0", delta={"content": "hi"}), END], Means("hi")),
    row("a second choice", [HI, choice(index=1, delta={"content": "no"}), END], Means("hi")),
    row("a message instead of a delta", [choice(index=0, message={"content": "hi"}), END], Means("hi")),
    row("a message after its pieces", [delta(content="h"), choice(index=0, delta={}, message={"content": "hi"}), END], Means("hi")),
    row("messages as pieces", [choice(index=0, message={"content": "h"}), choice(index=0, message={"content": "i"}), END], Means("hi")),
    row("text as completions have it", [choice(index=0, text="hi"), END], Means("hi")),
    row("everything null", [dict.fromkeys(HI), *says("hi")], Means("hi")),
    row("a null error", [chunk(error=None), END], Means("hi")),
    row("empty fields of everything", [chunk(id="", object="", model=None), END], Means("hi")),
    row("only fields that nobody knows", [{"x": 1}, *says("hi")], Means("hi")),
    row("a list of chunks in one frame", [[HI, END]], Means("hi")),
    row("a role in every delta", [delta(role="assistant", content="h"), delta(role="assistant", content="i"), END], Means("hi")),
    row("a role that is an object", [delta(role={}, content="hi"), END], Means("hi")),
    # content
    row("content in parts", says([{"type": "text", "text": "hi"}]), Means("hi")),
    row("content as one part", says({"type": "text", "text": "hi"}), Means("hi")),
    row("content as a list of texts", says(["h", "i"]), Means("hi")),
    row("a part without a type", says([{"text": "hi"}]), Means("hi")),
    row("a part whose text is an object", says([{"type": "text", "text": {"value": "hi"}}]), Means("hi")),
    row("a part that nobody knows", says([{"type": "reference", "ids": [1]}, {"type": "text", "text": "hi"}]), Means("hi")),
    row("null parts", says([None, {"type": "text", "text": None}, {"type": "text", "text": "hi"}]), Means("hi")),
    row("content that is a number", says(42), Means("42")),
    row("content that is false", says(False), Means()),
    row("content that is null", says(None), Means()),
    row("an empty answer", says(""), Means()),
    row("thinking as a part", [delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]), *says("hi")],
        Means("hi", "hm")),
    row("thinking as a part of text", [delta(content=[{"type": "thinking", "thinking": "hm"}]), *says("hi")], Means("hi", "hm")),
    row("reasoning_content", [delta(reasoning_content="hm"), *says("hi")], Means("hi", "hm", kept={"reasoning_content": "hm"})),
    row("reasoning", [delta(reasoning="h"), delta(reasoning="m"), *says("hi")], Means("hi", "hm", kept={"reasoning": "hm"})),
    row("reasoning under both names", [delta(reasoning="hm", reasoning_content="hm"), *says("hi")], Means("hi", "hm")),
    row("reasoning that is null", [delta(reasoning=None, content="hi"), END], Means("hi")),
    row("reasoning that is an object", [delta(reasoning={"text": "hm"}), *says("hi")], Means("hi", "hm")),
    row("reasoning_details alone", [delta(reasoning_details=[{"type": "reasoning.text", "text": "hm", "index": 0}]), *says("hi")],
        Means("hi", "hm", kept={"reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0}]})),
    row("reasoning_details in pieces", [
        delta(reasoning_details=[{"type": "reasoning.text", "text": "h", "index": 0}]),
        delta(reasoning_details=[{"type": "reasoning.text", "text": "m", "index": 0, "signature": "s"}]), *says("hi")],
        Means("hi", "hm", kept={"reasoning_details": [{"type": "reasoning.text", "text": "hm", "index": 0, "signature": "s"}]})),
    # characters
    row("halves of an emoji in two deltas", [delta(content="a\ud83d"), delta(content="\ude00b"), END], Means("a😀b")),
    row("halves of an emoji as bytes", [
        b'data: {"choices":[{"delta":{"content":"a\xf0\x9f"}}]}\n\n', b'data: {"choices":[{"delta":{"content":"\x98\x80b"}}]}\n\n', END],
        Means("a😀b")),
    row("half an emoji", [delta(content="a\ud83d"), delta(content="b"), END], Means("a\ufffdb")),
    row("half an emoji at the end", [delta(content="a\ud83d"), END], Means("a\ufffd")),
    row("the wrong half of an emoji", [delta(content="\ude00a"), END], Means("\ufffda")),
    row("bytes that are no UTF-8", [b'data: {"choices":[{"delta":{"content":"caf\xe9!"}}]}\n\n', END], Means("caf\ufffd!")),
    row("U+2028 and NUL", says("a\u2028b\x00"), Means("a\u2028b\x00")),
    row("an emoji in reasoning", [delta(reasoning_content="\ud83d"), delta(reasoning_content="\ude00"), *says("hi")], Means("hi", "😀")),
    # plain JSON
    row("JSON instead of a stream", [Reply(200, whole({"content": "hi"}))], Means("hi")),
    row("JSON over many lines", [Reply(200, json.dumps(whole({"content": "hi"}), indent=2).encode())], Means("hi")),
    row("JSON as a stream", [json.dumps(whole({"content": "hi"})).encode(), HOLD], Means("hi")),
    row("JSON whose connection stays open", [json.dumps(whole({"content": "hi"}), indent=1).encode() + b"\n", HOLD], Means("hi")),
    row("JSON without a finish reason", [Reply(200, whole({"content": "hi"}, None))], Means("hi")),
    row("JSON with calls", [Reply(200, whole({"content": None, "tool_calls": [{"id": "a", "function": {"name": "weather", "arguments": ROME}}]}))],
        Means(calls=ONE, reason=CALLS)),
    row("JSON with usage", [Reply(200, whole({"content": "hi"}, usage=count(3, 4)))], Means("hi", tokens=(3, 4))),
]  # fmt: skip

TOOLS = [
    row("a call in pieces", calls(piece(index=0, id="a", name="weather", arguments=""), piece(index=0, arguments='{"city":'), piece(index=0, arguments=' "Rome"}')), Means(calls=ONE, reason=CALLS)),
    row("arguments that are an object", calls(piece(index=0, id="a", name="weather", arguments={"city": "Rome"})), Means(calls=ONE, reason=CALLS)),
    row("arguments that are null", calls(piece(index=0, id="a", name="now", arguments=None)), Means(calls=(("now", "{}"),), reason=CALLS)),
    row("arguments that say null", calls(piece(index=0, id="a", name="now", arguments="null")), Means(calls=(("now", "{}"),), reason=CALLS)),
    row("arguments that are empty", calls(piece(index=0, id="a", name="now", arguments="")), Means(calls=(("now", "{}"),), reason=CALLS)),
    row("arguments that are blank", calls(piece(index=0, id="a", name="now", arguments=" \n")), Means(calls=(("now", "{}"),), reason=CALLS)),
    row("no arguments", calls(piece(index=0, id="a", name="now")), Means(calls=(("now", "{}"),), reason=CALLS)),
    row("arguments that are a list", calls(piece(index=0, id="a", name="now", arguments=[1])), Means(calls=(("now", "[1]"),), reason=CALLS)),
    row("arguments encoded twice", calls(piece(index=0, id="a", name="weather", arguments=json.dumps(ROME))), Means(calls=ONE, reason=CALLS)),
    row("an empty object, then the arguments", calls(piece(index=0, id="a", name="weather", arguments="{}"), piece(index=0, arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("arguments with half an emoji", calls(piece(index=0, id="a", name="say", arguments='{"t": "\ud83d'), piece(index=0, arguments='\ude00"}')), Means(calls=(("say", '{"t": "😀"}'),), reason=CALLS)),
    row("arguments that are no JSON", calls(piece(index=0, id="a", name="now", arguments="{oops")), Means(calls=(("now", "{oops"),), reason=CALLS)),
    row("an id that changes in every delta", calls(piece(index=0, id="a", name="weather", arguments='{"city":'), piece(index=0, id="b", arguments=' "Rome"'), piece(index=0, id="c", arguments="}")), Means(calls=ONE, reason=CALLS)),
    row("an id and a name in every delta", calls(piece(index=0, id="a", name="weather", arguments='{"city":'), piece(index=0, id="b", name="weather", arguments=' "Rome"}')), Means(calls=ONE, reason=CALLS)),
    row("an id that is a number", calls(piece(index=0, id=7, name="weather", arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("no id", calls(piece(index=0, name="weather", arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("calls without an index", calls(piece(id="a", name="weather", arguments='{"city":'), piece(arguments=' "Rome"}')), Means(calls=ONE, reason=CALLS)),
    row("a null index", calls(piece(index=None, id="a", name="weather", arguments='{"city":'), piece(index=None, arguments=' "Rome"}')), Means(calls=ONE, reason=CALLS)),
    row("a call's index that is text", calls(piece(index="0", id="a", name="weather", arguments='{"city":'), piece(index="0", arguments=' "Rome"}')), Means(calls=ONE, reason=CALLS)),
    row("an index that counts the pieces", calls(piece(index=0, id="a", name="weather", arguments='{"city":'), piece(index=1, arguments=' "Rome"}')), Means(calls=ONE, reason=CALLS)),
    row("the name after the arguments", calls(piece(index=0, id="a", arguments=ROME), piece(index=0, name="weather")), Means(calls=ONE, reason=CALLS)),
    row("the name in pieces", calls(piece(index=0, id="a", name="wea"), piece(index=0, name="ther", arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("the name in every piece", calls(piece(index=0, id="a", name="weather", arguments='{"city":'), piece(index=0, id="a", name="weather", arguments=' "Rome"}')), Means(calls=ONE, reason=CALLS)),
    row("blanks around the name", calls(piece(index=0, id="a", name=" weather\n", arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("a call that is said again at the end", calls(piece(index=0, id="a", name="weather", arguments=ROME), piece(index=0, id="a", name="weather", arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("a name that is said again at the end", calls(piece(index=0, id="a", name="weather", arguments=ROME), piece(index=0, name="weather", arguments="")), Means(calls=ONE, reason=CALLS)),
    row("an empty piece at the end", calls(piece(index=0, id="a", name="weather", arguments=ROME), piece(index=0, id="", name="", arguments="")), Means(calls=ONE, reason=CALLS)),
    row("two calls by index, interleaved", calls(piece(index=0, id="a", name="weather"), piece(index=1, id="b", name="weather"), piece(index=0, arguments=ROME), piece(index=1, arguments=OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("two calls with one index", calls(piece(index=0, id="a", name="weather", arguments=ROME), piece(index=0, id="b", name="weather", arguments=OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("two calls with one index, in pieces", calls(piece(index=0, id="a", name="weather", arguments=""), piece(index=0, arguments=ROME), piece(index=0, id="b", name="weather", arguments=""), piece(index=0, arguments=OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("two calls with one index and no id", calls(piece(index=0, name="weather", arguments=ROME), piece(index=0, name="weather", arguments=OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("two calls with one index and no id, in pieces", calls(piece(index=0, name="weather"), piece(index=0, arguments=ROME), piece(index=0, name="weather"), piece(index=0, arguments=OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("two calls without an index", calls(piece(id="a", name="weather", arguments=ROME), piece(id="b", name="weather", arguments=OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("two calls without index and id", calls(piece(name="weather", arguments=ROME), piece(name="weather", arguments=OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("two calls in one delta, without an index", calls(delta(tool_calls=[{"id": i, "function": {"name": "weather", "arguments": a}} for i, a in (("a", ROME), ("b", OSLO))])), Means(calls=BOTH, reason=CALLS)),
    row("two calls with one id", calls(piece(index=0, id="a", name="weather", arguments=ROME), piece(index=1, id="a", name="weather", arguments=OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("two calls, the first without arguments, with one index", calls(piece(index=0, id="a", name="now", arguments=""), piece(index=0, id="b", name="weather", arguments=ROME)), Means(calls=(("now", "{}"), *ONE), reason=CALLS)),
    row("a broken call, then another with the same index", calls(piece(index=0, id="a", name="weather", arguments="{oops"), piece(index=0, id="b", name="weather", arguments=ROME)), Means(calls=(("weather", "{oops"), *ONE), reason=CALLS)),
    row("calls that are an object", calls(delta(tool_calls={"id": "a", "function": {"name": "weather", "arguments": ROME}})), Means(calls=ONE, reason=CALLS)),
    row("null calls", [delta(tool_calls=None, content="hi"), delta(tool_calls=[None]), END], Means("hi")),
    row("a null function", [delta(tool_calls=[{"index": 0, "function": None}], content="hi"), END], Means("hi")),
    row("a call without a function", calls(delta(tool_calls=[{"id": "a", "name": "weather", "arguments": ROME}])), Means(calls=ONE, reason=CALLS)),
    row("function_call of former days", calls(delta(function_call={"name": "weather", "arguments": '{"city":'}), delta(function_call={"arguments": ' "Rome"}'}), finish="function_call"), Means(calls=ONE, reason=CALLS)),
    row("a call whose end says stop", calls(piece(index=0, id="a", name="weather", arguments=ROME), finish="stop"), Means(calls=ONE, reason=CALLS)),
    row("a call and nothing but [DONE]", [piece(index=0, id="a", name="weather", arguments=ROME), DONE], Means(calls=ONE, reason=CALLS)),
    row("extra_content of a call", calls(piece(index=0, id="a", name="weather", arguments=ROME, extra_content={"google": {"thought_signature": "c2ln"}})),
        Means(calls=ONE, reason=CALLS, extra={"extra_content": {"google": {"thought_signature": "c2ln"}}})),
    row("arguments of a second call behind those of the first", calls(piece(index=0, id="a", name="weather", arguments=""), piece(index=0, name="", arguments=ROME), piece(index=0, name="", arguments=OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("arguments said again, by themselves", calls(piece(index=0, id="a", name="weather", arguments=ROME), piece(index=0, arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("arguments of two calls glued together", calls(piece(index=0, id="a", name="weather", arguments=ROME + OSLO)), Means(calls=BOTH, reason=CALLS)),
    row("arguments glued to themselves", calls(piece(index=0, id="a", name="weather", arguments=f"{ROME}\n{ROME}")), Means(calls=ONE, reason=CALLS)),
    row("arguments in a Markdown fence", calls(piece(index=0, id="a", name="weather", arguments=f"```json\n{ROME}\n```")), Means(calls=ONE, reason=CALLS)),
    row("a name with its namespace", calls(piece(index=0, id="a", name="functions.weather", arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("a name with its namespace and number", calls(piece(index=0, id="functions.weather:0", name="functions.weather:0", arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("a name in a namespace that no tool has", calls(piece(index=0, id="a", name="functions.wind", arguments=ROME)), Means(calls=(("functions.wind", ROME),), reason=CALLS)),
    row("an index that begins with 1", calls(piece(index=1, id="a", name="weather", arguments=""), piece(index=1, arguments=ROME)), Means(calls=ONE, reason=CALLS)),
    row("extra_content in a delta of its own", calls(piece(index=0, id="a", name="weather", arguments=ROME), delta(tool_calls=[{"index": 0, "extra_content": {"s": 1}}])), Means(calls=ONE, reason=CALLS, extra={"extra_content": {"s": 1}})),
    row("more calls than anybody needs", calls(*(piece(index=i, name="now") for i in range(300))), Fails("256 tool calls")),
    row("arguments without end", calls(*(piece(index=0, name="now", arguments="x" * 99_999) for i in range(11))), Fails("1048576")),
]  # fmt: skip

THOUGHT = [
    row("thinking in the text", says("<think>hm</think>hi"), Means("hi", "hm")),
    row("thinking in the text, with blank lines", says("\n<think>\nhm\n</think>\n\nhi"), Means("hi", "hm\n")),
    row("no thought in the text", says("<think>\n\n</think>\n\nhi"), Means("hi")),
    row("a tag split over deltas", [*(delta(content=c) for c in "<think>hm</think>hi"), END], Means("hi", "hm")),
    row("tags and blanks split over deltas", [*(delta(content=c) for c in (" ", "<thi", "nk", ">", "\nh", "m</", "thi", "nk>\n", "\n", "hi", " <", "/think>")), END],
        Means("hi </think>", "hm")),
    row("thinking that never ends", says("<think>hm, <b"), Means("", "hm, <b")),
    row("half a tag at the end", [delta(content="<thi"), END], Means("<thi")),
    row("half a closing tag at the end", [delta(content="<think>hm</thi"), END], Means("", "hm</thi")),
    row("nothing but blanks", says("  "), Means("  ")),
    row("a tag that is mentioned later", says("Use <think>hm</think> so."), Means("Use <think>hm</think> so.")),
    row("a tag that is mentioned later, in pieces", [delta(content="A: "), delta(content="<think>"), delta(content="hm</think>"), END], Means("A: <think>hm</think>")),
    row("a tag after the thinking", says("<think>hm</think>So: <think>x</think>"), Means("So: <think>x</think>", "hm")),
    row("another tag that begins alike", says("<thinker>x"), Means("<thinker>x")),
    row("a tag after thinking told apart", [delta(reasoning_content="hm"), *says("<think>x</think>")], Means("<think>x</think>", "hm")),
    row("thinking in the text as Gemini has it", says("<thought>hm</thought>hi"), Means("hi", "hm")),
    row("thinking in the text as Mistral has it", says("[THINK]hm[/THINK]hi"), Means("hi", "hm")),
    row("thinking in the text, then a call", calls(delta(content="<think>hm</think>\n"), piece(index=0, id="a", name="weather", arguments=ROME)), Means("", "hm", ONE, CALLS)),
    row("thinking in the text of JSON", [Reply(200, whole({"content": "<think>hm</think>hi"}))], Means("hi", "hm")),
    row("thinking in the text, cut off", says("<think>hm", "length"), Means("", "hm", reason=LENGTH)),
    row("thinking in parts of text", [delta(content=[{"type": "text", "text": "<think>h"}]), delta(content=[{"type": "text", "text": "m</think>hi"}]), END], Means("hi", "hm")),
]  # fmt: skip

ENDS = [
    *(row(f"finish reason {word!r}", says("hi", word), Means("hi", reason=reason)) for word, reason in (
        ("stop", "stop"), ("STOP", "stop"), ("end_turn", "stop"), ("eos", "stop"), ("length", LENGTH), ("max_tokens", LENGTH),
        ("model_length", LENGTH), ("content_filter", FILTER), ("content-filter", FILTER), ("SAFETY", FILTER), ("error", ERROR),
        ("network_error", ERROR), ("insufficient_system_resource", ERROR), ("abort", ERROR), ("because", OTHER), (17, OTHER),
    )),
    row("an empty finish reason, then one", [delta(""), HI, END], Means("hi")),
    row("a finish reason that is an object", [delta({}), HI, END], Means("hi")),
    row("a finish reason in every delta", [delta("stop", content="h"), delta("stop", content="i"), END], Means("hi")),
    row("a finish reason before the text", [END, HI, DONE], Means("hi")),
    row("two finish reasons", [HI, delta("length"), END, DONE], Means("hi", reason=LENGTH)),
    row("no finish reason, but [DONE]", [HI, DONE], Means("hi")),
    row("cut off, with a call", calls(piece(index=0, id="a", name="weather", arguments='{"ci'), finish="length"), Means(calls=(("weather", '{"ci'),), reason=LENGTH)),
    row("a refusal", [delta(refusal="No."), END, DONE], Means("No.", reason=REFUSAL)),
    row("a refusal as a part", [delta(content=[{"type": "refusal", "refusal": "No."}]), END], Means("No.", reason=REFUSAL)),
    row("an error within a choice", [HI, choice(index=0, delta={"content": ""}, finish_reason="error", error={"code": 502, "message": "upstream gone"})], Fails("upstream gone", 502, text="hi")),
    row("an error after the end", [HI, END, {"error": "quota gone"}], Fails("quota gone", text="hi")),
]  # fmt: skip

USAGE = [
    row("usage", says("hi", usage=count(3, 4)), Means("hi", tokens=(3, 4))),
    row("usage of nulls", says("hi", usage=count(None, None)), Means("hi", tokens=(0, 0))),
    row("usage of text", says("hi", usage=count("3", "4")), Means("hi", tokens=(0, 0))),
    row("usage below 0", says("hi", usage=count(-3, 4)), Means("hi", tokens=(0, 4))),
    row("usage of broken numbers", says("hi", usage=count(3.5, 4.0)), Means("hi", tokens=(0, 4))),
    row("usage of true", says("hi", usage=count(True, 4)), Means("hi", tokens=(0, 4))),
    row("usage beyond all numbers", says("hi", usage=count(2**70, float("inf"))), Means("hi", tokens=(0, 0))),
    row("usage that is a list", says("hi", usage=[1, 2]), Means("hi", tokens=(0, 0))),
    row("usage before the answer", [chunk(choices=[], usage=count(3, 4)), *says("hi")], Means("hi", tokens=(3, 4))),
    row("usage after [DONE]", [*says("hi"), chunk(choices=[], usage=count(3, 4))], Means("hi")),
    row("a running sum", [delta(content="h", usage=count(3, 1)), delta("stop", content="i", usage=count(3, 2))], Means("hi", tokens=(3, 2))),
    row("usage within the choice", [choice(index=0, delta={"content": "hi"}, finish_reason="stop", usage=count(3, 4))], Means("hi", tokens=(3, 4))),
    row("usage as Groq has it", [HI, {**END, "x_groq": {"usage": count(3, 4)}}], Means("hi", tokens=(3, 4))),
    row("details that are null", says("hi", usage={**count(3, 4), "prompt_tokens_details": None, "completion_tokens_details": {"reasoning_tokens": None}}), Means("hi", tokens=(3, 4))),
    row("details that are a number", says("hi", usage={**count(3, 4), "prompt_tokens_details": 7, "completion_tokens_details": []}), Means("hi", tokens=(3, 4))),
]  # fmt: skip

ROWS: list[Row] = [
    *framed([delta(content="hell"), delta(content="o"), END], "hello"),
    *FIELDS,
    *TOOLS,
    *THOUGHT,
    *ENDS,
    *USAGE,
]
