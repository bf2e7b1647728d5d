"""Chat Completions, a thin view for chat front ends: a run is stopped by leaving, and only so.

The whole conversation comes with each request, so no session is kept. `GET /v1/models` lists what
the caller may run.
"""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

from pullcord.run.events import TERMINAL_PAYLOADS, Heartbeat, Snapshot
from pullcord.run.finish import FinishReason
from pullcord.run.record import DisconnectPolicy, Run, RunSpec
from pullcord.run.requests import GetRequest
from pullcord.run.state import RunState
from pullcord.service.following import Following
from pullcord.transports.http.messages import Answer, Request, Stream
from pullcord.transports.http.openai.asked import (
    Fields,
    read_limits,
    read_message,
    read_metadata,
    refused,
    turn_of,
)
from pullcord.transports.http.openai.items import Json
from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web

_REASONS = {
    FinishReason.LENGTH: "length",
    FinishReason.CONTENT_FILTER: "content_filter",
}


def routes(web: Web, refuse: Callable[[Exception], Answer]) -> list[Route]:
    """The routes of this surface."""
    surface = _Chat(web)
    return [
        Route("POST", "/v1/chat/completions", surface.create, refuse=refuse),
        Route("GET", "/v1/models", surface.models, refuse=refuse),
    ]


class _Chat:
    def __init__(self, web: Web) -> None:
        self._web = web
        self._verbs = web.front.verbs

    async def models(self, request: Request) -> Answer:
        """The runnables that the caller may start."""
        infos = await self._verbs.runnables(await request.caller())
        data = [
            {"id": info.name, "object": "model", "created": 0, "owned_by": "pullcord"}
            for info in infos
        ]
        return Answer(json.dumps({"object": "list", "data": data}).encode())

    async def create(self, request: Request) -> Answer | Stream:
        """Answers a conversation."""
        fields = Fields(await request.json())
        given = fields.take("messages", list, [])
        options = fields.take("stream_options", dict, {})
        stream = fields.take("stream", bool, False)
        messages = []
        for index, item in enumerate(given):
            if not isinstance(item, dict):
                raise refused(f"messages[{index}]", "must be an object")
            messages.append(read_message(item, f"messages[{index}]"))
        turn = turn_of(messages, "messages")
        spec = RunSpec(
            fields.take("model", str, ""),
            turn.input,
            run_id=fields.take("run_id", str, ""),
            user_id=fields.take("user", str, ""),
            limits=read_limits(fields),
            labels=read_metadata(fields),
            on_disconnect=DisconnectPolicy.CANCEL,
            parts=turn.parts,
            messages=turn.before,
        )
        fields.done()
        caller = await request.caller()
        following = await self._web.front.run(caller, spec)
        self._web.follow(following, request, caller)
        if not stream:
            return _completion(await self._web.ended(following, caller))
        try:
            run = await self._verbs.get(caller, GetRequest(following.run_id))
        except BaseException:
            following.close()
            raise
        with_usage = options.get("include_usage") is True

        async def ended() -> Run:
            return await self._verbs.get(caller, GetRequest(run.run_id))

        lines = _lines(self._web, following, run, ended, with_usage)
        return Stream(lines, close=following.close)


async def _lines(
    web: Web,
    following: Following,
    run: Run,
    ended: Callable[[], Any],
    with_usage: bool,
) -> AsyncIterator[bytes]:
    said = ""
    yield _chunk(run, {"role": "assistant", "content": ""})
    async for record in web.records(following):
        payload = record.payload
        if isinstance(payload, Heartbeat):
            yield b": heartbeat\n\n"
        elif record.source is not None:
            continue
        elif payload is None:
            name = "reasoning_content" if record.reasoning else "content"
            said += "" if record.reasoning else record.text
            yield _chunk(run, {name: record.text})
        elif isinstance(payload, Snapshot):
            yield _chunk(run, {"content": payload.run.output[len(said) :]})
            said = payload.run.output
        elif isinstance(payload, TERMINAL_PAYLOADS):
            run = await ended()
            if (error := _error(run)) is not None:
                yield _line({"error": error})
                return
            yield _chunk(run, {}, finish=_finish(run))
            if with_usage:
                yield _line(
                    {**_head(run, "chat.completion.chunk"), "choices": [], "usage": _used(run)}
                )
    yield b"data: [DONE]\n\n"


def _finish(run: Run) -> str:
    return _REASONS.get(run.finish_reason, "stop") if run.finish_reason is not None else "stop"


def _line(value: Json) -> bytes:
    return f"data: {json.dumps(value)}\n\n".encode()


def _chunk(run: Run, delta: Json, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return _line({**_head(run, "chat.completion.chunk"), "choices": [choice]})


def _head(run: Run, kind: str) -> Json:
    return {
        "id": run.run_id,
        "object": kind,
        "created": int(run.create_time),
        "model": run.runnable,
    }


def _used(run: Run) -> Json:
    return {
        "prompt_tokens": run.usage.input_tokens,
        "completion_tokens": run.usage.output_tokens,
        "total_tokens": run.usage.total_tokens,
    }


def _error(run: Run) -> Json | None:
    """The error of a run that did not complete, for which no finish_reason exists."""
    if run.state is RunState.FAILED and run.error is not None:
        return {
            "message": run.error.words,
            "type": "server_error",
            "param": None,
            "code": "RUN_FAILED",
        }
    if run.state is RunState.CANCELLED and run.cancellation is not None:
        cause = run.cancellation.cause.name
        words = f"the run was stopped, cause {cause}"
        return {"message": words, "type": "cancelled", "param": None, "code": cause}
    return None


def _completion(run: Run) -> Answer:
    if (error := _error(run)) is not None:
        status = 422 if run.state is RunState.FAILED else 409
        body = {"error": error, "id": run.run_id, "output": run.output}
        return Answer(json.dumps(body).encode(), status, headers=(("x-should-retry", "false"),))
    message = {"role": "assistant", "content": run.output, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(run)}
    whole = {**_head(run, "chat.completion"), "choices": [choice], "usage": _used(run)}
    return Answer(json.dumps(whole).encode())
