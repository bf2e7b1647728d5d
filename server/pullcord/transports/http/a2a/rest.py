"""A2A's HTTP+JSON: a path for each thing that can be asked. Errors are google.rpc.Status."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from a2a.types import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTasksRequest,
    MethodNotFoundError,
    SendMessageRequest,
    SubscribeToTaskRequest,
    TaskPushNotificationConfig,
)
from google.protobuf.message import Message
from google.rpc.code_pb2 import Code

from pullcord.transports.a2a.agent import Agent, Call, Flow
from pullcord.transports.a2a.methods import no_extended_card, no_push
from pullcord.transports.a2a.refusals import Refusal
from pullcord.transports.http.a2a.calls import JSON, Calls, answer, told
from pullcord.transports.http.messages import Answer, Request, Stream

M = TypeVar("M", bound=Message)


class Rest:
    """The paths of every runnable."""

    def __init__(self, calls: Calls, agent: Agent) -> None:
        self._calls = calls
        self._agent = agent

    async def send(self, request: Request) -> Answer | Stream:
        """Starts a task, or brings a paused one what it waits for."""
        return await self._ask(request, SendMessageRequest, self._agent.send)

    async def stream(self, request: Request) -> Answer | Stream:
        """The same as it comes."""
        return await self._ask(request, SendMessageRequest, self._agent.stream)

    async def list(self, request: Request) -> Answer | Stream:
        """One page of tasks."""
        return await self._ask(request, ListTasksRequest, self._agent.list, _of_query(request))

    async def task(self, request: Request) -> Answer | Stream:
        """A task, or its `:cancel` and `:subscribe`."""
        id, colon, verb = request.params["task"].rpartition(":")
        if request.method == "POST" and colon and verb == "cancel":
            return await self._ask(request, CancelTaskRequest, self._agent.cancel, {"id": id})
        if colon and verb == "subscribe":
            of_id = {"id": id}
            return await self._ask(request, SubscribeToTaskRequest, self._agent.subscribe, of_id)
        if request.method == "POST":
            return _refused(MethodNotFoundError("a task can be asked to :cancel and :subscribe"))
        of_id = _of_query(request) | {"id": request.params["task"]}
        return await self._ask(request, GetTaskRequest, self._agent.get, of_id)

    async def push(self, request: Request) -> Answer | Stream:
        """Webhooks, of which there are none."""
        return await self._ask(request, TaskPushNotificationConfig, no_push, {})

    async def extended_card(self, request: Request) -> Answer | Stream:
        """Another card, of which there is none."""
        return await self._ask(request, TaskPushNotificationConfig, no_extended_card, {})

    async def _ask(
        self,
        request: Request,
        kind: type[M],
        method: Callable[[Call, M], Awaitable[Message | Flow]],
        of_path: Mapping[str, Any] | None = None,
    ) -> Answer | Stream:
        """Asks with what the body says, and the path above it."""
        try:
            call = await self._calls.of(request)
            said: Any = {}
            if request.method == "POST":
                said = await self._calls.values(request) or {}
            if of_path and isinstance(said, dict):
                said = {**said, **of_path}
            message = await self._calls.read(kind, said, len(await request.body()))
            given = await method(call, message)
        except Exception as error:
            return _refused(error)
        if isinstance(given, Flow):
            return self._calls.stream(given, _json_of)
        return Answer(await self._calls.json(given), content_type=JSON)


def _of_query(request: Request) -> dict[str, Any]:
    """The fields of a query. Numbers, enums and times are text there as in JSON; flags are not."""
    flags = {"true": True, "false": False}
    return {name: flags.get(text.lower(), text) for name, text in request.query.items() if text}


def _refused(error: Exception) -> Answer:
    said = told(error)
    made = answer(said, error, None)
    made.body = _json_of(said, made.status)
    return made


def _json_of(said: Refusal, status: int | None = None) -> bytes:
    code = status or said.http_status or 500
    error = {
        "code": code,
        "status": Code.Name(said.status.code),
        "message": said.status.message,
        "details": said.details,
    }
    return json.dumps({"error": error}).encode()
