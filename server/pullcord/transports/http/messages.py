"""Requests and answers of handlers. No route is known here, and no run."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl

from pullcord.identity.run_tokens import PREFIX as RUN_TOKEN
from pullcord.run.caller import Caller
from pullcord.run.errors import InvalidArgument, PullcordError, Violation
from pullcord.transports.calls import Callers, Incoming
from pullcord.wire.json import read_json

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

COOKIE = "pullcord-session"
"""The cookie that holds a signed-in browser's credential."""


class Refused(PullcordError):
    """A request that HTTP itself refuses: too large, too slow, of a foreign page."""

    def __init__(
        self, status: int, reason: str, why: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(why)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


class Left(Exception):
    """The client has left before its request was whole."""


@dataclass(slots=True)
class Answer:
    """An answer of one piece."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Sequence[tuple[str, str]] = ()


@dataclass(slots=True)
class Stream:
    """An answer of pieces, which ends with the iterator."""

    pieces: AsyncIterator[bytes]
    close: Callable[[], None] = lambda: None
    """Called when the stream has ended, or the client has left, also if nothing was asked of the
    iterator."""
    content_type: str = "text/event-stream; charset=utf-8"
    headers: Sequence[tuple[str, str]] = field(default=(("cache-control", "no-store"),))
    status: int = 200


CERTIFICATE = "pullcord.certificate"
"""In a scope: the ids of the client certificate that TLS has verified."""


class Request:
    """One request. Its body is read when it is asked for, once."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        callers: Callers,
        max_body: int,
        body_time: float,
    ) -> None:
        """A body of more than `max_body` bytes, or that takes longer than `body_time` seconds, is
        refused."""
        self.scope = scope
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.params: Mapping[str, str] = {}
        """The values of the parts in braces of the route's path."""
        self.deadline: float | None = None
        """When the caller gives up, on time.monotonic's scale; a handler may say it."""
        self.bearer = ""
        """A credential that a handler found elsewhere than in the header; ask `caller` again."""
        self.of_other_origin = False
        """Whether a page of another origin, which is allowed, has made it."""
        self.callers = callers
        self._receive = receive
        self._max_body = max_body
        self._body_time = body_time
        self._body: bytes | None = None
        self._is_whole = False
        """Whether nothing more of the body can come."""

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers, by their names in lower case; of several with one name, the last."""
        return {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in self.scope["headers"]}

    @cached_property
    def query(self) -> Mapping[str, str]:
        """The query, by name; of several values of a name, the last."""
        text = self.scope.get("query_string", b"").decode("latin-1")
        try:
            return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=100))
        except ValueError:
            words = "has more than 100 fields"
            raise InvalidArgument(Violation("the query", words)) from None

    @cached_property
    def cookies(self) -> Mapping[str, str]:
        """The cookies that came along; one of another program, in whatever form, hides no other."""
        pairs = (piece.partition("=") for piece in self.headers.get("cookie", "").split(";"))
        return {name.strip(): value.strip().strip('"') for name, _, value in pairs}

    @property
    def is_secure(self) -> bool:
        """Whether the connection is encrypted."""
        return bool(self.scope.get("scheme") == "https")

    @property
    def peer(self) -> str:
        """The address it came from, as gRPC writes it."""
        client = self.scope.get("client")
        if not client:
            return "unix:"
        host, port = client[0], client[1]
        return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"

    @property
    def content_type(self) -> str:
        """The media type, without parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def incoming(self) -> Incoming:
        """The metadata of the request, in the form of all transports."""
        metadata = [
            (k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in self.scope["headers"]
        ]
        if self.bearer:
            metadata = [entry for entry in metadata if entry[0] != "authorization"]
            metadata.append(("authorization", f"Bearer {self.bearer}"))
        elif not any(key == "authorization" for key, _ in metadata):
            # A page of another origin of the same site would send the cookie along.
            bearer = "" if self.of_other_origin else self.cookies.get(COOKIE, "")
            # An EventSource and a beacon have no headers. Nothing that lasts is taken from a URL.
            token = self.query.get("token", "")
            if token:
                bearer = token if token.startswith(RUN_TOKEN) else "a lasting secret in a URL"
            if bearer:
                metadata.append(("authorization", f"Bearer {bearer}"))
        return Incoming(
            metadata,
            self.peer,
            # A browser would show it for a page of any origin.
            () if self.of_other_origin else self.scope.get(CERTIFICATE, ()),
            encrypted=self.is_secure,
            of_other_origin=self.of_other_origin,
            deadline=self.deadline,
        )

    async def caller(self) -> Caller:
        """The verified caller. Raises Unauthenticated."""
        return await self.callers.of(self.incoming)

    async def body(self) -> bytes:
        """All of the body.

        Raises:
            Refused: it is too large, or comes too slowly.
            Left: the client has left before it was whole.
        """
        if self._body is None:
            try:
                async with asyncio.timeout(self._body_time):
                    self._body = await self._read()
                self._is_whole = True
            except TimeoutError:
                words = f"the body took longer than {self._body_time:g} s to arrive"
                raise Refused(408, "REQUEST_TIMEOUT", words) from None
        return self._body

    async def _read(self) -> bytes:
        declared = self.headers.get("content-length", "")
        if declared.isdecimal() and (len(declared) > 18 or int(declared) > self._max_body):
            raise self._too_large()
        body = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Left
            body += message.get("body", b"")
            if len(body) > self._max_body:
                raise self._too_large()
            if not message.get("more_body"):
                return bytes(body)

    def _too_large(self) -> Refused:
        return Refused(413, "REQUEST_TOO_LARGE", f"the body must be at most {self._max_body} bytes")

    async def drain(self) -> None:
        """Takes what comes of a body that nobody reads, within the same bounds."""
        left = self._max_body
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._body_time):
                while not self._is_whole and left > 0:
                    message = await self._receive()
                    left -= len(message.get("body", b""))
                    if not message.get("more_body"):
                        return

    async def json(self) -> Any:
        """The body as a JSON value; None: there is none. Raises InvalidArgument."""
        body = await self.body()
        return read_json(body) if body.strip() else None

    async def left(self) -> None:
        """Returns once the client has left. To be awaited after the body was read."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def receive_again(self) -> MutableMapping[str, Any]:
        """For an ASGI application within: the body that was read, and then what comes."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()

    def ends_in(self, seconds: float) -> None:
        """The caller gives up after so long."""
        self.deadline = time.monotonic() + seconds
