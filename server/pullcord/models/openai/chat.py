"""OpenAI's Chat Completions API, which most other providers speak too.

Only what a request and a stream look like; connecting and retrying live in the connection module.
"""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from typing import Any

import openai
from openai.types import CompletionUsage
from openai.types.chat.chat_completion_chunk import ChoiceDelta, ChoiceDeltaToolCall

from pullcord.models.base import (
    AssistantMessage,
    Finished,
    Message,
    ModelChunk,
    ModelError,
    ModelRequest,
    Reasoning,
    SystemMessage,
    Text,
    ToolMessage,
    ToolRequest,
    UserMessage,
)
from pullcord.models.openai.connection import OpenAIModel, opened
from pullcord.models.openai.schemas import output_format
from pullcord.run.usage import Usage


class OpenAIChat(OpenAIModel):
    """A model asked through `/chat/completions`."""

    async def _attempt(
        self, client: openai.AsyncOpenAI, request: ModelRequest
    ) -> AsyncGenerator[ModelChunk, None]:
        tools = _ToolRequests()
        usage: CompletionUsage | None = None
        finish_reason = ""
        stream: Any = client.chat.completions.create(**self._body(request))
        async with opened(stream) as chunks:
            async for chunk in chunks:
                usage = chunk.usage or usage  # the last one counts: some servers send a running sum
                for choice in chunk.choices or ():
                    for said in _said(choice.delta):
                        yield said
                    tools.add(choice.delta.tool_calls or ())
                    finish_reason = choice.finish_reason or finish_reason
        if not finish_reason:
            raise ModelError("the model's provider broke off its answer", provider="openai")
        for call in tools.whole():
            yield call
        if usage is not None:
            yield self._usage(usage)
        yield Finished(finish_reason)

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.id,
            "messages": [_message(message) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "extra_body": self.extra,
        }
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "function": {
                        "name": tool.name,
                        "description": tool.description,
                        "parameters": tool.parameters,
                    },
                }
                for tool in request.tools
            ]
        if request.output_schema is not None:
            form = output_format(request.output_schema)
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_output_tokens is not None:
            body["max_completion_tokens"] = self.max_output_tokens
        return body

    def _usage(self, told: CompletionUsage) -> Usage:
        spent, sent = told.completion_tokens_details, told.prompt_tokens_details
        return self.priced(
            Usage(
                input_tokens=told.prompt_tokens or 0,
                output_tokens=told.completion_tokens or 0,
                reasoning_tokens=(spent.reasoning_tokens or 0) if spent else 0,
                cached_tokens=(sent.cached_tokens or 0) if sent else 0,
            )
        )


def _said(delta: ChoiceDelta) -> Iterator[Text | Reasoning]:
    # OpenAI shows no reasoning here; compatible servers do, in a field of either name.
    reasoning = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
    if isinstance(reasoning, str) and reasoning:
        yield Reasoning(reasoning)
    if delta.content:
        yield Text(delta.content)
    if delta.refusal:
        yield Text(delta.refusal)


class _ToolRequests:
    """Puts tool calls together from their pieces."""

    def __init__(self) -> None:
        self._parts: list[dict[str, str]] = []
        self._at: dict[int | None, dict[str, str]] = {}

    def add(self, pieces: Iterable[ChoiceDeltaToolCall]) -> None:
        for piece in pieces:
            part = self._at.get(piece.index)
            # Some servers give every call of an answer the index 0, but each an id of its own.
            if part is None or (piece.id and part["id"] and piece.id != part["id"]):
                part = {"id": "", "name": "", "arguments": ""}
                self._parts.append(part)
                self._at[piece.index] = part
            part["id"] = part["id"] or piece.id or ""
            if piece.function is not None:
                part["name"] = part["name"] or piece.function.name or ""
                part["arguments"] += piece.function.arguments or ""

    def whole(self) -> Iterator[ToolRequest]:
        for number, part in enumerate(self._parts):
            yield ToolRequest(part["id"] or f"call_{number}", part["name"], part["arguments"])


def _message(message: Message) -> Mapping[str, Any]:
    match message:
        case SystemMessage(text):
            return {"role": "system", "content": text}
        case UserMessage(text):
            return {"role": "user", "content": text}
        case ToolMessage(request_id, text):
            return {"role": "tool", "tool_call_id": request_id, "content": text}
        case AssistantMessage(text, ()):
            return {"role": "assistant", "content": text}
        case AssistantMessage(text, requests):
            calls = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in requests
            ]
            return {"role": "assistant", "content": text or None, "tool_calls": calls}
