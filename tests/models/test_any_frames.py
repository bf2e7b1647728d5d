"""No sequence of frames, however odd, makes anything but one end or a ModelError."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pullcord.models.base import (
    AssistantMessage,
    Finished,
    Kept,
    ModelChunk,
    ModelError,
    ModelRequest,
    Reasoning,
    Text,
    ToolMessage,
    ToolRequest,
    UserMessage,
)
from pullcord.models.reading.answer import Answer, read_answer
from pullcord.models.reading.text import sendable
from pullcord.run.usage import Usage

from tests.models.kinds import KINDS

_NAMES = st.sampled_from(
    [
        name
        for line in (
            "candidates parts functionCall args finishReason thoughtSignature thought",
            "content_block partial_json input stop_reason signature usageMetadata",
            "promptTokenCount promptFeedback blockReason",
            "choices delta message content tool_calls function name arguments index",
            "id type finish_reason usage prompt_tokens completion_tokens error code",
            "status detail text reasoning_content reasoning reasoning_details",
            "extra_content refusal output item response output_index item_id",
            "call_id object summary encrypted_content incomplete_details reason",
            "thinking metadata retry_after part",
        )
        for name in line.split()
    ]
)
_WORDS = st.sampled_from(
    [
        *("", "{}", '{"a":1}', '{"a', '":1}', "null", "\ud83d", "\ude00", "\udcf0", "hi", "429"),
        *("stop", "length", "tool_calls", "error", "text", "thinking", "message", "function_call"),
        *("response.output_text.delta", "response.output_item.added", "response.output_item.done"),
        *("response.function_call_arguments.delta", "response.function_call_arguments.done"),
        *("response.completed", "response.incomplete", "response.failed", "reasoning", "response"),
        *("chat.completion", "response.content_part.done", "response.output_text.done"),
        *(
            "message_start",
            "content_block_start",
            "content_block_delta",
            "message_delta",
            "tool_use",
        ),
        *("message_stop", "STOP", "SAFETY", "thinking", "redacted_thinking", "now", "signature"),
    ]
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | _WORDS | st.text(max_size=5)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5),
    max_leaves=12,
)


def _shaped(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({}, optional={k: v | _VALUES for k, v in fields.items()})


_CALLS = st.lists(
    _shaped(
        index=st.sampled_from([0, 1]),
        id=st.sampled_from(["a", "b"]),
        function=_shaped(name=st.sampled_from(["now", "weather", "wea"]), arguments=_WORDS),
    ),
    max_size=3,
)
_MESSAGES = _shaped(content=_WORDS, tool_calls=_CALLS, reasoning_content=_WORDS, refusal=_WORDS)
_CHUNKS = _shaped(
    choices=st.lists(
        _shaped(index=st.just(0), delta=_MESSAGES, message=_MESSAGES, finish_reason=_WORDS),
        max_size=2,
    ),
    usage=_VALUES,
)
_ITEMS = _shaped(
    type=_WORDS, id=_WORDS, call_id=_WORDS, name=_WORDS, arguments=_WORDS, content=_VALUES
)
_BLOCKS = _shaped(type=_WORDS, id=_WORDS, name=_WORDS, input=_VALUES, text=_WORDS, thinking=_WORDS)
_PARTS = _shaped(
    text=_WORDS,
    thought=st.booleans(),
    thoughtSignature=_WORDS,
    functionCall=_shaped(name=_WORDS, args=_VALUES, id=_WORDS),
)
_CANDIDATES = _shaped(
    content=_shaped(parts=st.lists(_PARTS, max_size=3)), finishReason=_WORDS, index=st.just(0)
)
_DELTAS = _shaped(
    text=_WORDS, partial_json=_WORDS, thinking=_WORDS, signature=_WORDS, stop_reason=_WORDS
)
_EVENTS = _shaped(
    type=_WORDS,
    index=st.integers(0, 2),
    candidates=st.lists(_CANDIDATES, max_size=2),
    content_block=_BLOCKS,
    delta=_WORDS
    | _shaped(
        text=_WORDS, partial_json=_WORDS, thinking=_WORDS, signature=_WORDS, stop_reason=_WORDS
    ),
    text=_WORDS,
    item=_ITEMS,
    output_index=st.integers(0, 2),
    response=_shaped(status=_WORDS, output=st.lists(_ITEMS, max_size=2), usage=_VALUES),
)
_DATA = (_CHUNKS | _EVENTS | _VALUES).map(lambda v: json.dumps(v).encode())
_RAW_DATA = (_CHUNKS | _EVENTS).map(
    lambda v: json.dumps(v, ensure_ascii=False).encode("utf-8", "surrogatepass")
)
_FRAMES = st.tuples(
    (_DATA | _RAW_DATA).map(lambda data: b"data: " + data),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b""]),
).map(b"".join)
_ODD = st.sampled_from(
    [b": c\n\n", b"data: [DONE]\n\n", b"event: error\n", b"retry: 1\n", b"{", b"\xff"]
)
_STREAMS = st.lists(_FRAMES | _ODD | st.binary(max_size=8), max_size=8).map(b"".join)


async def _read(answer: Answer, stream: bytes, size: int) -> list[ModelChunk]:
    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(stream), size):
            yield stream[start : start + size]

    return [chunk async for chunk in read_answer(body(), answer, 30.0)]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=400, deadline=None)
@given(stream=_STREAMS, size=st.integers(1, 200))
def test_any_frames(name: str, stream: bytes, size: int) -> None:
    """Whatever comes is an answer with one end, which can be encoded and sent back, or an error."""
    model: Any = KINDS[name](id="m", base_url="http://localhost/v1")
    try:
        said = asyncio.run(_read(model._answer(["now", "weather"], []), stream, size))
    except ModelError as error:
        str(error).encode()
        return
    ends = [chunk for chunk in said if isinstance(chunk, Finished)]
    assert ends == said[-1:]
    for chunk in said:
        if isinstance(chunk, Text | Reasoning):
            assert chunk.text.encode()
        if isinstance(chunk, Usage):
            assert min(chunk.input_tokens, chunk.output_tokens, chunk.reasoning_tokens) >= 0
    _check_what_goes_back(model, said)


def _check_what_goes_back(model: Any, said: list[ModelChunk]) -> None:
    calls = tuple(chunk for chunk in said if isinstance(chunk, ToolRequest))
    kept = next((chunk.data for chunk in said if isinstance(chunk, Kept)), None)
    text = "".join(chunk.text for chunk in said if isinstance(chunk, Text))
    answers = (ToolMessage(call.id, "done") for call in calls)
    history = (UserMessage("?"), AssistantMessage(text, calls, kept), *answers)
    body = sendable(model._body(ModelRequest(history)))
    assert json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    for call in _calls_in(body):
        arguments = call.get("arguments", call.get("input", call.get("args")))
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        assert isinstance(arguments, dict)
        assert call["name"]


def _calls_in(body: Any) -> Iterator[dict[str, Any]]:
    """The calls in a request of any provider's."""
    for item in (*body.get("messages", ()), *body.get("input", ()), *body.get("contents", ())):
        yield from (call["function"] for call in item.get("tool_calls") or ())
        if item.get("type") == "function_call":
            yield item
        content = item.get("content")
        for part in content if isinstance(content, list) else item.get("parts", ()):
            if part.get("type") == "tool_use":
                yield part
            if "functionCall" in part:
                yield part["functionCall"]
