"""Google's `streamGenerateContent`, of the Gemini API and of Vertex AI.

Only what a request looks like; reading the answer lives in `gemini_answer`. The SDK makes the
request's address and its credentials. The body is ours, because the SDK takes no field that it does
not know, and parts must go back as they came.
"""

import json
import os
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import httpx2

from pullcord.extras import missing
from pullcord.models.base import (
    AssistantMessage,
    Media,
    Message,
    ModelRequest,
    Price,
    SystemMessage,
    ToolMessage,
    ToolRequest,
    UserMessage,
)

try:
    import google.genai as genai  # mypy finds it only so where it is missing
except ImportError as error:
    raise missing("Gemini", "google", error) from error

from pullcord.models.files import encoded
from pullcord.models.google.gemini_answer import GeminiAnswer
from pullcord.models.http import CannotAsk, HttpClient, HttpModel, trusted
from pullcord.models.reading.answer import Answer
from pullcord.models.reading.values import sent_arguments, sent_name
from pullcord.models.schemas import closed_schema
from pullcord.models.throttle import Throttle
from pullcord.run.message import Part

_sdk: Any = genai


_FILES = ("image/*", "audio/*", "video/*", "application/pdf")


class Gemini(HttpModel):
    """A model asked through `models/ID:streamGenerateContent`."""

    provider = "google"
    key_variable = "GEMINI_API_KEY"
    media = Media(data=_FILES, uri=(*_FILES, "text/*"))

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
        vertexai: bool = False,
        project: str | None = None,
        location: str | None = None,
    ) -> None:
        """Describes the model; nothing is connected before the first call.

        Args:
            id: Google's name of the model.
            api_key: None reads GEMINI_API_KEY, then GOOGLE_API_KEY.
            base_url: of a compatible server; None means Google.
            temperature: None leaves it to the provider.
            max_output_tokens: the most tokens one answer may have, thinking included.
            timeout: seconds that the model may say nothing, before its answer and within it; None
                is ten minutes.
            max_retries: how often a call that failed before its first chunk is tried again.
            price: of its tokens; None looks it up in the price list of genai-prices.
            extra: more fields of the request's JSON body, such as `{"safetySettings": […]}`. What
                is in `generationConfig` is added to ours. None as a value leaves a field out.
            throttle: turns that this model shares with others; None: it waits for none.
            media: the files that it takes: `Media(data=["image/*"])`, or `Media()` for none;
                None: all that the API takes.
            vertexai: ask Vertex AI, with the credentials of the environment or an `api_key`.
            project: of Vertex AI.
            location: of Vertex AI.

        Raises:
            ValueError: the timeout is not more than 0.
        """
        super().__init__(
            id,
            api_key=api_key
            or (None if vertexai else os.environ.get("GEMINI_API_KEY"))
            or (None if vertexai else os.environ.get("GOOGLE_API_KEY")),
            base_url=base_url,
            temperature=temperature,
            max_output_tokens=max_output_tokens,
            timeout=timeout,
            max_retries=max_retries,
            price=price,
            extra=extra,
            throttle=throttle,
            media=media,
        )
        self._vertex = {"vertexai": True, "project": project, "location": location}
        self._vertex = self._vertex if vertexai else {}

    def _lacks_key(self) -> bool:
        return not self._vertex and super()._lacks_key()

    def _make_client(self) -> Any:
        http = self._http_client()
        options: dict[str, Any] = {
            "httpx_async_client": http,
            "httpx_client": httpx2.Client(verify=trusted()),  # never used, and else made anew
            "retry_options": {"attempts": 1},  # ours can be interrupted
        }
        if self._base_url is not None:
            options["base_url"] = self._base_url
        key = self._api_key
        if not key and self._base_url is not None and not self._vertex:
            key = "none"  # the SDK insists on one; local servers ignore it
        try:
            made = _sdk.Client(api_key=key, http_options=options, **self._vertex)
        except ValueError as error:
            raise CannotAsk(str(error)) from error
        return _Both(made, http)

    async def _close_client(self, client: Any) -> None:
        await client.http.aclose()

    async def _send(self, client: Any, body: dict[str, Any]) -> Any:
        token = _body.set(json.dumps(body, ensure_ascii=False).encode())
        try:
            config = {"automatic_function_calling": {"disable": True}}
            answer = await client.sdk.aio.models.generate_content_stream(
                model=self.id, contents="-", config=config
            )
            await anext(answer, None)
        except _Answered as answered:
            return answered.response
        except (ValueError, TypeError) as error:
            raise CannotAsk(str(error)) from error
        finally:
            _body.reset(token)
        raise CannotAsk("the SDK of Google sent no request")

    def _answer(self, names: list[str], secrets: list[str]) -> Answer:
        return GeminiAnswer(self.provider, names, secrets)

    def _body(self, request: ModelRequest) -> dict[str, Any]:
        system = [m.text for m in request.messages if isinstance(m, SystemMessage) and m.text]
        body: dict[str, Any] = {"contents": _contents(request.messages)}
        if system:
            body["systemInstruction"] = {"parts": [{"text": "\n\n".join(system)}]}
        if request.tools:
            declared = [
                {"name": t.name, "description": t.description, "parametersJsonSchema": t.parameters}
                for t in request.tools
            ]
            body["tools"] = [{"functionDeclarations": declared}]
        config: dict[str, Any] = {}
        if request.output_schema is not None:
            config["responseMimeType"] = "application/json"
            config["responseJsonSchema"] = closed_schema(request.output_schema)
        if self.temperature is not None:
            config["temperature"] = self.temperature
        if self.max_output_tokens is not None:
            config["maxOutputTokens"] = self.max_output_tokens
        given = self.extra.get("generationConfig")
        if isinstance(given, Mapping):
            config |= given
        if config:
            body["generationConfig"] = config
        return body

    def _with_extra(self, body: dict[str, Any]) -> dict[str, Any]:
        extra = {**self.extra}
        if isinstance(extra.get("generationConfig"), Mapping):
            del extra["generationConfig"]  # which is in ours already
        return {**body, **extra}


class _Both:
    """The SDK's client, and the HTTP client that it uses and does not close."""

    def __init__(self, sdk: Any, http: HttpClient) -> None:
        self.sdk = sdk
        self.http = http


_body: ContextVar[bytes] = ContextVar("body")
"""The body of the request that this task sends."""


class _Answered(BaseException):
    """Carries the response out of the SDK before it is read; no `except Exception` sees it."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.response = response


class _Http(HttpClient):
    async def send(self, request: Any, **options: Any) -> Any:
        """Sends our body to where the SDK asks, and hands the answer to us."""
        body = _body.get(None)
        if body is None:  # credentials are fetched, for one
            return await super().send(request, **options)
        headers = [(k, v) for k, v in request.headers.multi_items() if k != "content-length"]
        ours = self.build_request(request.method, request.url, headers=headers, content=body)
        raise _Answered(await super().send(ours, stream=True))


Gemini._http = _Http


def _contents(messages: Iterable[Message]) -> list[dict[str, Any]]:
    """The conversation, in which messages of one side that follow each other are one."""
    made: list[dict[str, Any]] = []
    calls: dict[str, ToolRequest] = {}
    for message in messages:
        if isinstance(message, SystemMessage):
            continue
        if isinstance(message, AssistantMessage):
            calls.update({request.id: request for request in message.tool_requests})
        role = "model" if isinstance(message, AssistantMessage) else "user"
        if not made or made[-1]["role"] != role:
            made.append({"role": role, "parts": []})
        made[-1]["parts"] += _parts(message, calls)
    return [content for content in made if content["parts"]]


def _parts(message: Message, calls: Mapping[str, ToolRequest]) -> list[Any]:
    match message:
        case ToolMessage(request_id, text):
            called = calls.get(request_id)
            answer: dict[str, Any] = {
                "name": sent_name(called.name) if called else "unnamed",
                "response": {"result": text},
            }
            if called is not None and "id" in called.extra:
                answer["id"] = request_id
            return [{"functionResponse": answer}]
        case AssistantMessage(text, requests, kept):
            if isinstance(kept, list) and kept:  # signatures must stand where they stood
                return [*kept]
            said = [{"text": text}] if text else []
            return [*said, *({"functionCall": _call(request)} for request in requests)]
        case UserMessage(text, parts):
            return [*([{"text": text}] if text else []), *map(_part, parts)]
        case _:
            return []


def _part(part: Part) -> dict[str, Any]:
    if part.text is not None:
        return {"text": part.text}
    if part.data is not None:
        return {"inlineData": {"mimeType": part.kind, "data": encoded(part)}}
    return {"fileData": {"mimeType": part.kind, "fileUri": part.uri}}


def _call(request: ToolRequest) -> dict[str, Any]:
    call = {"name": sent_name(request.name), "args": json.loads(sent_arguments(request.arguments))}
    return {**call, **({"id": request.id} if "id" in request.extra else {})}
