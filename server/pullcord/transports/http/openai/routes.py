"""The routes of OpenAI's Responses: start, follow, resume, look at and cancel a response.

A response that is not in the background is stopped when its client leaves.
"""

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

from pullcord.run.caller import Caller
from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.events import TERMINAL_PAYLOADS, Heartbeat
from pullcord.run.message import Message, Part, Role
from pullcord.run.record import DisconnectPolicy, Run, RunFilter, RunSpec, SessionPolicy, is_id
from pullcord.run.requests import (
    ContinueRequest,
    GetRequest,
    ListRequest,
    WatchRequest,
)
from pullcord.run.state import RunState
from pullcord.service.following import Following
from pullcord.transports.http.messages import Answer, Request, Stream
from pullcord.transports.http.openai import chat, items
from pullcord.transports.http.openai.asked import Asked, read_cancel, read_response, refused
from pullcord.transports.http.openai.frames import ROOM, Frames
from pullcord.transports.http.openai.refusals import chat_refusal, refusal
from pullcord.transports.http.routing import Handler, Route
from pullcord.transports.http.web import Web
from pullcord.wire.json import to_json
from pullcord.wire.run import receipt_message

_MAX_TURNS = 200
"""Turns of a conversation that are sent again if a request brings instructions for it."""


def routes(web: Web) -> list[Route]:
    """The routes of this surface."""
    surface = _Responses(web)

    def route(method: str, path: str, handle: Handler) -> Route:
        return Route(method, path, handle, refuse=refusal)

    return [
        route("POST", "/v1/responses", surface.create),
        route("GET", "/v1/responses/{response_id}", surface.retrieve),
        route("POST", "/v1/responses/{response_id}/cancel", surface.cancel),
        route("GET", "/v1/responses/{response_id}/input_items", surface.input_items),
        *chat.routes(web, chat_refusal),
    ]


class _Responses:
    def __init__(self, web: Web) -> None:
        self._web = web
        self._verbs = web.front.verbs

    # --- requests

    async def create(self, request: Request) -> Answer | Stream:
        """Starts a response; or brings a paused one the approvals that it waits for."""
        asked = read_response(await request.json())
        caller = await request.caller()
        if asked.decisions:
            return await self._continue(request, caller, asked)
        spec = await self._spec(caller, asked)
        if asked.background and not asked.stream:
            run = await self._web.front.start(caller, spec)
            return _answer(items.response(run, items.output_of(run)))
        following = await self._web.front.run(caller, spec)
        return await self._follow(request, caller, following, stream=asked.stream)

    async def _continue(self, request: Request, caller: Caller, asked: Asked) -> Answer | Stream:
        run_id = asked.previous
        before = await self._verbs.get(caller, GetRequest(run_id))
        run = await self._verbs.continue_run(caller, ContinueRequest(run_id, asked.decisions))
        if asked.background and not asked.stream:
            return _answer(items.response(run, items.output_of(run)))
        following = await self._verbs.watch(caller, WatchRequest(run_id))
        after = before.last_sequence * ROOM - 1
        return await self._follow(request, caller, following, stream=asked.stream, after=after)

    async def retrieve(self, request: Request) -> Answer | Stream:
        """A response as it is now, or, streamed, its frames after the one that was seen."""
        run_id, caller = request.params["response_id"], await request.caller()
        if request.query.get("stream") == "true":
            after = _number(request.query.get("starting_after", "-1"))
            following = await self._verbs.watch(caller, WatchRequest(run_id))
            return await self._follow(request, caller, following, stream=True, after=after)
        run = await self._verbs.get(caller, GetRequest(run_id))
        return _answer(items.response(run, items.output_of(run)))

    async def cancel(self, request: Request) -> Answer:
        """Stops a response; the receipt is among our own fields."""
        run_id, caller = request.params["response_id"], await request.caller()
        receipt = await self._verbs.cancel(caller, read_cancel(await request.json() or {}, run_id))
        # A stop that comes first has no run yet: what is waited for is shown as queued.
        run = receipt.run or Run(run_id, "", RunState.PENDING)
        told = json.loads(to_json(receipt_message(receipt)))
        told.pop("run", None)
        return _answer(items.response(run, items.output_of(run), {"receipt": told}))

    async def input_items(self, request: Request) -> Answer:
        """The input of a response."""
        run_id, caller = request.params["response_id"], await request.caller()
        run = await self._verbs.get(caller, GetRequest(run_id))
        content: list[Any] = [{"type": "input_text", "text": run.input}]
        content += [{"type": "input_text", "text": p.text} for p in run.parts if p.text]
        id = f"msg_{run.run_id}_input"
        item = {"id": id, "type": "message", "role": "user", "status": "completed"}
        data = [{**item, "content": content}]
        page = {"object": "list", "data": data, "first_id": id, "last_id": id, "has_more": False}
        return _answer(page)

    # --- what is started

    async def _spec(self, caller: Caller, asked: Asked) -> RunSpec:
        turn, session, user = asked.turn, asked.conversation, asked.user
        before = list(turn.before)
        if asked.previous:
            session, user = await self._session_of(caller, asked)
        elif session and not user:  # which is for the first turn of a conversation to say
            latest = next(iter(await self._turns(caller, asked.model, session)), None)
            user = latest.user_id if latest else ""
        if asked.instructions:
            before.insert(0, Message(Role.SYSTEM, (Part(asked.instructions),)))
        if session and before:
            before = await self._with_history(caller, asked.model, session, user, before)
        return RunSpec(
            asked.model,
            turn.input,
            run_id=asked.run_id,
            # Of a retry the session must be the same.
            session_id=session or (asked.run_id if is_id(asked.run_id) else f"conv-{uuid.uuid4()}"),
            user_id=user,
            limits=asked.limits,
            on_disconnect=(
                DisconnectPolicy.CONTINUE if asked.background else DisconnectPolicy.CANCEL
            ),
            labels=asked.metadata,
            session_policy=SessionPolicy.QUEUE,
            parts=turn.parts,
            messages=tuple(before),
        )

    async def _session_of(self, caller: Caller, asked: Asked) -> tuple[str, str]:
        """The session and the user of the response before, which must be its session's last."""
        name = "previous_response_id"
        run = await self._verbs.get(caller, GetRequest(asked.previous))
        if run.runnable != asked.model:
            raise refused(name, f"is a response of {run.runnable}, and not of {asked.model}")
        if not run.session_id:
            raise refused(name, "belongs to no conversation")
        if asked.user not in ("", run.user_id):
            raise refused("user", "is not the user of the response before")
        turns = await self._turns(caller, run.runnable, run.session_id, run.user_id)
        latest = next(iter(turns), run)
        if latest.run_id != run.run_id:
            raise refused(name, f"is not the last of its conversation: {latest.run_id} is")
        return run.session_id, run.user_id

    async def _turns(
        self, caller: Caller, runnable: str, session: str, user: str = ""
    ) -> list[Run]:
        """The latest turns of a conversation, of all users or of one, the newest first."""
        which = RunFilter(runnable=runnable, session_id=session, user_id=user)
        page = await self._verbs.list(caller, ListRequest(which, page_size=_MAX_TURNS))
        return [run for run in page.runs if not run.parent_run_id]

    async def _with_history(
        self, caller: Caller, runnable: str, session: str, user: str, more: list[Message]
    ) -> list[Message]:
        """These messages behind what was said before, since they take a session's place."""
        told: list[Message] = []
        for turn in reversed(await self._turns(caller, runnable, session, user)):
            run = await self._verbs.get(caller, GetRequest(turn.run_id))
            told.append(Message(Role.USER, (Part(run.input), *(p for p in run.parts if p.text))))
            if run.output:
                told.append(Message(Role.ASSISTANT, (Part(run.output),)))
        first = [m for m in more[:1] if m.role is Role.SYSTEM]
        return [*first, *told, *more[len(first) :]]

    # --- answers

    async def _follow(
        self,
        request: Request,
        caller: Caller,
        following: Following,
        *,
        stream: bool,
        after: int = -1,
    ) -> Answer | Stream:
        self._web.follow(following, request, caller)
        if not stream:
            run = await self._web.ended(following, caller)
            return _answer(items.response(run, items.output_of(run)))
        try:
            run = await self._verbs.get(caller, GetRequest(following.run_id))
        except BaseException:
            following.close()
            raise
        lines = self._lines(caller, following, Frames(run, after))
        return Stream(lines, close=following.close)

    async def _lines(
        self, caller: Caller, following: Following, frames: Frames
    ) -> AsyncIterator[bytes]:
        async for record in self._web.records(following):
            if isinstance(record.payload, Heartbeat):
                yield b": heartbeat\n\n"
                continue
            run = None
            if record.source is None and isinstance(record.payload, TERMINAL_PAYLOADS):
                run = await self._verbs.get(caller, GetRequest(following.run_id))
            for frame in frames.of(record, run):
                yield f"event: {frame['type']}\ndata: {json.dumps(frame)}\n\n".encode()


def _answer(value: Any) -> Answer:
    return Answer(json.dumps(value).encode())


def _number(text: str) -> int:
    """A sequence number; -1: none was seen."""
    try:
        return max(-1, int(text[:20]))
    except ValueError:
        wrong = Violation("starting_after", f"must be a number, and is {text[:40]!r}")
        raise InvalidArgument(wrong) from None
