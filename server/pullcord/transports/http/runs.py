"""The native routes: a run's events as server-sent events, its cancel, and the server's health.

The JSON is that of pullcord.v1 messages. Everything else is asked for over Connect, at
`/pullcord.v1.RunService/…`, where a call without a stream is a plain POST of JSON.
"""

from collections.abc import AsyncIterator

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.events import Gap, Heartbeat
from pullcord.run.requests import GetRequest
from pullcord.service.following import Following
from pullcord.transports.faults import refusal_of
from pullcord.transports.http.messages import Answer, Request, Stream
from pullcord.transports.http.openapi import of_message, query
from pullcord.transports.http.problems import problem
from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import OneCall, Web
from pullcord.v1 import event_pb2
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire import requests
from pullcord.wire.json import from_json, to_json

_RETRY = 300
"""Milliseconds after which an EventSource comes back."""


def routes(web: Web) -> list[Route]:
    """The routes of this surface."""
    surface = _Runs(web)
    return [
        Route("GET", "/healthz", surface.health, about=_HEALTH),
        Route("GET", "/v1/runs/{run_id}/events", surface.events, about=_EVENTS),
        Route("POST", "/v1/runs/{run_id}/cancel", surface.cancel, about=_CANCEL),
    ]


_WHOSE = [
    query("tenant", "The tenant of the run, where the caller may see more than one."),
    query("owner", "The owner of the run, where the caller may see the runs of several."),
    query("token", "A token for this run (CreateRunToken), where no header can be sent."),
]
_HEALTH = {
    "summary": "Whether new runs are taken",
    "responses": {
        "200": {"description": "They are."},
        "503": {"description": "They are not now: it drains, or a part is away."},
    },
}
_EVENTS = {
    "summary": "A run's events, as server-sent events",
    "parameters": [
        query(
            "after_sequence",
            "The last event that was seen; a header Last-Event-ID wins over it.",
            type="integer",
            minimum=0,
        ),
        *_WHOSE,
    ],
    "responses": {
        "200": {
            "description": "Each message's data is a RunEvent, and its id is the sequence.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        "204": {"description": "The run is over, and all of it was seen."},
    },
    "x-messages": [event_pb2.RunEvent],
}
_CANCEL = {
    "summary": "Stops a run",
    "parameters": [query("reason", "Why, in the asker's words."), *_WHOSE],
    "requestBody": {"content": of_message(v1.CancelRunRequest)},
    "responses": {
        "200": {"description": "The receipt.", "content": of_message(v1.CancelRunResponse)}
    },
    "x-messages": [v1.CancelRunRequest, v1.CancelRunResponse],
}


class _Runs:
    def __init__(self, web: Web) -> None:
        self._web = web

    async def health(self, request: Request) -> Answer:
        """Whether new runs can be executed. Nobody has to say who asks."""
        if self._web.front.is_serving:
            return Answer(b'{"status":"SERVING"}')
        return Answer(b'{"status":"NOT_SERVING"}', 503)

    async def events(self, request: Request) -> Answer | Stream:
        """A run's events from any point; nothing (204) once all of an ended run were seen."""
        web = self._web
        message = v1.WatchRunRequest(
            run_id=request.params["run_id"],
            after_sequence=_after(request),
            tenant=request.query.get("tenant", ""),
            owner=request.query.get("owner", ""),
        )
        asked = requests.parse_watch(message)
        caller = await request.caller()
        if asked.after_sequence:
            run = await web.front.verbs.get(caller, GetRequest(asked.run_id, asked.whose))
            if run.state.is_terminal and asked.after_sequence >= run.last_sequence:
                return Answer(status=204)
        following = await web.front.verbs.watch(caller, asked)
        web.follow(following, request, caller)
        return Stream(self._lines(following), close=following.close)

    async def _lines(self, following: Following) -> AsyncIterator[bytes]:
        yield b"retry: %d\n\n" % _RETRY
        try:
            async for line in self._events_of(following):
                yield line
        except Exception as error:  # its reader comes back, and is then refused with a status
            yield b"event: refused\ndata: %b\n\n" % problem(refusal_of(error)).body

    async def _events_of(self, following: Following) -> AsyncIterator[bytes]:
        run_id = following.run_id
        async for record in self._web.records(following):
            if isinstance(record.payload, Heartbeat):
                yield b": heartbeat\n\n"
                continue
            data = await self._web.event_json(run_id, record)
            if isinstance(record.payload, Gap):  # the snapshot behind it says where the client is
                yield b"data: %b\n\n" % data
            else:
                yield b"id: %d\ndata: %b\n\n" % (record.sequence, data)

    async def cancel(self, request: Request) -> Answer:
        """Stops a run; the receipt. Takes a CancelRunRequest as JSON, or nothing at all."""
        body = await request.body()
        message = from_json(v1.CancelRunRequest, body) if body.strip() else v1.CancelRunRequest()
        message.run_id = request.params["run_id"]
        if reason := request.query.get("reason"):
            message.reason = reason
        data = message.SerializeToString()
        call = OneCall(await request.caller())
        made = await self._web.front.answering.unary["CancelRun"](call, data)
        return Answer(to_json(v1.CancelRunResponse.FromString(made)))


def _after(request: Request) -> int:
    """The last event seen, by the header of an EventSource that comes back, or by the query."""
    name = "last-event-id"
    text = request.headers.get(name, "")
    if not text:
        name = "after_sequence"
        text = request.query.get(name, "") or "0"
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        words = f"must be a number of an event, and is {text[:40]!r}"
        raise InvalidArgument(Violation(name, words))
    return int(text)
