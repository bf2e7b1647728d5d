"""The OpenAI models against a server that speaks the real protocol, through the real client."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from pullcord.models.anthropic import Claude
from pullcord.models.base import (
    AssistantMessage,
    Finished,
    Model,
    ModelChunk,
    ModelError,
    ModelRequest,
    Reasoning,
    SystemMessage,
    Text,
    ToolDefinition,
    ToolMessage,
    ToolRequest,
    UserMessage,
)
from pullcord.models.google import Gemini
from pullcord.models.openai import OpenAIChat, OpenAIResponses
from pullcord.run.usage import Usage

from tests.openai_server import (
    Break,
    Call,
    Count,
    Fail,
    Gate,
    Hang,
    OpenAIServer,
    Refuse,
    Silence,
    Stop,
    Think,
)
from tests.steady import steady

ASK = ModelRequest((UserMessage("hello"),))


@pytest.fixture
def server() -> Iterator[OpenAIServer]:
    with OpenAIServer() as server:
        yield server


@pytest.fixture(params=[OpenAIChat, OpenAIResponses])
async def model(request: pytest.FixtureRequest, server: OpenAIServer) -> AsyncIterator[Model]:
    model = request.param(id="gpt-5-mini", base_url=server.base_url)
    yield model
    await model.aclose()


A_MOMENT = 0.3
"""Seconds: far more than the milliseconds that are meant, far less than a provider's silence."""


async def everything(model: Model, request: ModelRequest = ASK) -> list[ModelChunk]:
    return [chunk async for chunk in model.stream(request)]


async def until(event: Any) -> None:
    assert await asyncio.to_thread(event.wait, 30)


async def test_an_answer_comes_as_text_then_exact_usage_then_the_end(
    server: OpenAIServer, model: Model
) -> None:
    """A model's answer comes piece by piece; its last chunks are the exact usage and the end."""
    server.script("one two", Count(100, 20, cached_tokens=30, reasoning_tokens=5))
    *said, usage, end = await everything(model)
    assert said == [Text("one"), Text(" two")]
    assert isinstance(usage, Usage)
    assert (usage.input_tokens, usage.output_tokens) == (100, 20)
    assert (usage.cached_tokens, usage.reasoning_tokens) == (30, 5)
    assert usage.cost == pytest.approx(model.cost(usage))
    assert usage.cost > 0
    assert not usage.estimated
    assert end == Finished("stop")


async def test_reasoning_is_told_apart(server: OpenAIServer, model: Model) -> None:
    """Reasoning that a provider shows comes as reasoning, not as text."""
    server.script(Think("hm"), "yes")
    assert (await everything(model))[:2] == [Reasoning("hm"), Text("yes")]


async def test_tool_requests_come_whole(server: OpenAIServer, model: Model) -> None:
    """A tool request comes once, with all of its arguments; several come in their order."""
    server.script("let me see", Call("add", {"a": 1, "b": 2}), Call("now", "not json", id="c9"))
    requests = [c for c in await everything(model) if isinstance(c, ToolRequest)]
    assert requests == [
        ToolRequest("call_0", "add", '{"a": 1, "b": 2}'),
        ToolRequest("c9", "now", "not json"),
    ]


CONVERSATION = ModelRequest(
    (
        SystemMessage("be kind"),
        UserMessage("1+2?"),
        AssistantMessage("wait", (ToolRequest("c1", "add", "{}"),)),
        ToolMessage("c1", "3"),
        AssistantMessage("3"),
        UserMessage("thanks"),
    ),
    (ToolDefinition("add", "Adds.", {"type": "object", "properties": {}}),),
)


async def test_a_conversation_as_chat_sends_it(server: OpenAIServer) -> None:
    """Chat gets the conversation as messages, tools as functions, and extra fields as they are."""
    model = OpenAIChat(
        id="m",
        base_url=server.base_url,
        api_key="secret",
        temperature=0.5,
        max_output_tokens=7,
        extra={"reasoning_effort": "low"},
    )
    await everything(model, CONVERSATION)
    await model.aclose()
    exchange = server.exchange(0)
    assert exchange.path == "/v1/chat/completions"
    assert exchange.headers["authorization"] == "Bearer secret"
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    function = {
        "name": "add",
        "description": "Adds.",
        "parameters": {"type": "object", "properties": {}},
    }
    assert exchange.body == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "1+2?"},
            {"role": "assistant", "content": "wait", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "3"},
            {"role": "assistant", "content": "3"},
            {"role": "user", "content": "thanks"},
        ],
        "tools": [{"type": "function", "function": function}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_completion_tokens": 7,
        "reasoning_effort": "low",
    }


async def test_a_conversation_as_responses_sends_it(server: OpenAIServer) -> None:
    """Responses gets the conversation as items, and is asked to store nothing."""
    model = OpenAIResponses(id="m", base_url=server.base_url, max_output_tokens=7, extra={"x": 1})
    await everything(model, CONVERSATION)
    await model.aclose()
    exchange = server.exchange(0)
    assert exchange.path == "/v1/responses"
    assert exchange.body == {
        "model": "m",
        "input": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": "1+2?"},
            {"role": "assistant", "content": "wait"},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "3"},
            {"role": "assistant", "content": "3"},
            {"role": "user", "content": "thanks"},
        ],
        "tools": [
            {
                "type": "function",
                "name": "add",
                "description": "Adds.",
                "parameters": {"type": "object", "properties": {}},
                "strict": False,
            }
        ],
        "stream": True,
        "store": False,
        "max_output_tokens": 7,
        "x": 1,
    }


async def test_a_provider_that_does_not_count(server: OpenAIServer, model: Model) -> None:
    """Where the provider tells no usage, there is no usage chunk."""
    server.script("yes", Count(None))
    assert await everything(model) == [Text("yes"), Finished("stop")]


async def test_an_answer_cut_by_its_length_says_so(server: OpenAIServer, model: Model) -> None:
    """An answer that reaches the provider's limit ends with a reason other than `stop`."""
    server.script("y", Stop("length"))
    end = (await everything(model))[-1]
    assert end in (Finished("length"), Finished("max_output_tokens"))


async def test_a_refusal_says_whose_fault_it_is(server: OpenAIServer, model: Model) -> None:
    """A request that the provider refuses fails at once, with its status and its words."""
    server.script(Refuse(400, "no such model"))
    with pytest.raises(ModelError, match="400: no such model") as caught:
        await everything(model)
    assert (caught.value.status, caught.value.provider) == (400, "openai")
    assert len(server.exchanges) == 1


async def test_a_bad_key_is_not_repeated_to_callers(server: OpenAIServer, model: Model) -> None:
    """The message of a refused key holds nothing that the provider said about the key."""
    server.script(Refuse(401, "Incorrect API key provided: sk-12***89"))
    with pytest.raises(ModelError, match="credentials") as caught:
        await everything(model)
    assert "sk-" not in str(caught.value)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
async def test_what_may_pass_is_tried_again(
    server: OpenAIServer, model: Model, status: int
) -> None:
    """A refusal that may pass is tried again, after as long as the provider asks for."""
    server.script(Refuse(status, retry_after="0.01"))
    server.script("yes")
    assert (await everything(model))[0] == Text("yes")
    assert len(server.exchanges) == 2


async def test_retries_come_to_an_end(server: OpenAIServer, model: Model) -> None:
    """After `max_retries` repetitions the last refusal is the answer."""
    for _ in range(3):
        server.script(Refuse(429, "slow down", retry_after="0"))
    with pytest.raises(ModelError, match="429: slow down"):
        await everything(model)
    assert len(server.exchanges) == 3


async def test_a_provider_that_wants_us_gone_for_long(server: OpenAIServer, model: Model) -> None:
    """A provider that asks for more than two minutes' patience is not asked again."""
    server.script(Refuse(429, "quota", retry_after="3600"))
    with pytest.raises(ModelError, match="429: quota"):
        await everything(model)
    assert len(server.exchanges) == 1


async def test_nothing_is_repeated_once_something_was_said(
    server: OpenAIServer, model: Model
) -> None:
    """A stream that breaks after its first chunk is an error, and never begun again."""
    server.script("one two", Break(torn=True))
    async with aclosing(model.stream(ASK)) as stream:
        assert [await anext(stream), await anext(stream)] == [Text("one"), Text(" two")]
        with pytest.raises(ModelError, match="connection"):
            await anext(stream)
    assert len(server.exchanges) == 1


async def test_an_end_without_an_end_is_an_error(server: OpenAIServer, model: Model) -> None:
    """A stream that just stops, without saying that it is finished, is an error."""
    server.script("one", Break())
    with pytest.raises(ModelError, match="broke off"):
        await everything(model)


async def test_an_error_in_the_stream_is_an_error(server: OpenAIServer, model: Model) -> None:
    """An error that the provider reports in the middle of its answer is raised, in its words."""
    server.script("one", Fail("overheated"))
    with pytest.raises(ModelError, match="overheated"):
        await everything(model)


async def test_nobody_there() -> None:
    """A provider that cannot be reached is an error that names no address."""
    with OpenAIServer() as gone:
        pass
    model = OpenAIChat(id="m", base_url=gone.base_url, max_retries=0)
    with pytest.raises(ModelError, match="connection to the model's provider failed"):
        await everything(model)
    await model.aclose()


@steady
async def test_silence_has_a_limit(server: OpenAIServer) -> None:
    """A provider that is silent for longer than `timeout` is given up."""
    server.script(Hang())
    model = OpenAIChat(id="m", base_url=server.base_url, timeout=0.3, max_retries=0)
    with pytest.raises(ModelError, match="in time"):
        await everything(model)
    await model.aclose()
    assert server.exchanges  # else it has not even come to be asked
    await until(server.exchanges[-1].left)


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        (OpenAIChat, "OPENAI_API_KEY"),
        (OpenAIResponses, "OPENAI_API_KEY"),
        (Claude, "ANTHROPIC_API_KEY"),
        (Gemini, "GEMINI_API_KEY"),
    ],
)
async def test_no_key(
    kind: Callable[..., Model], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a key and without a server of one's own, the first call names the variable for it."""
    for name in ("OPENAI", "ANTHROPIC", "GEMINI", "GOOGLE"):
        monkeypatch.delenv(f"{name}_API_KEY", raising=False)
        monkeypatch.delenv(f"{name}_BASE_URL", raising=False)
    model = kind(id="m")
    with pytest.raises(
        ModelError, match=f"'m' has no API key. Set the variable {variable}"
    ) as raised:
        await everything(model)
    await model.aclose()
    assert raised.value.says_all


async def test_the_environment_says_where(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPENAI_BASE_URL and OPENAI_API_KEY hold where the arguments say nothing."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
    monkeypatch.setenv("OPENAI_API_KEY", "from-environment")
    model = OpenAIChat(id="m")
    await everything(model)
    await model.aclose()
    assert server.exchange(0).headers["authorization"] == "Bearer from-environment"


@pytest.mark.parametrize("script", [(Hang(),), (Silence(),), ("one", Silence())])
@steady
async def test_a_cancel_closes_the_connection_of_a_silent_model(
    server: OpenAIServer, model: Model, script: tuple[Any, ...]
) -> None:
    """Cancelling the task that waits for a silent model closes its connection at once."""
    server.script(*script)
    number = len(server.exchanges)
    task = asyncio.create_task(everything(model))
    exchange = await asyncio.to_thread(server.exchange, number)
    if not isinstance(script[0], Hang):
        await until(exchange.begun)
    asked = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(exchange.left)
    assert exchange.left_time - asked < A_MOMENT
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_the_stream_closes_the_connection(server: OpenAIServer, model: Model) -> None:
    """Closing the generator after a chunk closes the connection at once."""
    server.script("one", Silence())
    async with aclosing(model.stream(ASK)) as stream:
        assert await anext(stream) == Text("one")
    exchange = server.exchange(0)
    await until(exchange.left)


@steady
async def test_a_back_off_can_be_interrupted(server: OpenAIServer, model: Model) -> None:
    """A cancel during the wait before a retry takes effect at once."""
    server.script(Refuse(429, retry_after="60"))
    number = len(server.exchanges)
    task = asyncio.create_task(everything(model))
    exchange = await asyncio.to_thread(server.exchange, number)
    await until(exchange.ended)
    asked = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - asked < A_MOMENT
    assert len(server.exchanges) == number + 1


async def test_connections_are_kept_for_the_next_call(server: OpenAIServer, model: Model) -> None:
    """Calls one after the other share a connection; closing the model closes it."""
    await everything(model)
    await everything(model)
    assert server.open_connections == 1


def test_each_event_loop_has_its_own_connections(server: OpenAIServer) -> None:
    """One model serves several event loops, one after the other, and leaves none a connection."""
    model = OpenAIChat(id="m", base_url=server.base_url)
    for _ in range(2):
        assert asyncio.run(everything(model))[-1] == Finished("stop")
    gc.collect()  # an unclosed transport would warn, and warnings are errors


async def test_many_at_once(server: OpenAIServer, model: Model) -> None:
    """Many calls of one model run side by side."""
    gate = Gate()
    for _ in range(20):
        server.script(gate, "yes")
    calls = [asyncio.create_task(everything(model)) for _ in range(20)]
    await asyncio.to_thread(server.exchange, 19)
    gate.open()
    for said in await asyncio.gather(*calls):
        assert said[0] == Text("yes")


async def test_an_address_that_is_none() -> None:
    """A base_url that is no address is a mistake, said at once and not tried again."""
    for wrong in ("127.0.0.1:8000", "ftp://x/v1"):
        model = OpenAIChat(id="m", base_url=wrong)
        with pytest.raises(ModelError, match="cannot be asked: its base_url"):
            await everything(model)
        await model.aclose()


async def test_a_key_from_a_file(server: OpenAIServer) -> None:
    """Blanks and line ends around a key do not matter."""
    model = OpenAIChat(id="m", base_url=server.base_url, api_key=" sk-1\n")
    await everything(model)
    await model.aclose()
    assert server.exchange(0).headers["authorization"] == "Bearer sk-1"
