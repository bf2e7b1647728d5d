"""The common part of all providers' models: options, connections, failures, prices.

A provider's own SDK makes the request: address, key, headers. Its answer is read by us, because the
SDKs' readers raise errors of their own at odd frames. Nothing here knows one provider's protocol.
"""

import asyncio
import functools
import os
import ssl
import threading
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import httpx2  # what all of the SDKs stand on

from pullcord.models.base import (
    Finished,
    Media,
    Model,
    ModelChunk,
    ModelError,
    ModelRequest,
    Price,
)
from pullcord.models.files import check_media
from pullcord.models.prices import cost
from pullcord.models.reading.answer import Answer, Interrupted, read_answer
from pullcord.models.reading.failures import (
    Withheld,
    failure_in,
    fit,
    model_error,
    parsed_body,
    retry_after,
)
from pullcord.models.reading.text import sendable
from pullcord.models.retrying import retried
from pullcord.models.throttle import Throttle
from pullcord.run.finish import FinishReason
from pullcord.run.usage import Usage

for _later in ("httpcore2._async.http2", "genai_prices.data", "anyio._backends._asyncio"):
    # They are imported with the first request otherwise, which would block the loop of the runs.
    with suppress(ImportError):
        import_module(_later)

_SILENCE, _CONNECT = 600.0, 10.0
_ERROR_BODY, _ERROR_WAIT = 64 * 1024, 1.0
"""Bytes of an error's body that are read, and seconds that it may take."""


class CannotAsk(Exception):
    """The SDK refused to make the request, such as without a key."""


class HttpModel(Model):
    """A model asked over HTTP; how, is the subclass's business."""

    provider: str
    """The provider's name, in errors and in the list of prices."""
    key_variable: str
    """The environment variable that has its key, if it is given none."""
    _http: "type[HttpClient]"

    def __init__(
        self,
        id: str,
        *,
        api_key: str | None,
        base_url: str | None,
        temperature: float | None,
        max_output_tokens: int | None,
        timeout: float | None,
        max_retries: int,
        price: Price | None,
        extra: Mapping[str, Any] | None,
        throttle: Throttle | None,
        media: Media | None,
    ) -> None:
        if timeout is not None and not timeout > 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
        self.id = id
        self.temperature = temperature
        self.max_output_tokens = max_output_tokens
        self.max_retries = max_retries
        self.extra = dict(extra or {})
        self._price = price
        self._api_key = api_key.strip() or None if api_key else None  # files end in a line end
        self._base_url = base_url
        self._timeout = _SILENCE if timeout is None else timeout
        self._throttle = throttle or Throttle()
        if media is not None:
            self.media = media
        self._clients = _LoopClients()

    @abstractmethod
    def _make_client(self) -> Any:
        """The SDK's client, with an HttpClient of ours; it is closed by `_close_client`."""

    @abstractmethod
    async def _close_client(self, client: Any) -> None:
        """Closes all connections of a client."""

    @abstractmethod
    async def _send(self, client: Any, body: dict[str, Any]) -> Any:
        """Sends the request; returns the response, of any status, whose body is not read yet.

        Raises CannotAsk where no request can be made, and httpx2's errors or Interrupted where the
        connection fails.
        """

    @abstractmethod
    def _body(self, request: ModelRequest) -> dict[str, Any]:
        """The request's JSON, without what `extra` says."""

    @abstractmethod
    def _answer(self, names: list[str], secrets: list[str]) -> Answer:
        """Takes the answer's frames; `names` are those of the tools on offer."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Asks the model; a try that fails before its first chunk is repeated."""
        check_media(request.messages, self.media, self.id, self.provider)
        async for chunk in retried(lambda: self._attempt(request), self.max_retries, self.provider):
            yield self._priced(chunk) if isinstance(chunk, Usage) else chunk

    def cost(self, usage: Usage) -> float | None:
        """By the price given, else by the list of genai-prices where it knows the model."""
        if self._price is not None:
            return self._price.of(usage)
        return cost(self.id, usage, self._base_url, self.provider)

    async def aclose(self) -> None:
        """Closes the connections, whichever loops they belong to."""
        await self._clients.aclose()

    def _http_client(self) -> "HttpClient":
        # We measure silence ourselves, because comments count as silence.
        connect = min(_CONNECT, self._timeout)
        timeout = httpx2.Timeout(None, connect=connect, write=self._timeout)
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
        return self._http(timeout=timeout, limits=limits, follow_redirects=True, verify=trusted())

    def _priced(self, usage: Usage) -> Usage:
        return usage if usage.estimated else replace(usage, cost=self.cost(usage))

    async def _attempt(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        body = sendable(self._with_extra(self._body(request)))
        body = {key: value for key, value in body.items() if self._is_sent(key, value)}
        secrets = [self._api_key] if self._api_key else []
        answer = self._answer([tool.name for tool in request.tools], secrets)
        try:
            client = await self._clients.get(self._make_client, self._close_client)
            async with self._throttle.turn(), self._opened(client, body) as response:
                if response.is_error:
                    raise self._refusal(response, secrets)
                try:
                    async for chunk in read_answer(_bytes(response), answer, self._timeout):
                        yield chunk
                except ModelError as failed:  # told in the stream, with the wait in the headers
                    if failed.retry_after is None:
                        failed.retry_after = retry_after(response.headers)
                    raise
        except Withheld as told:
            yield Finished(FinishReason.CONTENT_FILTER, told.words)
        except CannotAsk as error:
            if self._lacks_key():
                raise self._keyless() from error
            said = fit(str(error), secrets)
            raise ModelError("the model cannot be asked", said=said) from error
        except (TimeoutError, httpx2.TimeoutException) as error:
            raise ModelError(
                "the model's provider did not answer in time",
                may_pass=isinstance(error, httpx2.TimeoutException),
            ) from error
        except Interrupted as error:
            words = "the connection to the model's provider failed"
            raise ModelError(words, may_pass=True) from error

    def _lacks_key(self) -> bool:
        """Whether it has none, although its provider wants one."""
        return not (self._api_key or self._base_url or os.environ.get(self.key_variable))

    def _keyless(self) -> ModelError:
        error = ModelError(
            f"the model {self.id!r} has no API key. Set the variable {self.key_variable} (.env is "
            "read, too), or the argument api_key"
        )
        error.says_all = True
        return error

    def _with_extra(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body with what the author says of it, who has the last word."""
        return {**body, **self.extra}

    def _is_sent(self, key: str, value: Any) -> bool:
        return value is not None or key not in self.extra

    @asynccontextmanager
    async def _opened(self, client: Any, body: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """A response whose connection is closed on every way out, also when cancelled once more."""
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._send(client, body)
        except (CannotAsk, Interrupted, TimeoutError, httpx2.TimeoutException):
            raise
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
            raise CannotAsk(f"its base_url is no address: {type(error).__name__}") from error
        except Exception as error:  # httpx2 has several, and some transports their own
            raise Interrupted from error
        try:
            yield response
        finally:
            await asyncio.shield(asyncio.ensure_future(response.aclose()))

    def _refusal(self, response: Any, secrets: list[str]) -> ModelError:
        failure = failure_in(parsed_body(response.content), response.headers)
        status = response.status_code
        told = model_error(
            f"the model's provider answered {status}",
            replace(failure, status=status),
            self.provider,
            secrets,
        )
        if response.headers.get("x-should-retry") == "false":
            told.may_pass = False
        return told


@functools.cache
def trusted() -> ssl.SSLContext:
    """The certificates that are trusted. Reading them takes longer than all else a client needs."""
    return httpx2.create_ssl_context()


class HttpClient(httpx2.AsyncClient):
    """An HTTP client which reads an error's body no longer than it is worth."""

    async def send(self, request: Any, **options: Any) -> Any:
        """Extends the base: an error's answer comes with as much of its body as there is."""
        response = await super().send(request, **options)
        if not response.is_error:
            return response
        body = bytearray()
        try:
            with suppress(Exception):  # the words that have come will do
                async with asyncio.timeout(_ERROR_WAIT):
                    async for piece in response.aiter_bytes():
                        body += piece
                        if len(body) > _ERROR_BODY:
                            break
        finally:
            await asyncio.shield(asyncio.ensure_future(response.aclose()))
        headers = [(k, v) for k, v in response.headers.multi_items() if k not in _ABOUT_BODY]
        return httpx2.Response(
            response.status_code, headers=headers, content=bytes(body), request=request
        )


HttpModel._http = HttpClient
_ABOUT_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


async def _bytes(response: Any) -> AsyncIterator[bytes]:
    """The body as it comes."""
    pieces = response.aiter_bytes()
    while True:
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except Exception as error:  # httpx2 has several, and some transports their own
            raise Interrupted from error
        yield piece


Make = Callable[[], Any]
Close = Callable[[Any], Awaitable[None]]


class _LoopClients:
    """One client a running event loop, because a connection pool belongs to its loop.

    Each is closed with its loop, with us, or by `aclose`. How clients are made is not kept: a model
    that is part of no cycle is freed, and its connections are closed, as soon as nobody holds it.
    """

    def __init__(self) -> None:
        self._kept: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = WeakKeyDictionary()
        self._lock = threading.Lock()

    async def get(self, make: Make, close: Close) -> Any:
        loop = asyncio.get_running_loop()
        with self._lock:
            kept = self._kept.get(loop)
        if kept is None:
            # A suspended async generator is the one thing a loop closes when it shuts down
            # (loop.shutdown_asyncgens, as asyncio.run does), and also when nobody holds it any
            # more; so no pool outlives its loop or its model, and no user has to close anything.
            keeper = _keep(make(), close)
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
    def __init__(self, client: Any, keeper: AsyncGenerator[Any, None]) -> None:
        self.client = client
        self.keeper = keeper


async def _keep(client: Any, close: Close) -> AsyncGenerator[Any, None]:
    try:
        yield client
    finally:
        await close(client)
