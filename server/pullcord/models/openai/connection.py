"""What both OpenAI models share: the client, the retries, the errors, the prices.

One client a running event loop, because a connection pool belongs to its loop. Nothing here knows
what a request or a stream's events look like.
"""

import asyncio
import json
import os
import random
import threading
from abc import abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pullcord.models.base import Model, ModelChunk, ModelError, ModelRequest
from pullcord.models.openai.prices import cost
from pullcord.run.usage import Usage

try:
    import openai
except ImportError as missing:
    raise ImportError(
        "OpenAI models need the openai package: pip install 'pullcord[openai]'"
    ) from missing

_T = TypeVar("_T")

_PROVIDER = "openai"
_RETRIED = frozenset({408, 409, 429})
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
_LONGEST_RETRY_AFTER = 120.0
"""Seconds; a provider that wants us to stay away longer has refused."""


class OpenAIModel(Model):
    """A model of OpenAI or of a compatible server; how it is asked is the subclass's business."""

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
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Describes the model; nothing is connected before the first call.

        Args:
            id: the provider's name of the model.
            api_key: None reads OPENAI_API_KEY; a `base_url` of your own works without any.
            base_url: of a compatible server; None reads OPENAI_BASE_URL, then means OpenAI.
            temperature: None leaves it to the provider.
            max_output_tokens: the most tokens one answer may have, reasoning included.
            timeout: seconds that the provider may take to connect, and be silent between two
                pieces; None is the SDK's default, ten minutes of silence.
            max_retries: how often a call that failed before its first chunk is tried again.
            extra: more fields of the request's JSON body, such as `{"reasoning_effort": "low"}`.
        """
        self.id = id
        self.temperature = temperature
        self.max_output_tokens = max_output_tokens
        self.max_retries = max_retries
        self.extra = dict(extra or {})
        self._api_key = api_key
        self._base_url = base_url or os.environ.get("OPENAI_BASE_URL") or None
        self._timeout = timeout
        self._clients = _LoopClients(self._make_client)

    @abstractmethod
    def _attempt(
        self, client: openai.AsyncOpenAI, request: ModelRequest
    ) -> AsyncGenerator[ModelChunk, None]:
        """One try at the call; may raise the SDK's errors."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelChunk, None]:
        """Asks the model; a try that fails before its first chunk is repeated."""
        tries = 0
        while True:
            begun = False
            try:
                client = await self._clients.get()
                async with aclosing(self._attempt(client, request)) as chunks:
                    async for chunk in chunks:
                        begun = True
                        yield chunk
                return
            except (openai.OpenAIError, json.JSONDecodeError) as error:
                wait = _wait_before_retry(error, tries)
                if begun or wait is None or tries >= self.max_retries:
                    raise _translated(error) from error
            tries += 1
            await asyncio.sleep(wait)

    def priced(self, usage: Usage) -> Usage:
        """The same usage with its cost."""
        return replace(usage, cost=self.cost(usage))

    def cost(self, usage: Usage) -> float:
        """By the price list of the genai-prices package, if it is installed and knows the model."""
        return cost(self.id, usage, self._base_url)

    async def aclose(self) -> None:
        """Closes the connections, whichever loops they belong to."""
        await self._clients.aclose()

    def _make_client(self) -> openai.AsyncOpenAI:
        key = self._api_key
        if key is None and self._base_url is not None and not os.environ.get("OPENAI_API_KEY"):
            key = "none"  # the SDK insists on one; local servers ignore it
        return openai.AsyncOpenAI(
            api_key=key,
            base_url=self._base_url,
            timeout=openai.NOT_GIVEN if self._timeout is None else self._timeout,
            max_retries=0,  # ours can be interrupted and stop at the first chunk
        )


@asynccontextmanager
async def opened(
    opening: Awaitable[openai.AsyncStream[_T]],
) -> AsyncGenerator[openai.AsyncStream[_T], None]:
    """A stream whose connection is closed on every way out, also when cancelled once more."""
    stream = await opening
    try:
        yield stream
    finally:
        await asyncio.shield(asyncio.ensure_future(stream.close()))


class _LoopClients:
    """One client a running event loop; each is closed with its loop, with us, or when told."""

    def __init__(self, make: Callable[[], openai.AsyncOpenAI]) -> None:
        self._make = make
        self._kept: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = WeakKeyDictionary()
        self._lock = threading.Lock()

    async def get(self) -> openai.AsyncOpenAI:
        loop = asyncio.get_running_loop()
        with self._lock:
            kept = self._kept.get(loop)
        if kept is None:
            # A suspended async generator is the one thing a loop closes when it shuts down
            # (loop.shutdown_asyncgens, as asyncio.run does), and also when nobody holds it any
            # more; so no pool outlives its loop or its model, and no user has to close anything.
            keeper = _keep(self._make())
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


def _wait_before_retry(error: Exception, tries: int) -> float | None:
    """Seconds to wait before trying again; None: trying again is of no use."""
    if isinstance(error, openai.APIStatusError):
        if error.status_code not in _RETRIED and error.status_code < 500:
            return None
        told = _retry_after(error.response.headers)
        if told is not None:
            return told if told <= _LONGEST_RETRY_AFTER else None
    elif not isinstance(error, openai.APIConnectionError):
        return None
    wait = min(_FIRST_WAIT * 2.0**tries, _LONGEST_WAIT)
    return wait * random.uniform(0.75, 1.0)  # many runs fail together; they must not return so


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds a provider asks for. Dates, which no provider sends, are not understood."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            return max(0.0, float(headers[name]) * unit)
        except (KeyError, ValueError):
            continue
    return None


def _translated(error: Exception) -> ModelError:
    """The same failure in words for callers, who may know neither our keys nor our hosts."""
    if isinstance(error, openai.APIStatusError):
        status = error.status_code
        if status in (401, 403):  # these texts repeat parts of the key
            said = "it does not accept the credentials"
        else:
            said = _said(error.body) or "it gave no reason"
        return ModelError(
            f"the model's provider answered {status}: {said}", provider=_PROVIDER, status=status
        )
    if isinstance(error, openai.APITimeoutError):
        words = "the model's provider did not answer in time"
    elif isinstance(error, openai.APIConnectionError):
        words = "the connection to the model's provider failed"
    elif isinstance(error, openai.APIError):
        words = f"the model's provider failed: {error.message}"
    elif isinstance(error, openai.OpenAIError):
        words = f"the model cannot be asked: {error}"
    else:
        words = "the model's provider sent something that is not JSON"
    return ModelError(words, provider=_PROVIDER)


def _said(body: object) -> str:
    if isinstance(body, Mapping):
        return str(body.get("message") or "")[:1000]
    return ""
