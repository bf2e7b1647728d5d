"""OpenAI's Responses API.

Only what a request and a stream look like; connecting and retrying live in the connection module.
Nothing is kept at the provider between calls: every request carries the whole conversation.
"""

from collections.abc import AsyncGenerator, Iterator, Mapping
from typing import Any

import openai
from openai.types.responses import Response, ResponseStreamEvent, ResponseUsage

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


class OpenAIResponses(OpenAIModel):
    """A model asked through `/responses`."""

    async def _attempt(
        self, client: openai.AsyncOpenAI, request: ModelRequest
    ) -> AsyncGenerator[ModelChunk, None]:
        ended = False
        stream: Any = client.responses.create(**self._body(request))
        async with opened(stream) as events:
            async for event in events:
                for chunk in self._chunks(event):
                    ended = isinstance(chunk, Finished)
                    yield chunk
        if not ended:
            raise ModelError("the model's provider broke off its answer", provider="openai")

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.id,
            "input": [item for message in request.messages for item in _items(message)],
            "stream": True,
            "store": False,
            "extra_body": self.extra,
        }
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.parameters,
                    "strict": False,  # strict forbids optional parameters
                }
                for tool in request.tools
            ]
        if request.output_schema is not None:
            form = output_format(request.output_schema)
            body["text"] = {"format": {"type": "json_schema", **form}}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_output_tokens is not None:
            body["max_output_tokens"] = self.max_output_tokens
        return body

    def _chunks(self, event: ResponseStreamEvent) -> Iterator[ModelChunk]:
        """What an event says; most of the API's many events only repeat others."""
        match event.type:
            case "response.output_text.delta" | "response.refusal.delta":
                yield Text(event.delta)
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
                yield Reasoning(event.delta)
            case "response.output_item.done":
                # Carries id, name and arguments; the events of the arguments lack the first two.
                if event.item.type == "function_call":
                    yield ToolRequest(event.item.call_id, event.item.name, event.item.arguments)
            case "response.completed":
                yield from self._end(event.response, "stop")
            case "response.incomplete":
                details = event.response.incomplete_details
                yield from self._end(event.response, (details and details.reason) or "incomplete")
            case "response.failed":
                error = event.response.error
                raise _failure(error.message if error else "")
            case "error":
                raise _failure(event.message)

    def _end(self, response: Response, reason: str) -> Iterator[ModelChunk]:
        if response.usage is not None:
            yield self._usage(response.usage)
        yield Finished(reason)

    def _usage(self, told: ResponseUsage) -> Usage:
        spent: Any = told.output_tokens_details  # compatible servers may leave the details out
        sent: Any = told.input_tokens_details
        return self.priced(
            Usage(
                input_tokens=told.input_tokens,
                output_tokens=told.output_tokens,
                reasoning_tokens=(spent.reasoning_tokens or 0) if spent else 0,
                cached_tokens=(sent.cached_tokens or 0) if sent else 0,
            )
        )


def _failure(said: str) -> ModelError:
    return ModelError(
        f"the model's provider failed: {said[:1000] or 'it gave no reason'}", provider="openai"
    )


def _items(message: Message) -> Iterator[Mapping[str, Any]]:
    match message:
        case SystemMessage(text):
            yield {"role": "system", "content": text}
        case UserMessage(text):
            yield {"role": "user", "content": text}
        case ToolMessage(request_id, text):
            yield {"type": "function_call_output", "call_id": request_id, "output": text}
        case AssistantMessage(text, requests):
            if text:
                yield {"role": "assistant", "content": text}
            for call in requests:
                # Without the provider's item id, which would have it look for the reasoning item
                # that came before and that nobody stored.
                yield {
                    "type": "function_call",
                    "call_id": call.id,
                    "name": call.name,
                    "arguments": call.arguments,
                }
