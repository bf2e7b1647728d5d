"""The routes of A2A's HTTP bindings, and the cards that say where they are."""

import hashlib
import json
from collections.abc import Sequence

from a2a.types import AgentInterface
from google.protobuf import json_format

from pullcord.run.errors import RunnableNotFound
from pullcord.run.runnable import RunnableInfo
from pullcord.transports.a2a.agent import Agent
from pullcord.transports.a2a.cards import VERSION, card
from pullcord.transports.http.a2a.calls import Calls
from pullcord.transports.http.a2a.jsonrpc import JsonRpc
from pullcord.transports.http.a2a.rest import Rest
from pullcord.transports.http.messages import Answer, Refused, Request
from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web

_CARD = "/.well-known/agent-card.json"
_AGENT = "/a2a/{kind}/{id}"
_PUSH = f"{_AGENT}/tasks/{{task}}/pushNotificationConfigs"
_FRESH = 60
"""Seconds for which a client may keep a card."""


def routes_of(web: Web) -> list[Route]:
    """The routes of this surface."""
    agent = Agent(web.front, web.records)
    calls = Calls(web)
    cards, rpc, rest = _Cards(web), JsonRpc(calls, agent), Rest(calls, agent)
    return [
        Route("GET", _CARD, cards.root),
        Route("GET", f"{_AGENT}{_CARD}", cards.one),
        Route("POST", _AGENT, rpc.handle),
        Route("POST", "/a2a/", rpc.with_slash),  # as some clients write it
        Route("POST", f"{_AGENT}/message:send", rest.send),
        Route("POST", f"{_AGENT}/message:stream", rest.stream),
        Route("GET", f"{_AGENT}/tasks", rest.list),
        Route("GET", f"{_AGENT}/tasks/{{task}}", rest.task),
        Route("POST", f"{_AGENT}/tasks/{{task}}", rest.task),
        Route("GET", f"{_AGENT}/extendedAgentCard", rest.extended_card),
        Route("GET", _PUSH, rest.push),
        Route("POST", _PUSH, rest.push),
        Route("GET", f"{_PUSH}/{{config}}", rest.push),
        Route("DELETE", f"{_PUSH}/{{config}}", rest.push),
    ]


class _Cards:
    def __init__(self, web: Web) -> None:
        self._web = web

    async def root(self, request: Request) -> Answer:
        """The card of the only runnable that the caller may run, or of the one that is set."""
        infos = await self._web.front.verbs.runnables(await request.caller())
        wanted = self._web.options.a2a_agent
        chosen = [info for info in infos if info.name == wanted] or infos
        if len(chosen) != 1:
            paths = ", ".join(f"/a2a/{info.name}{_CARD}" for info in infos[:20])
            words = f"several agents are served here; their cards are {paths}"
            raise Refused(404, "NO_SUCH_PATH", words if infos else "no agent is served here")
        return self._answer(request, chosen[0])

    async def one(self, request: Request) -> Answer:
        """The card of one runnable."""
        name = f"{request.params['kind']}/{request.params['id']}"
        for info in await self._web.front.verbs.runnables(await request.caller()):
            if info.name == name:
                return self._answer(request, info)
        raise RunnableNotFound(name)

    def _answer(self, request: Request, info: RunnableInfo) -> Answer:
        known = self._web.front.callers.are_known
        made = card(info, self._interfaces(request, info), asks_callers=known)
        body = json.dumps(json_format.MessageToDict(made)).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        # It is made for one caller, who may not run everything, and for one name of the server.
        headers = [
            ("cache-control", f"private, max-age={_FRESH}"),
            ("etag", tag),
            ("vary", "authorization, host"),
        ]
        seen = request.headers.get("if-none-match", "")
        if tag in (one.strip().removeprefix("W/") for one in seen.split(",")):
            return Answer(status=304, headers=headers)
        return Answer(body, headers=headers)

    def _interfaces(self, request: Request, info: RunnableInfo) -> Sequence[AgentInterface]:
        proto = request.headers.get("x-forwarded-proto", "")  # a proxy may have taken TLS off
        scheme = "https" if request.is_secure or proto == "https" else "http"
        url = f"{scheme}://{request.headers.get('host', '')}/a2a/{info.name}"
        made = [
            AgentInterface(url=url, protocol_binding=binding, protocol_version=VERSION)
            for binding in ("JSONRPC", "HTTP+JSON")
        ]
        if address := self._web.options.a2a_grpc:
            # One service for all: the tenant names the runnable.
            over_grpc = AgentInterface(url=address, protocol_binding="GRPC", tenant=info.name)
            over_grpc.protocol_version = VERSION
            made.append(over_grpc)
        return made
