"""The ASGI application: it guards, finds the route, calls it, and sends what it returns.

What the surfaces are is the list `SURFACES`; how one is added is said in the package's docstring.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from pullcord.transports.faults import refusal_of
from pullcord.transports.front import Front
from pullcord.transports.http import (
    a2a,
    agui,
    approvals,
    connect,
    console,
    mcp,
    openapi,
    runs,
    session,
)
from pullcord.transports.http.agentos import routes as agentos
from pullcord.transports.http.guard import Guard
from pullcord.transports.http.messages import Answer, Left, Receive, Request, Scope, Send, Stream
from pullcord.transports.http.openai import routes as openai
from pullcord.transports.http.options import HttpOptions
from pullcord.transports.http.problems import problem
from pullcord.transports.http.routing import Route, Router
from pullcord.transports.http.web import Web

SURFACES: Sequence[Callable[[Web], list[Route]]] = (
    runs.routes,
    session.routes,
    connect.routes,
    openai.routes,
    agentos.routes,
    a2a.routes,
    approvals.routes,
    agui.routes,
    mcp.routes,
    console.routes,
)
"""In this order: of two routes of one method and path, the later one stands."""

_HEADERS = [("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]


@dataclass(slots=True)
class _Sending:
    """The part of one answer that was sent."""

    begun: bool = False
    ended: bool = False


class App:
    """The application of one server."""

    def __init__(self, front: Front, options: HttpOptions) -> None:
        self._web = Web(front, options)
        routes = [route for surface in SURFACES for route in surface(self._web)]
        self._router = Router([*routes, openapi.route(routes)])
        self._guard = Guard(
            options.origins,
            options.hosts,
            options.listen_host,
            knows_callers=front.callers.are_known,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            raise RuntimeError(f"nothing is served over {scope['type']!r}")
        options = self._web.options
        request = Request(
            scope, receive, self._web.front.callers, options.max_body, options.body_time
        )
        sending = _Sending()

        async def sent(message: Scope) -> None:
            if message["type"] == "http.response.start":
                sending.begun = True
                more = [*_HEADERS, *self._guard.headers(request.headers)]
                has = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in more if k.encode() not in has),
                ]
            elif not message.get("more_body"):
                sending.ended = True
            await send(message)

        refuse: Callable[[Exception], Answer] = problem
        try:
            self._guard.check(request)
            if (answer := self._guard.preflight(request)) is not None:
                await _send(answer, sent)
                return
            route = self._router.find(request)
            refuse = route.refuse
            await self._serve(route, request, sent)
        except Left:
            return
        except asyncio.CancelledError:
            # The server stops. A stream that is cut off must not look as if it had ended.
            raise
        except Exception as error:
            refusal = refusal_of(error)
            if not sending.begun:
                if request.scope.get("http_version") == "2":
                    await request.drain()  # its connection is that of other requests, too
                await _send(refuse(refusal), sent)
            elif not sending.ended:
                raise _CutOff from None

    async def close(self) -> None:
        """Ends what surfaces have begun beside the requests, once these have ended."""
        for close in self._web.closers:
            await close()

    async def _serve(self, route: Route, request: Request, send: Send) -> None:
        if route.app is not None:
            await route.handle(request)
            token = connect.REQUEST.set(request)
            try:
                await route.app(request.scope, request.receive_again, send)
            finally:
                connect.REQUEST.reset(token)
            return
        await request.body()
        async with _while_there(request):
            answer = await route.handle(request)
            if isinstance(answer, Answer):
                await _send(answer, send)
            elif request.method == "HEAD":
                answer.close()
                head = Answer(b"", answer.status, answer.content_type, answer.headers)
                await _send(head, send)
            else:
                await _send_stream(answer, send)


class _CutOff(Exception):
    """A stream broke in the middle; the server then closes the connection."""


@contextlib.asynccontextmanager
async def _while_there(request: Request) -> AsyncIterator[None]:
    """Ends what is within when the client leaves: with Left, at its next await."""
    try:
        async with asyncio.timeout(None) as scope:

            async def watch() -> None:
                await request.left()
                if not scope.expired():
                    scope.reschedule(asyncio.get_running_loop().time())

            watching = asyncio.ensure_future(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if scope.expired():
            raise Left from None
        raise


async def _send(answer: Answer, send: Send) -> None:
    headers = [(k.encode(), v.encode("latin-1")) for k, v in answer.headers]
    if answer.status not in (204, 304):
        headers.append((b"content-length", str(len(answer.body)).encode()))
    if answer.body:
        headers.append((b"content-type", answer.content_type.encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def _send_stream(stream: Stream, send: Send) -> None:
    headers = [(k.encode(), v.encode("latin-1")) for k, v in stream.headers]
    headers.append((b"content-type", stream.content_type.encode()))
    pieces = stream.pieces
    try:
        await send({"type": "http.response.start", "status": stream.status, "headers": headers})
        async for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        stream.close()
