"""What both OpenAI models share: the client, the request, the connection's failures, the prices.

One client a running event loop, because a connection pool belongs to its loop. Nothing here knows
what a request or a stream's events look like.
"""

import asyncio
import os
import threading
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from pullcord.models.base import Model, ModelChunk, ModelError, ModelRequest, Price
from pullcord.models.openai.prices import cost
from pullcord.models.reading.answer import Answer, Interrupted, read_answer
from pullcord.models.reading.failures import (
    failure_in,
    fit,
    model_error,
    parsed_body,
    retry_after,
)
from pullcord.models.reading.text import sendable
from pullcord.models.retrying import retried
from pullcord.run.usage import Usage

try:
    import openai
except ImportError as missing:
    raise ImportError(
        "OpenAI models need the openai package: pip install 'pullcord[openai]'"
    ) from missing

_PROVIDER = "openai"
_SILENCE, _CONNECT = 600.0, 10.0
_ERROR_BODY, _ERROR_WAIT = 64 * 1024, 1.0
"""Bytes of an error's body that are read, and seconds that it may take."""


class OpenAIModel(Model):
    """A model of OpenAI or of a compatible server; how it is asked is the subclass's business."""

    _path: str

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
    ) -> None:
        """Describes the model; nothing is connected before the first call.

        Args:
            id: the provider's name of the model.
            api_key: None reads OPENAI_API_KEY; a `base_url` of your own works without any.
            base_url: of a compatible server; None reads OPENAI_BASE_URL, then means OpenAI.
            temperature: None leaves it to the provider.
            max_output_tokens: the most tokens one answer may have, reasoning included.
            timeout: seconds that the model may say nothing, before its answer and within it; None
                is ten minutes. What only keeps the connection alive, such as comments, is silence.
            max_retries: how often a call that failed before its first chunk is tried again.
            price: of its tokens; None looks it up in the price list of genai-prices.
            extra: more fields of the request's JSON body, such as `{"reasoning_effort": "low"}`.
                None as a value leaves the field out: `{"stream_options": None}`.

        Raises:
            ValueError: the timeout is not more than 0.
        """
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
        self.id = id
        self.temperature = temperature
        self.max_output_tokens = max_output_tokens
        self.max_retries = max_retries
        self.extra = dict(extra or {})
        self._price = price
        self._api_key = api_key
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        self._timeout = _SILENCE if timeout is None else timeout
        self._clients = _LoopClients()

    @abstractmethod
    def _body(self, request: ModelRequest) -> dict[str, Any]:
        """The request's JSON, without what `extra` says."""

    @abstractmethod
    def _answer(self, names: list[str], secrets: list[str]) -> Answer:
        """Takes the answer's frames; `names` are those of the tools on offer."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Asks the model; a try that fails before its first chunk is repeated."""
        async for chunk in retried(lambda: self._attempt(request), self.max_retries, _PROVIDER):
            yield self._priced(chunk) if isinstance(chunk, Usage) else chunk

    def cost(self, usage: Usage) -> float | None:
        """By the price given, else by the list of genai-prices where it knows the model."""
        if self._price is not None:
            return self._price.of(usage)
        return cost(self.id, usage, self._base_url)

    async def aclose(self) -> None:
        """Closes the connections, whichever loops they belong to."""
        await self._clients.aclose()

    @property
    def _is_openai(self) -> bool:
        """Whether OpenAI itself is asked."""
        host = urlsplit(self._base_url).hostname or "" if self._base_url else "api.openai.com"
        return host.endswith((".openai.com", ".openai.azure.com"))

    def _priced(self, usage: Usage) -> Usage:
        return usage if usage.estimated else replace(usage, cost=self.cost(usage) or 0.0)

    async def _attempt(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        body = sendable({**self._body(request), **self.extra})
        body = {key: value for key, value in body.items() if self._is_sent(key, value)}
        try:
            client = await self._clients.get(self._make_client)
            answer = self._answer([tool.name for tool in request.tools], [client.api_key])
            async with self._opened(client, body) as response:
                try:
                    async for chunk in read_answer(_bytes(response), answer, self._timeout):
                        yield chunk
                except ModelError as failed:  # told in the stream, with the wait in the headers
                    if failed.retry_after is None:
                        failed.retry_after = retry_after(response.headers)
                    raise
        except (openai.OpenAIError, Interrupted) as error:
            raise _translated(error, self._api_key) from error

    def _is_sent(self, key: str, value: Any) -> bool:
        return value is not None or key not in self.extra

    @asynccontextmanager
    async def _opened(
        self, client: openai.AsyncOpenAI, body: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """A response whose connection is closed on every way out, also when cancelled once more.

        Its body is read by us: the SDK's own reader raises errors of its own at odd frames.
        """
        try:
            async with asyncio.timeout(self._timeout):
                stream = await client.post(
                    self._path,
                    body=body,
                    cast_to=object,
                    stream=True,
                    stream_cls=openai.AsyncStream[object],
                )
        except TimeoutError:
            raise ModelError("the model's provider did not answer in time") from None
        try:
            yield stream.response
        finally:
            await asyncio.shield(asyncio.ensure_future(stream.response.aclose()))

    def _make_client(self) -> openai.AsyncOpenAI:
        key = self._api_key
        if key is None and self._base_url is not None and not os.environ.get("OPENAI_API_KEY"):
            key = "none"  # the SDK insists on one; local servers ignore it
        connect = min(_CONNECT, self._timeout)
        # Silence is measured by us, who know what is silence; so nothing else has a limit here.
        timeout = openai.Timeout(None, connect=connect, write=self._timeout)
        return openai.AsyncOpenAI(
            api_key=key,
            base_url=self._base_url,
            timeout=timeout,
            max_retries=0,  # ours can be interrupted and stop at the first chunk
            http_client=_Http(timeout=timeout),
        )


class _Http(openai.DefaultAsyncHttpxClient):
    """The SDK's HTTP client, which reads an error's body no longer than it is worth."""

    async def send(self, request: Any, **options: Any) -> Any:
        """As the base; an answer that is an error comes with as much of its body as there is."""
        response = await super().send(request, **options)
        if not response.is_error:
            return response
        body = bytearray()
        try:
            async with asyncio.timeout(_ERROR_WAIT):
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > _ERROR_BODY:
                        break
        except Exception:  # what has come of its words will do
            pass
        finally:
            await asyncio.shield(asyncio.ensure_future(response.aclose()))
        headers = [(k, v) for k, v in response.headers.multi_items() if k not in _ABOUT_BODY]
        return type(response)(
            response.status_code, headers=headers, content=bytes(body), request=request
        )


_ABOUT_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


async def _bytes(response: Any) -> AsyncIterator[bytes]:
    """The body as it comes."""
    pieces = response.aiter_bytes()
    while True:
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except Exception as error:  # httpx has several, and some transports their own
            raise Interrupted from error
        yield piece


class _LoopClients:
    """One client a running event loop; each is closed with its loop, with us, or when told."""

    # It does not keep how clients are made: a model that is part of no cycle is freed, and its
    # connections are closed, as soon as nobody holds it any more.
    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = WeakKeyDictionary()
        self._lock = threading.Lock()

    async def get(self, make: Callable[[], openai.AsyncOpenAI]) -> openai.AsyncOpenAI:
        loop = asyncio.get_running_loop()
        with self._lock:
            kept = self._kept.get(loop)
        if kept is None:
            # A suspended async generator is the one thing a loop closes when it shuts down
            # (loop.shutdown_asyncgens, as asyncio.run does), and also when nobody holds it any
            # more; so no pool outlives its loop or its model, and no user has to close anything.
            keeper = _keep(make())
            kept = _Kept(await anext(keeper), keeper)
            with self._lock:
                self._kept[loop] = kept
        return kept.client

    async def aclose(self) -> None:
        with self._lock:
            all_kept = list(self._kept.items())
            self._kept.clear()
        for loop, kept in all_kept:
            if loop is asyncio.get_running_loop():
                await kept.keeper.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(kept.keeper.aclose(), loop)
                await asyncio.wrap_future(closing)


class _Kept:
    def __init__(
        self, client: openai.AsyncOpenAI, keeper: AsyncGenerator[openai.AsyncOpenAI, None]
    ) -> None:
        self.client = client
        self.keeper = keeper


async def _keep(client: openai.AsyncOpenAI) -> AsyncGenerator[openai.AsyncOpenAI, None]:
    try:
        yield client
    finally:
        await client.close()


def _translated(error: Exception, api_key: str | None) -> ModelError:
    """The same failure in words for callers, who may know neither our keys nor our hosts."""
    if isinstance(error, openai.APIStatusError):
        failure = failure_in(parsed_body(error.response.content), error.response.headers)
        status = error.status_code
        told = model_error(
            f"the model's provider answered {status}",
            replace(failure, status=status),
            _PROVIDER,
            [api_key] if api_key else [],
        )
        if error.response.headers.get("x-should-retry") == "false":
            told.may_pass = False
        return told
    if isinstance(error, openai.APITimeoutError):
        words, may_pass = "the model's provider did not answer in time", True
    elif isinstance(error, openai.APIConnectionError | Interrupted):
        words, may_pass = "the connection to the model's provider failed", True
    else:
        words, may_pass = f"the model cannot be asked: {fit(str(error))}", False
    return ModelError(words, provider=_PROVIDER, may_pass=may_pass)
