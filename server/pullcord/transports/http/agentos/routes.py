"""The routes of AgentOS's REST, the same for agents, teams and workflows.

A run that is not in the background is stopped when its client leaves, unless it is paused.
"""

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from pullcord.engine.log.record import Record
from pullcord.run.caller import Caller
from pullcord.run.cancel import CancelMode
from pullcord.run.errors import InvalidArgument, RunnableNotFound, RunNotFound, Violation
from pullcord.run.events import (
    Heartbeat,
    RunContinued,
    RunPaused,
    SourceKind,
    TerminalPayload,
    ToolCallState,
)
from pullcord.run.record import MAX_REASON_LENGTH, Decision, Run, RunFilter
from pullcord.run.requests import (
    MAX_PAGE_SIZE,
    CancelRequest,
    ContinueRequest,
    GetRequest,
    ListRequest,
    WatchRequest,
)
from pullcord.run.runnable import RunnableInfo
from pullcord.service.following import Following
from pullcord.transports.http.agentos import about, catalog, items
from pullcord.transports.http.agentos.asked import Asked, read_continue, read_start
from pullcord.transports.http.agentos.forms import Form, read_form
from pullcord.transports.http.agentos.frames import Frames, line
from pullcord.transports.http.agentos.items import STATES, Json
from pullcord.transports.http.keeping import Keeping
from pullcord.transports.http.messages import Answer, Request, Stream
from pullcord.transports.http.problems import problem, renamed
from pullcord.transports.http.routing import Handler, Route
from pullcord.transports.http.web import Web
from pullcord.wire.json import to_json
from pullcord.wire.run import receipt_message

_MAX_WAIT = 60


def routes(web: Web) -> list[Route]:
    """The routes of this surface."""
    server = _Server(web)

    def route(method: str, path: str, handle: Handler, said: about.About) -> Route:
        return Route(method, path, handle, about=said, refuse=refusal)

    made = [
        route("GET", "/health", server.health, about.HEALTH),
        route("GET", "/info", server.info, about.INFO),
        route("GET", "/config", server.config, about.CONFIG),
    ]
    for kind in (SourceKind.AGENT, SourceKind.TEAM, SourceKind.WORKFLOW):
        of_kind = _Runs(web, kind)
        top = f"/{kind.value}s"
        runs, run = f"{top}/{{id}}/runs", f"{top}/{{id}}/runs/{{run_id}}"
        said = about.of_kind(kind.value)
        made += [
            route("GET", top, of_kind.catalog, said["catalog"]),
            route("GET", f"{top}/{{id}}", of_kind.detail, said["detail"]),
            route("POST", runs, of_kind.start, said["start"]),
            route("GET", runs, of_kind.list, said["list"]),
            route("GET", run, of_kind.get, said["get"]),
            route("POST", f"{run}/cancel", of_kind.cancel, said["cancel"]),
            route("POST", f"{run}/continue", of_kind.go_on, said["continue"]),
            route("POST", f"{run}/resume", of_kind.resume, said["resume"]),
        ]
    return made


def refusal(error: Exception) -> Answer:
    """The answer that says why a request was refused, with AgentOS's names of the fields."""
    return problem(renamed(error, {"input": "message", "labels": "metadata", "parts": "files"}))


class _Server:
    def __init__(self, web: Web) -> None:
        self._web = web
        self._since = time.time()

    async def health(self, request: Request) -> Answer:
        """Whether new runs are taken. Nobody has to say who asks."""
        serves = self._web.front.is_serving
        told = {"status": "ok" if serves else "draining", "instantiated_at": items.iso(self._since)}
        return _answer(told, 200 if serves else 503)

    async def info(self, request: Request) -> Answer:
        """The server's description of itself."""
        infos = await self._web.front.verbs.runnables(await request.caller())
        return _answer(catalog.counts(infos, version("pullcord")))

    async def config(self, request: Request) -> Answer:
        """The runnables that can be run."""
        return _answer(
            catalog.config(await self._web.front.verbs.runnables(await request.caller()))
        )


@dataclass(slots=True)
class _Seen:
    """A following, and which runs wait for a decision, as far as was seen."""

    following: Following
    run: Run
    keeping: Keeping
    waiting: set[str] = field(default_factory=set)
    """The run itself, or children of it."""

    def waits_after(self, record: Record) -> bool:
        """Whether the run or a child waits for a decision, as far as was seen up to this."""
        run_id = self.run.run_id if record.source is None else record.source.run_id
        if isinstance(record.payload, RunPaused):
            self.waiting.add(run_id)
        elif isinstance(record.payload, RunContinued | TerminalPayload):
            self.waiting.discard(run_id)
        return bool(self.waiting)

    def close(self) -> None:
        """Leaves the run, or keeps it if it waits for a decision."""
        if self.waiting:
            self.waiting.clear()
            self.keeping.keep((self.run.scope, self.run.run_id), self.following)
        else:
            self.following.close()


class _Runs:
    """The runs of all runnables of one kind."""

    def __init__(self, web: Web, kind: SourceKind) -> None:
        self._web = web
        self._verbs = web.front.verbs
        self._kind = kind

    # --- what is on offer

    async def catalog(self, request: Request) -> Answer:
        """All that the caller may run."""
        infos = await self._verbs.runnables(await request.caller())
        return _answer([catalog.summary(info) for info in catalog.of_kind(self._kind, infos)])

    async def detail(self, request: Request) -> Answer:
        """One of them."""
        infos = await self._verbs.runnables(await request.caller())
        return _answer(catalog.detail(self._among(request, infos), infos))

    async def _info(self, request: Request, caller: Caller) -> RunnableInfo:
        return self._among(request, await self._verbs.runnables(caller))

    def _among(self, request: Request, infos: Sequence[RunnableInfo]) -> RunnableInfo:
        name = f"{self._kind.value}s/{request.params['id']}"
        for info in infos:
            if info.name == name:
                return info
        raise RunnableNotFound(name)

    # --- runs that exist

    async def _run(
        self, request: Request, caller: Caller, session: str = ""
    ) -> tuple[Run, RunnableInfo]:
        """The run of the path, and its runnable, which the caller need not be let start.

        Raises RunNotFound, also where it is another runnable's.
        """
        run_id = request.params["run_id"]
        run = await self._verbs.get(caller, GetRequest(run_id))
        session = session or request.query.get("session_id", "")
        other = f"{self._kind.value}s/{request.params['id']}" != run.runnable
        if other or (session and session != run.session_id):
            raise RunNotFound(run_id)
        # A run outlives the program that offered its runnable.
        named = RunnableInfo(run.runnable, self._kind, request.params["id"])
        return run, self._verbs.about(run.runnable) or named

    async def get(self, request: Request) -> Answer:
        """A run as it is now."""
        return _answer(items.output(*await self._run(request, await request.caller())))

    async def list(self, request: Request) -> Answer:
        """The runs of one runnable, the newest first; of one session, if it is named."""
        caller = await request.caller()
        runnable = f"{self._kind.value}s/{request.params['id']}"
        word = request.query.get("status", "").upper()
        if word and word not in STATES:
            why = f"must be one of {', '.join(STATES)}"
            raise InvalidArgument(Violation("status", why))
        which = RunFilter(
            runnable=runnable,
            session_id=request.query.get("session_id", ""),
            user_id=request.query.get("user_id", ""),
            states=STATES.get(word, frozenset()),
        )
        form = Form(dict(request.query))
        size = min(MAX_PAGE_SIZE, max(1, form.number("limit", 100)))
        page = await self._verbs.list(caller, ListRequest(which, page_size=size))
        # One who may not start it may see runs of it; without any, it is not there.
        info = self._verbs.about(runnable) if page.runs else None
        info = info or await self._info(request, caller)
        return _answer([items.entry(run, info) for run in page.runs if not run.parent_run_id])

    async def cancel(self, request: Request) -> Answer:
        """Stops a run; the receipt. A body is not needed; `reason`, `mode`, `wait` may be in it."""
        form = await _form_of_any(request)
        caller = await request.caller()
        before_start = form.flag("before_start", False)
        if before_start:
            await self._info(request, caller)
        else:
            await self._run(request, caller)
        word = form.text("mode").lower() or CancelMode.GRACEFUL.value
        if word not in list(CancelMode):
            form.wrong.append(Violation("mode", "must be graceful or immediate"))
        reason = form.text("reason")
        if len(reason) > MAX_REASON_LENGTH:
            form.wrong.append(
                Violation("reason", f"must be at most {MAX_REASON_LENGTH} characters")
            )
        asked = CancelRequest(
            request.params["run_id"],
            reason=reason,
            mode=CancelMode.IMMEDIATE if word == "immediate" else CancelMode.GRACEFUL,
            wait=min(_MAX_WAIT, max(0, form.number("wait", 0))),
            before_start=before_start,
        )
        if form.wrong:
            raise InvalidArgument(*form.wrong)
        receipt = await self._verbs.cancel(caller, asked)
        return Answer(to_json(receipt_message(receipt)))

    # --- starting, and going on

    async def start(self, request: Request) -> Answer | Stream:
        """Starts a run."""
        caller = await request.caller()
        info = await self._info(request, caller)
        asked = read_start(await read_form(request), info.name)
        if asked.background and not asked.stream:
            return _pending(await self._web.front.start(caller, asked.spec))
        following = await self._web.front.run(caller, asked.spec)
        return await self._follow(request, caller, info, following, asked)

    async def go_on(self, request: Request) -> Answer | Stream:
        """Brings a paused run the decisions that it waits for."""
        caller = await request.caller()
        asked = read_continue(await read_form(request))
        before, info = await self._run(request, caller, asked.spec.session_id)
        if asked.background and not asked.stream:
            await self._decide(caller, before, asked)
            return _pending(before)
        # It is followed first, so that at no time nobody does.
        request_of = WatchRequest(before.run_id, before.last_sequence)
        following = await self._verbs.watch(caller, request_of)
        try:
            await self._decide(caller, before, asked)
        except BaseException:
            following.close()
            raise
        self._web.keeping.let_go((before.scope, before.run_id))
        return await self._follow(request, caller, info, following, asked)

    async def _decide(self, caller: Caller, run: Run, asked: Asked) -> None:
        """Brings each decision to the run that asked: this one, or a child of it."""
        waiting = [call for call in run.tool_calls if call.state is ToolCallState.WAITING]
        askers = {call.tool_call_id: call.run_id for call in waiting}
        children = {call.run_id for call in waiting}
        by_run: dict[str, list[Decision]] = {}
        for named, decision in asked.decisions:
            asker = named if named in children else askers.get(decision.tool_call_id, "")
            by_run.setdefault(asker or run.run_id, []).append(decision)
        for run_id, decisions in (by_run or {run.run_id: []}).items():
            await self._verbs.continue_run(caller, ContinueRequest(run_id, tuple(decisions)))

    async def resume(self, request: Request) -> Answer | Stream:
        """The events after the one that was seen, and those that come, to the next pause."""
        form = await read_form(request)
        after = form.number("last_event_index", -1) + 1
        session = form.text("session_id")
        form.ignore("user_id")
        form.done()
        caller = await request.caller()
        run, info = await self._run(request, caller, session)
        after = min(after, run.last_sequence)
        following = await self._verbs.watch(caller, WatchRequest(run.run_id, after))
        self._web.follow(following, request, caller)
        seen = _Seen(following, run, self._web.keeping)
        return Stream(self._resumed(seen, Frames(run, info), after), close=seen.close)

    async def _follow(
        self,
        request: Request,
        caller: Caller,
        info: RunnableInfo,
        following: Following,
        asked: Asked,
    ) -> Answer | Stream:
        try:
            self._web.follow(following, request, caller)
            run = await self._verbs.get(caller, GetRequest(following.run_id))
        except BaseException:
            following.close()
            raise
        seen = _Seen(following, run, self._web.keeping)
        frames = Frames(run, info, only_content=asked.only_content)
        if asked.stream:
            return Stream(self._lines(seen, frames), close=seen.close)
        try:
            async for _ in self._lines(seen, frames):
                pass
        finally:
            seen.close()
        run = await self._verbs.get(caller, GetRequest(following.run_id))
        return _answer(items.output(run, info))

    # --- streams

    async def _lines(self, seen: _Seen, frames: Frames) -> AsyncIterator[bytes]:
        """To the end of the run, or to its next pause."""
        async for record in self._web.records(seen.following):
            if isinstance(record.payload, Heartbeat):
                yield b": heartbeat\n\n"
                continue
            if (event := frames.of(record)) is not None:
                yield line(event)
            if seen.waits_after(record):
                return

    async def _resumed(self, seen: _Seen, frames: Frames, after: int) -> AsyncIterator[bytes]:
        """The missed events, a marker after the last of them, and the rest."""
        run, last = seen.run, seen.run.last_sequence
        told: Json = {"run_id": run.run_id, "status": items.status_of(run)}
        missed = max(0, last - after)
        if run.state.is_terminal:
            more = {"total_events": missed, "total_buffered": last}
            yield line({"event": "replay", **told, **more, "last_event_index_requested": after - 1})
        else:
            more = {"missed_events": missed, "current_event_count": last}
            yield line({"event": "catch_up", **told, **more})
        subscribed = line({"event": "subscribed", **told, "current_event_count": last})
        caught_up = run.state.is_terminal
        if not caught_up and not missed:
            caught_up = True
            yield subscribed
        async for record in self._web.records(seen.following):
            if isinstance(record.payload, Heartbeat):
                yield b": heartbeat\n\n"
                continue
            if (event := frames.of(record)) is not None:
                yield line(event)
            waits = seen.waits_after(record)
            if not caught_up and record.sequence >= last:
                caught_up = True
                yield subscribed
            if waits and caught_up:
                return


async def _form_of_any(request: Request) -> Form:
    """The fields of a cancel: of the query, and of the body where it can be read."""
    values: dict[str, Any] = dict(request.query)
    if request.content_type == "application/json" and (await request.body()).strip():
        body = await request.json()
        if isinstance(body, dict):
            values |= body
    return Form(values)


def _pending(run: Run) -> Answer:
    """A run that goes on without its client."""
    told = {"run_id": run.run_id, "session_id": run.session_id, "status": "PENDING"}
    return _answer(told, 202)


def _answer(value: Any, status: int = 200) -> Answer:
    return Answer(json.dumps(value, default=str).encode(), status)
