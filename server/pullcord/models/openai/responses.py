"""OpenAI's Responses API.

Only what a request looks like; connecting lives in the connection module, and reading the answer in
`responses_answer`. Nothing is kept at the provider between calls: every request carries the whole
conversation.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pullcord.models.base import (
    AssistantMessage,
    Media,
    Message,
    ModelRequest,
    SystemMessage,
    ToolMessage,
    UserMessage,
)
from pullcord.models.files import address, family, file_name
from pullcord.models.openai.connection import OpenAIModel
from pullcord.models.openai.responses_answer import ResponsesAnswer
from pullcord.models.openai.schemas import output_format
from pullcord.models.reading.answer import Answer
from pullcord.models.reading.values import sent_arguments, sent_name
from pullcord.run.message import Part


class OpenAIResponses(OpenAIModel):
    """A model asked through `/responses`."""

    _path = "/responses"
    media = Media(data=("image/*", "application/*"), uri=("image/*", "application/*", "text/*"))

    def _answer(self, names: list[str], secrets: list[str]) -> Answer:
        return ResponsesAnswer(
            "openai",
            names,
            secrets,
            keeps_reasoning=not self._is_openai,
            think_tags=self._think_tags,
        )

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.id,
            "input": [item for message in request.messages for item in _items(message)],
            "stream": True,
            "store": False,
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


def _items(message: Message) -> Iterator[Mapping[str, Any]]:
    match message:
        case SystemMessage(text):
            yield {"role": "system", "content": text}
        case UserMessage(text, ()):
            yield {"role": "user", "content": text}
        case UserMessage(text, parts):
            said = [{"type": "input_text", "text": text}] if text else []
            yield {"role": "user", "content": [*said, *map(_part, parts)]}
        case ToolMessage(request_id, text):
            yield {"type": "function_call_output", "call_id": request_id, "output": text}
        case AssistantMessage(text, requests, kept):
            yield from kept if isinstance(kept, list) else ()
            if text:
                yield {"role": "assistant", "content": text}
            for call in requests:
                # Without the provider's item id, which would have it look for the reasoning item
                # that came before and that nobody stored.
                yield {
                    **call.extra,
                    "type": "function_call",
                    "call_id": call.id,
                    "name": sent_name(call.name),
                    "arguments": sent_arguments(call.arguments),
                }


def _part(part: Part) -> Mapping[str, Any]:
    if part.text is not None:
        return {"type": "input_text", "text": part.text}
    if family(part) == "image":
        return {"type": "input_image", "image_url": address(part), "detail": "auto"}
    if part.data is None:
        return {"type": "input_file", "file_url": part.uri}
    return {"type": "input_file", "filename": file_name(part), "file_data": address(part)}
