"""The route of AG-UI: starts a run, or lets a paused one go on, and streams what comes."""

from collections.abc import AsyncIterator

from ag_ui.core import RunAgentInput
from ag_ui.encoder import EventEncoder

from pullcord.run.errors import RunNotFound, RunNotPaused
from pullcord.run.events import Heartbeat
from pullcord.run.record import Run
from pullcord.run.requests import ContinueRequest, GetRequest, WatchRequest
from pullcord.service.following import Following
from pullcord.transports.http.agui.asked import read_input, read_resume, read_start
from pullcord.transports.http.agui.told import Told
from pullcord.transports.http.messages import Answer, Request, Stream
from pullcord.transports.http.problems import problem, renamed
from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web

_ABOUT = {
    "summary": "Run by AG-UI",
    "description": "Takes a RunAgentInput, and streams AG-UI's events.",
    "tags": ["AG-UI"],
    "requestBody": {"required": True, "content": {"application/json": {"schema": {}}}},
}

_NAMES = {
    "run_id": "runId",
    "session_id": "threadId",
    "input": "messages",
    "parts": "messages",
    "decisions": "resume",
}
"""AG-UI's names for the fields of requests."""


def routes_of(web: Web) -> list[Route]:
    """The routes of this surface."""
    return [Route("POST", "/agui/{kind}/{id}", _Runs(web).run, _refusal, about=_ABOUT)]


def _refusal(error: Exception) -> Answer:
    return problem(renamed(error, _NAMES))


class _Runs:
    def __init__(self, web: Web) -> None:
        self._web = web
        self._verbs = web.front.verbs

    async def run(self, request: Request) -> Stream:
        """Starts a run; with `resume`, decides about a paused one, which goes on."""
        given = read_input(await request.json())
        runnable = f"{request.params['kind']}/{request.params['id']}"
        if given.resume:
            return await self._go_on(request, given, runnable)
        return await self._start(request, given, runnable)

    async def _start(self, request: Request, given: RunAgentInput, runnable: str) -> Stream:
        spec = read_start(given, runnable)
        caller = await request.caller()
        following = await self._web.front.run(caller, spec)
        self._web.follow(following, request, caller)
        try:
            run = await self._verbs.get(caller, GetRequest(following.run_id))
        except BaseException:
            following.close()
            raise
        return self._stream(following, run, Told(given, run.run_id))

    async def _go_on(self, request: Request, given: RunAgentInput, runnable: str) -> Stream:
        pause, decisions = read_resume(given.resume or ())
        caller = await request.caller()
        run = await self._verbs.get(caller, GetRequest(pause.run_id))
        while run.parent_run_id and run.runnable != runnable:
            run = await self._verbs.get(caller, GetRequest(run.parent_run_id))
        if run.runnable != runnable:
            raise RunNotFound(pause.run_id)
        # It is followed first, so that at no time nobody does.
        following = await self._verbs.watch(caller, WatchRequest(run.run_id, pause.sequence))
        self._web.follow(following, request, caller)
        try:
            await self._verbs.continue_run(caller, ContinueRequest(pause.run_id, decisions))
        except RunNotPaused as error:
            if not error.repeated:  # else it is the same request once more
                following.close()
                raise
        except BaseException:
            following.close()
            raise
        self._web.keeping.let_go((run.scope, run.run_id))
        return self._stream(following, run, Told(given, run.run_id, pause.said))

    def _stream(self, following: Following, run: Run, told: Told) -> Stream:
        def close() -> None:
            """Leaving stops the run, unless the stream has ended because the run waits."""
            if told.is_paused:
                self._web.keeping.keep((run.scope, run.run_id), following)
            else:
                following.close()

        return Stream(self._lines(following, told), close=close)

    async def _lines(self, following: Following, told: Told) -> AsyncIterator[bytes]:
        encoder = EventEncoder()
        yield encoder.encode(told.first()).encode()
        async for record in self._web.records(following):
            if isinstance(record.payload, Heartbeat):
                yield b": heartbeat\n\n"
                continue
            for event in told.of(record):
                yield encoder.encode(event).encode()
            if told.is_over:
                return
