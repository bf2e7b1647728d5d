"""The routes of MCP, and the SDK's sessions behind them, which begin with the first request.

A session belongs to the caller that opened it. No stream is open beside a call's: a server that
stops would wait for it.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, closing
from functools import partial

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager

from pullcord.run.caller import Caller
from pullcord.run.events import Event
from pullcord.run.record import Decision, Run
from pullcord.run.requests import CancelRequest, ContinueRequest, GetRequest, WatchRequest
from pullcord.run.runnable import RunnableInfo
from pullcord.service.following import Following
from pullcord.transports.http.messages import Answer, Receive, Request, Scope, Send
from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web
from pullcord.transports.mcp.offering import Context, offering
from pullcord.transports.mcp.runs import Wanted
from pullcord.v1 import run_pb2
from pullcord.wire.spec import parse_spec
from pullcord.wire.values import set_data

_PATH = "/mcp"
_RUNS = "pullcord.runs"
"""The key of the caller's runs in a request's scope."""
_MAX_BODY = 4 * 1024 * 1024
"""Bytes of one request: it is read on the loop of all calls."""
_IDLE = 30 * 60.0
"""Seconds without a request after which a session is closed."""
_MAX_SESSIONS = 10_000


def routes_of(web: Web) -> list[Route]:
    """The routes of this surface."""
    sessions = _Sessions(web)
    web.closers.append(sessions.close)
    enter = partial(_enter, web)
    return [Route(method, _PATH, enter, app=sessions.serve) for method in ("POST", "DELETE")]


async def _enter(web: Web, request: Request) -> Answer:
    """Who calls is known before the SDK reads a word."""
    caller = await request.caller()
    await request.body()
    scope = caller.principal.scope
    request.scope[_RUNS] = _CallersRuns(web, request, caller)
    # The SDK lets none but this one use the sessions that it opens.
    token = AccessToken(token="", client_id=f"{scope.tenant}/{scope.owner}", scopes=[])
    request.scope["user"] = AuthenticatedUser(token)
    return Answer()


def _runs_of(ctx: Context) -> "_CallersRuns":
    assert ctx.request is not None
    runs: _CallersRuns = ctx.request.scope[_RUNS]
    return runs


class _Sessions:
    """The SDK's sessions, kept by a task of their own."""

    def __init__(self, web: Web) -> None:
        self._manager = StreamableHTTPSessionManager(
            offering(_runs_of),
            session_idle_timeout=_IDLE,
            max_request_body_size=min(web.options.max_body, _MAX_BODY),
            max_sessions=_MAX_SESSIONS,
        )
        self._keeper: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._closing = asyncio.Event()

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as an ASGI application."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep())
        await self._ready.wait()
        await self._manager.handle_request(scope, receive, send)

    async def _keep(self) -> None:
        async with self._manager.run():
            self._ready.set()
            await self._closing.wait()

    async def close(self) -> None:
        """Ends every session."""
        self._closing.set()
        if self._keeper is not None:
            await self._keeper


class _CallersRuns:
    """The runs of the caller of one request, by the verbs."""

    def __init__(self, web: Web, request: Request, caller: Caller) -> None:
        self._web = web
        self._request = request
        self._caller = caller

    async def offers(self) -> Sequence[RunnableInfo]:
        """The runnables that the caller may start."""
        return await self._web.front.verbs.runnables(self._caller)

    async def events(self, wanted: Wanted) -> AsyncGenerator[Event, None]:
        """Starts a run and follows it; it goes on if nobody follows, since a stop is asked for."""
        asked = run_pb2.RunSpec(
            runnable=wanted.runnable,
            input=wanted.input,
            run_id=wanted.run_id,
            session_id=wanted.session_id,
            on_disconnect=run_pb2.DISCONNECT_POLICY_CONTINUE,
        )
        if wanted.input_data is not None:
            set_data(asked.input_data, wanted.input_data)
        options = self._web.front.engine.options
        spec = parse_spec(asked, options.max_input_bytes, options.part_bounds, prefix="")
        following = await self._web.front.run(self._caller, spec)
        async with aclosing(self._followed(following)) as events:
            async for event in events:
                yield event

    async def events_after(self, run_id: str, sequence: int) -> AsyncGenerator[Event, None]:
        """Follows a run that was started before."""
        request = WatchRequest(run_id, sequence)
        following = await self._web.front.verbs.watch(self._caller, request)
        async with aclosing(self._followed(following)) as events:
            async for event in events:
                yield event

    async def _followed(self, following: Following) -> AsyncGenerator[Event, None]:
        with closing(following):
            self._web.follow(following, self._request, self._caller)
            async for record in self._web.records(following):
                yield record.event(following.run_id)

    async def get(self, run_id: str) -> Run:
        """The run as it is now."""
        return await self._web.front.verbs.get(self._caller, GetRequest(run_id))

    async def decide(self, run_id: str, decisions: Sequence[Decision]) -> None:
        """Brings a paused run the decisions that it waits for."""
        request = ContinueRequest(run_id, tuple(decisions))
        await self._web.front.verbs.continue_run(self._caller, request)

    async def cancel(self, run_id: str, reason: str) -> None:
        """Stops a run, also one that has not started."""
        request = CancelRequest(run_id, reason, before_start=True)
        await self._web.front.verbs.cancel(self._caller, request)
