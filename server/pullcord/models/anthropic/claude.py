"""Anthropic's Messages API.

Only what a request looks like; reading the answer lives in `claude_answer`.
"""

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

from pullcord.extras import missing
from pullcord.models.base import (
    AssistantMessage,
    Media,
    Message,
    ModelRequest,
    Price,
    SystemMessage,
    ToolMessage,
    UserMessage,
)

try:
    import anthropic
except ImportError as error:
    raise missing("Claude", "anthropic", error) from error

from pullcord.models.anthropic.claude_answer import ClaudeAnswer
from pullcord.models.files import encoded, family
from pullcord.models.reading.answer import Answer
from pullcord.models.reading.values import sent_arguments, sent_name
from pullcord.models.schemas import closed_schema
from pullcord.models.stainless import StainlessModel
from pullcord.models.throttle import Throttle
from pullcord.run.message import Part

_MOST_TOKENS = 8192
"""The API requires a limit; older models take no more."""


_FILES = ("image/jpeg", "image/png", "image/gif", "image/webp", "application/pdf")


class Claude(StainlessModel):
    """A model asked through `/v1/messages`."""

    provider = "anthropic"
    key_variable = "ANTHROPIC_API_KEY"
    _sdk = anthropic
    _path = "/v1/messages"
    media = Media(data=_FILES, uri=_FILES)

    def __init__(
        self,
        id: str,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
        temperature: float | None = None,
        max_output_tokens: int | None = None,
        timeout: float | None = None,
        max_retries: int = 2,
        price: Price | None = None,
        extra: Mapping[str, Any] | None = None,
        throttle: Throttle | None = None,
        media: Media | None = None,
    ) -> None:
        """Describes the model; nothing is connected before the first call.

        Args:
            id: Anthropic's name of the model.
            api_key: None reads ANTHROPIC_API_KEY.
            base_url: of a compatible server; None reads ANTHROPIC_BASE_URL, then means Anthropic.
            temperature: None leaves it to the provider.
            max_output_tokens: the most tokens one answer may have; None is 8,192.
            timeout: seconds that the model may say nothing, before its answer and within it; None
                is ten minutes.
            max_retries: how often a call that failed before its first chunk is tried again.
            price: of its tokens; None looks it up in the price list of genai-prices.
            extra: more fields of the request's JSON body, such as
                `{"thinking": {"type": "enabled", "budget_tokens": 2048}}`. None as a value leaves
                the field out.
            throttle: turns that this model shares with others; None: it waits for none.
            media: the files that it takes: `Media(data=["image/*"])`, or `Media()` for none;
                None: all that the API takes.

        Raises:
            ValueError: the timeout is not more than 0.
        """
        super().__init__(
            id,
            api_key=api_key or os.environ.get("ANTHROPIC_API_KEY"),
            base_url=base_url or os.environ.get("ANTHROPIC_BASE_URL") or None,
            temperature=temperature,
            max_output_tokens=max_output_tokens,
            timeout=timeout,
            max_retries=max_retries,
            price=price,
            extra=extra,
            throttle=throttle,
            media=media,
        )

    def _make_client(self) -> Any:
        key = self._api_key
        if not key and self._base_url is not None:
            key = "none"  # the SDK insists on one; local servers ignore it
        return anthropic.AsyncAnthropic(
            api_key=key,
            base_url=self._base_url,
            max_retries=0,  # ours can be interrupted and stop at the first chunk
            http_client=self._http_client(),
        )

    def _answer(self, names: list[str], secrets: list[str]) -> Answer:
        return ClaudeAnswer(self.provider, names, secrets)

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        system = [m.text for m in request.messages if isinstance(m, SystemMessage) and m.text]
        body: dict[str, Any] = {
            "model": self.id,
            "max_tokens": self.max_output_tokens or _MOST_TOKENS,
            "messages": _messages(request.messages),
            "stream": True,
        }
        if system:
            body["system"] = "\n\n".join(system)
        if request.tools:
            body["tools"] = [
                {"name": t.name, "description": t.description, "input_schema": t.parameters}
                for t in request.tools
            ]
        if request.output_schema is not None:
            schema = closed_schema(request.output_schema)
            body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        return body


def _messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The conversation, in which messages of one side that follow each other are one message."""
    made: list[dict[str, Any]] = []
    for message in messages:
        if isinstance(message, SystemMessage):
            continue
        role = "assistant" if isinstance(message, AssistantMessage) else "user"
        if not made or made[-1]["role"] != role:
            made.append({"role": role, "content": []})
        made[-1]["content"] += _blocks(message)
    return [message for message in made if message["content"]]


def _blocks(message: Message) -> list[Mapping[str, Any]]:
    match message:
        case ToolMessage(request_id, text):
            return [{"type": "tool_result", "tool_use_id": request_id, "content": text}]
        case AssistantMessage(text, requests, kept):
            calls = {
                call.id: {
                    **call.extra,
                    "type": "tool_use",
                    "id": call.id,
                    "name": sent_name(call.name),
                    "input": json.loads(sent_arguments(call.arguments)),
                }
                for call in requests
            }
            if isinstance(kept, list):  # signed thinking must stand where it stood
                return [_kept(block, calls) for block in kept]
            said = [{"type": "text", "text": text}] if text.strip() else []
            return [*said, *calls.values()]
        case UserMessage(text, parts):
            said = [{"type": "text", "text": text}] if text.strip() else []
            return [
                *said,
                *(_part(part) for part in parts if part.text is None or part.text.strip()),
            ]
        case _:
            return []


def _part(part: Part) -> Mapping[str, Any]:
    if part.text is not None:
        return {"type": "text", "text": part.text}
    source = {"type": "url", "url": part.uri}
    if part.data is not None:
        source = {"type": "base64", "media_type": part.kind, "data": encoded(part)}
    if family(part) == "image":
        return {"type": "image", "source": source}
    name = {"title": part.name} if part.name else {}
    return {"type": "document", "source": source, **name}


def _kept(block: Any, calls: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    if isinstance(block, str):  # the place of a call
        return calls.get(block, {"type": "text", "text": "(a call)"})
    made: Mapping[str, Any] = block
    return made
