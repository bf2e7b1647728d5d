"""What goes back to a provider is always valid, whatever the model wrote or a tool did."""

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pullcord.agent import Agent
from pullcord.models.openai import OpenAIChat, OpenAIResponses
from pullcord.models.reading.values import sent_arguments
from pullcord.native.calling import MAX_RESULT
from pullcord.run.base import RunOutput, RunStatus
from pullcord.run.cancel import CancelMode
from pullcord.run.context import RunContext
from pullcord.run.errors import RunCancelledError
from pullcord.run.events import ToolCallState
from pullcord.run.finish import FinishReason
from pullcord.run.message import Part
from pydantic import BaseModel, field_serializer

from tests.agent.making import closed, made
from tests.models import responses_deviations as responses
from tests.models.chat_deviations import DONE, calls, delta, piece, says
from tests.models.misbehaving import HOLD, MisbehavingServer, Piece, Reply

ROME = '{"city": "Rome"}'


@pytest.fixture
async def server() -> AsyncIterator[MisbehavingServer]:
    with MisbehavingServer() as server:
        yield server
        await closed()


def weather(city: str = "") -> str:
    """Tells the weather."""
    return f"rain in {city}"


def strict(body: dict[str, Any]) -> list[Piece]:
    """A server that takes nothing but what is right; empty if the request is."""
    wrong = []
    for item in body.get("messages") or body["input"]:
        made = item.get("tool_calls") or ([item] if item.get("type") == "function_call" else [])
        for call in made:
            function = call.get("function", call)
            if not isinstance(json.loads(function["arguments"]), dict):
                wrong.append("arguments")
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", function["name"]):
                wrong.append("name")
        text = item.get("content", item.get("output"))
        if not made and item.get("type") != "reasoning" and not (text and text.strip()):
            wrong.append("empty")
    return [Reply(400, {"error": f"wrong: {wrong}"})] if wrong else []


async def run(
    server: MisbehavingServer, first: list[Piece], *tools: Any, kind: Any = OpenAIChat
) -> RunOutput:
    """One run whose first answer is `first`, and whose second is `done`."""
    done = says("done") if kind is OpenAIChat else [responses.said("done"), responses.END]

    def script(body: dict[str, Any], number: int) -> list[Piece]:
        return strict(body) or (done if number else first)

    server.script = script
    model = made(server, kind)
    return await Agent(name="a", model=model, tools=tools or [weather]).arun("?")


def sent(server: MisbehavingServer) -> Any:
    """The assistant's message that went back."""
    (message,) = (m for m in server.requests[1].body["messages"] if m["role"] == "assistant")
    return message


def answered(server: MisbehavingServer) -> str:
    """What the model was told of its first call."""
    return next(m["content"] for m in server.requests[1].body["messages"] if m["role"] == "tool")


@pytest.mark.parametrize(
    "arguments",
    ["", "null", " ", "{", '{"city": "Ro"me"}', "[1]", '"text"', "7", "NaN", '{"city": NaN}',
     '{"city": "\ud83d"}', '{"city": "\\ud83d"}', "\udce9", "{}{}", "[" * 5000,
     '{"city": "x"} and more'],
)  # fmt: skip
@pytest.mark.parametrize("kind", [OpenAIChat, OpenAIResponses])
async def test_arguments_go_back_as_json(
    server: MisbehavingServer, kind: Any, arguments: str
) -> None:
    """Whatever the model wrote as arguments, a JSON object goes back, and the run goes on."""
    if kind is OpenAIChat:
        first = calls(piece(index=0, id="a", name="weather", arguments=arguments))
    else:
        first = [responses.done(responses.call(arguments)), responses.END]
    assert (await run(server, first, kind=kind)).content == "done"


def test_half_an_emoji_goes_back_as_none_however_it_was_written() -> None:
    """Strict readers of JSON refuse it, escaped as well; what is right stays as it was written."""
    assert sent_arguments('{"city": "\\ud83d"}') == '{"city": "\ufffd"}'
    whole = '{"city": "\\ud83d\\ude00"}'
    assert sent_arguments(whole) == whole


@pytest.mark.parametrize("name", ["", None, "no such tool!", "functions.wind:0", "é" * 100, 7])
async def test_names_go_back_as_names(server: MisbehavingServer, name: Any) -> None:
    """A call of a tool that cannot be is told as wrong to the model, and no provider refuses it."""
    output = await run(server, calls(piece(index=0, id="a", name=name, arguments=ROME)))
    assert output.content == "done"
    assert "there is no tool" in answered(server)


async def test_what_a_provider_wants_back_it_gets(server: MisbehavingServer) -> None:
    """Reasoning and the fields of a call go back unchanged, and nothing that is null."""
    await run(
        server,
        [
            delta(reasoning_content="I need ", refusal=None, audio=None),
            delta(reasoning_content="rain.", annotations=[1], extra_content={"g": {"sig": "x"}}),
            piece(index=0, id="a", name="weather", arguments="", extra_content={"g": 1}),
            delta(tool_calls=[{"index": 0, "function": {"arguments": ROME, "signature": "t"}}]),
            delta("tool_calls"),
            DONE,
        ],
    )  # fmt: skip
    call = sent(server)["tool_calls"][0]
    assert sent(server) == {
        "role": "assistant",
        "content": None,
        "tool_calls": [call],
        "reasoning_content": "I need rain.",
        "extra_content": {"g": {"sig": "x"}},
    }
    assert call == {
        "id": "a",
        "type": "function",
        "function": {"name": "weather", "arguments": ROME, "signature": "t"},
        "extra_content": {"g": 1},
    }


async def test_thinking_that_was_a_part_goes_back_as_a_part(server: MisbehavingServer) -> None:
    """Mistral's reasoning models get their content back as the list that it was."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    called = piece(index=0, id="a", name="weather", arguments=ROME)
    await run(server, [delta(content=[thought]), delta(content="so"), *calls(called)])
    assert sent(server)["content"] == [thought, {"type": "text", "text": "so"}]


async def test_encrypted_reasoning_goes_back_as_an_item(server: MisbehavingServer) -> None:
    """The Responses API gets its reasoning back before the call that it led to."""
    first = [responses.done(responses.THOUGHT), responses.done(responses.call(), 1), responses.END]
    assert (await run(server, first, kind=OpenAIResponses)).content == "done"
    kinds = [item.get("type", "message") for item in server.requests[1].body["input"]]
    assert kinds == ["message", "reasoning", "function_call", "function_call_output"]
    assert server.requests[1].body["input"][1] == responses.THOUGHT


async def test_fields_can_be_added_and_left_out(server: MisbehavingServer) -> None:
    """`extra` has the last word on every field of the request."""
    server.answers(*says("hi"))
    extra = {"stream_options": None, "max_completion_tokens": None, "max_tokens": 5, "top_k": 3}
    model = made(server, max_output_tokens=5, extra=extra)
    await Agent(model=model).arun("?")
    assert server.requests[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": "?"}],
        "stream": True,
        "max_tokens": 5,
        "top_k": 3,
    }


@pytest.mark.parametrize("text", ["\udce9", "a\ud83d", "\x00\u2028", "😀"])
async def test_any_text_can_be_sent(server: MisbehavingServer, text: str) -> None:
    """Instructions and results that cannot be encoded are sent with what can."""
    done = says("done")
    called = calls(piece(index=0, id="a", name="echo", arguments="{}"))
    server.script = lambda body, number: done if number else called

    async def echo() -> str:
        return text

    model = made(server)
    agent = Agent(model=model, instructions=text, tools=[echo])
    assert (await agent.arun("?")).status is RunStatus.completed


async def test_no_turn_poisons_its_session(server: MisbehavingServer) -> None:
    """After turns that were empty, failed or stopped, a strict server still takes the next one."""
    model = made(server)
    agent = Agent(name="s", model=model)
    answers: list[list[Piece]] = [
        says(""),
        says("  \n"),
        [Reply(400, {"error": "no"})],
        [delta(content="half \ud83d"), {"error": "gone"}],
        says(None, "length"),
        says("", "because"),
        [delta(content="x"), HOLD],
        says("fine"),
    ]
    server.script = lambda body, number: strict(body) or answers[number]
    for number, _ in enumerate(answers):
        run_id = f"poison-{number}"
        input = "" if number % 2 else "?"
        async for chunk in agent.arun(input, stream=True, session_id="poison", run_id=run_id):
            if chunk.content == "x":
                agent.cancel_run(run_id)
    assert (chunk.status, chunk.content) == (RunStatus.completed, "fine")
    assert len(server.requests) == len(answers)


async def test_a_message_that_a_filter_withheld_is_not_shown_again(
    server: MisbehavingServer,
) -> None:
    """A filter that refuses every request with a certain text refuses one turn, not the session."""
    flagged = Reply(400, {"error": {"message": "no", "code": "content_filter"}})
    server.script = lambda body, _: [flagged] if "forbidden" in str(body) else says("fine")
    agent = Agent(name="w", model=made(server))
    parts = [Part("forbidden too")]
    refused = await agent.arun("forbidden", parts=parts, session_id="withheld")
    assert (refused.status, refused.finish_reason) == (
        RunStatus.error,
        FinishReason.CONTENT_FILTER,
    )
    assert "withheld" in refused.error
    for _ in range(2):
        output = await agent.arun("?", session_id="withheld")
        assert (output.status, output.content) == (RunStatus.completed, "fine")
    assert "is not shown again" in str(server.requests[-1].body)


async def test_a_message_that_was_too_long_is_not_shown_again(server: MisbehavingServer) -> None:
    """A context that a turn has exceeded is free again for the next one."""
    full = Reply(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})
    server.script = lambda body, _: [full] if len(str(body)) > 50_000 else says("fine")
    agent = Agent(name="l", model=made(server))
    for parts in ([], [Part("x" * 60_000)]):  # by its input, and by a part
        text = "x" * 60_000 if not parts else "and this?"
        failed = await agent.arun(text, parts=parts, session_id="long")
        assert (failed.status, "too long" in failed.error) == (RunStatus.error, True)
    output = await agent.arun("?", session_id="long")
    assert (output.status, output.content) == (RunStatus.completed, "fine")


# --- however a tool ends


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise SystemExit("even its words")


class Odd(BaseModel):
    value: int = 1

    @field_serializer("value")
    def refuse(self, value: int) -> int:
        raise RuntimeError("no")


def within_itself() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result


def raising(error: Callable[[], BaseException]) -> Callable[..., Any]:
    async def tool() -> None:
        raise error()

    return tool


def raising_in_thread(error: Callable[[], BaseException]) -> Callable[..., Any]:
    def tool() -> None:
        raise error()

    return tool


ERRORS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "an exception": (lambda: ValueError("no milk"), "ValueError: no milk"),
    "no words": (ValueError, "ValueError"),
    "CancelledError": (lambda: asyncio.CancelledError("scope"), "CancelledError: scope"),
    "SystemExit": (lambda: SystemExit(3), "SystemExit: 3"),
    "GeneratorExit": (GeneratorExit, "GeneratorExit"),
    "StopIteration": (lambda: StopIteration("x"), "StopIteration"),
    "StopAsyncIteration": (StopAsyncIteration, "StopAsyncIteration"),
    "a cancel of nobody's": (lambda: RunCancelledError("me"), "RunCancelledError: me"),
    "unspeakable": (Unspeakable, "Unspeakable, whose words cannot be had"),
    "a group": (lambda: ExceptionGroup("g", [ValueError()]), "ExceptionGroup: g"),
    "endless words": (lambda: ValueError("x" * 5_000_000), "characters are left out"),
    "words that cannot be encoded": (lambda: ValueError("\udce9"), "ValueError: \ufffd"),
}


@pytest.mark.parametrize("make", [raising, raising_in_thread])
@pytest.mark.parametrize("name", ERRORS)
async def test_whatever_a_tool_raises_is_a_failed_call(
    server: MisbehavingServer, make: Any, name: str
) -> None:
    """The model is told, the call has ended once, and the run goes on."""
    error, words = ERRORS[name]
    output = await run(server, calls(piece(index=0, id="a", name="tool")), make(error))
    assert output.content == "done"
    assert [call.state for call in output.tools] == [ToolCallState.FAILED]
    assert words in answered(server)
    assert len(answered(server)) < MAX_RESULT + 200


async def test_a_keyboard_is_not_in_a_thread(server: MisbehavingServer) -> None:
    """A KeyboardInterrupt that a sync tool raises is its own, and ends no program."""
    tool = raising_in_thread(KeyboardInterrupt)
    output = await run(server, calls(piece(index=0, id="a", name="tool")), tool)
    assert (output.content, output.tools[0].state) == ("done", ToolCallState.FAILED)
    assert answered(server) == "Error: ToolFailed: it raised KeyboardInterrupt"


async def test_a_tool_that_cancels_its_own_task_is_a_failed_call(
    server: MisbehavingServer,
) -> None:
    """As a library's cancel scope does that has lost its way."""

    async def tool() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    output = await run(server, calls(piece(index=0, id="a", name="tool")), tool)
    assert (output.content, output.tools[0].state) == ("done", ToolCallState.FAILED)


async def test_a_tool_may_leave_its_interpreter_alone(server: MisbehavingServer) -> None:
    """sys.exit in a tool ends its call and not the server's loop: the next run goes on there."""

    async def tool() -> None:
        sys.exit(1)

    first = calls(piece(index=0, id="a", name="tool"))
    model = made(server)
    agent = Agent(name="exit", model=model, tools=[tool])
    server.script = lambda body, number: says("done") if number % 2 else first
    for _ in range(2):
        assert (await asyncio.to_thread(agent.run, "?")).content == "done"


RESULTS: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: None, "null"),
    "an empty text": (lambda: "", "(empty)"),
    "a file's name that is no UTF-8": (lambda: os.fsdecode(b"caf\xe9"), "caf\ufffd"),
    "bytes": (lambda: b"\xff\xfe", r"b'\xff\xfe'"),
    "an object": (object, '"<object'),
    "a list within itself": (within_itself, "[[...]]"),
    "a model that cannot be dumped": (Odd, "value=1"),
    "not a number": (lambda: float("nan"), "NaN"),
    "an object with odd keys": (lambda: {1: 2, None: 3}, '{"1":2,"None":3}'),
    "a long text": (lambda: "x" * 5_000_000, "of 5000000 characters are left out"),
    "a long list": (lambda: list(range(1_000_000)), "characters are left out"),
}


@pytest.mark.parametrize("name", RESULTS)
async def test_whatever_a_tool_returns_is_its_result(server: MisbehavingServer, name: str) -> None:
    """A result of any type and any size completes the call; what is too long is cut with a note."""
    result, words = RESULTS[name]

    async def tool() -> Any:
        return result()

    def in_thread() -> Any:
        return result()

    both = calls(piece(index=0, id="a", name="tool"), piece(index=1, id="b", name="in_thread"))
    output = await run(server, both, tool, in_thread)
    assert output.content == "done"
    assert [call.state for call in output.tools] == [ToolCallState.COMPLETED] * 2
    told = [m["content"] for m in server.requests[1].body["messages"] if m["role"] == "tool"]
    for text in told:
        assert words in text
        assert len(text) < MAX_RESULT + 200


async def test_a_stop_within_a_tool_is_a_stop(server: MisbehavingServer) -> None:
    """A tool that hears of the run's own cancel, and lets it through, ends with the run."""
    model = made(server)
    server.answers(*calls(piece(index=0, id="a", name="tool")))

    async def tool(ctx: RunContext) -> None:
        Agent.cancel_run(ctx.run_id, "enough", mode=CancelMode.IMMEDIATE)
        await asyncio.Event().wait()

    output = await Agent(name="stops", model=model, tools=[tool]).arun("?")
    assert (output.status, output.reason) == (RunStatus.cancelled, "enough")
    assert output.tools[0].state is ToolCallState.INTERRUPTED
