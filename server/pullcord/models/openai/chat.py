"""OpenAI's Chat Completions API, which most other providers speak too.

Only what a request looks like; connecting lives in the connection module, and reading the answer in
`chat_answer`.
"""

from collections.abc import Mapping
from typing import Any

from pullcord.models.base import (
    AssistantMessage,
    Media,
    Message,
    ModelRequest,
    SystemMessage,
    ToolMessage,
    ToolRequest,
    UserMessage,
)
from pullcord.models.files import address, encoded, family, file_name
from pullcord.models.openai.chat_answer import ChatAnswer
from pullcord.models.openai.connection import OpenAIModel
from pullcord.models.openai.schemas import output_format
from pullcord.models.reading.answer import Answer
from pullcord.models.reading.values import sent_arguments, sent_name
from pullcord.run.message import Part


class OpenAIChat(OpenAIModel):
    """A model asked through `/chat/completions`."""

    _path = "/chat/completions"
    media = Media(
        data=(
            "image/*",
            "application/pdf",
            "audio/wav",
            "audio/x-wav",
            "audio/mpeg",
            "audio/mp3",
        ),
        uri=("image/*",),
    )

    def _answer(self, names: list[str], secrets: list[str]) -> Answer:
        return ChatAnswer("openai", names, secrets, think_tags=self._think_tags)

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.id,
            "messages": [_message(message) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
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


def _message(message: Message) -> Mapping[str, Any]:
    match message:
        case SystemMessage(text):
            return {"role": "system", "content": text}
        case UserMessage(text, ()):
            return {"role": "user", "content": text}
        case UserMessage(text, parts):
            said = [{"type": "text", "text": text}] if text else []
            return {"role": "user", "content": [*said, *map(_part, parts)]}
        case ToolMessage(request_id, text):
            return {"role": "tool", "tool_call_id": request_id, "content": text}
        case AssistantMessage(text, ()):
            return {"role": "assistant", "content": text}
        case AssistantMessage(text, requests, kept):
            calls = [_call(request) for request in requests]
            own = kept if isinstance(kept, Mapping) else {}
            return {"role": "assistant", "content": text or None, "tool_calls": calls, **own}


def _part(part: Part) -> Mapping[str, Any]:
    if part.text is not None:
        return {"type": "text", "text": part.text}
    match family(part):
        case "image":
            return {"type": "image_url", "image_url": {"url": address(part)}}
        case "video":  # of servers that are no OpenAI
            return {"type": "video_url", "video_url": {"url": address(part)}}
        case "audio" if part.data is not None:
            form = "wav" if part.kind.endswith("wav") else "mp3"
            sound = {"data": encoded(part), "format": _FORMATS.get(part.kind, form)}
            return {"type": "input_audio", "input_audio": sound}
        case _:
            file = {"filename": file_name(part), "file_data": address(part)}
            return {"type": "file", "file": file}


_FORMATS = {"audio/flac": "flac", "audio/ogg": "ogg", "audio/aac": "aac", "audio/mp4": "m4a"}
"""Of servers that are no OpenAI."""


def _call(request: ToolRequest) -> Mapping[str, Any]:
    """The call as the provider made it, with valid arguments whatever the model wrote."""
    function = {
        **(request.extra.get("function") or {}),
        "name": sent_name(request.name),
        "arguments": sent_arguments(request.arguments),
    }
    return {"type": "function", **request.extra, "id": request.id, "function": function}
