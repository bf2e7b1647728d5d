"""A2A's JSON-RPC: one path for each runnable, and the method in the body.

What A2A has an error for is an answer with status 200; what it has none for keeps the status that
it has everywhere, such as 401, 429 and 503, with an error in the body all the same.
"""

import json
from typing import Any

from a2a.types import InvalidParamsError, InvalidRequestError, MethodNotFoundError

from pullcord.transports.a2a.agent import Agent, Flow
from pullcord.transports.a2a.methods import Method, methods
from pullcord.transports.a2a.refusals import Refusal
from pullcord.transports.http.a2a.calls import Calls, answer, told
from pullcord.transports.http.messages import Answer, Refused, Request, Stream


class JsonRpc:
    """The endpoint of every runnable."""

    def __init__(self, calls: Calls, agent: Agent) -> None:
        self._calls = calls
        self._methods = methods(agent)

    async def with_slash(self, request: Request) -> Answer | Stream:
        """The same as `handle`, for a path that ends in a slash."""
        pieces = request.path.strip("/").split("/")
        if len(pieces) != 3:
            raise Refused(404, "NO_SUCH_PATH", f"nothing is served at {request.path[:200]!r}")
        request.params = {"kind": pieces[1], "id": pieces[2]}
        return await self.handle(request)

    async def handle(self, request: Request) -> Answer | Stream:
        """One request."""
        id: str | int | None = None
        try:
            asked = await self._calls.values(request)
            id = _id_of(asked)
            kind, method = self._method(asked)
            call = await self._calls.of(request)
            size = len(await request.body())
            message = await self._calls.read(kind, asked.get("params") or {}, size)
            given = await method(call, message)
        except Exception as error:
            said = told(error)
            return answer(said, error, _failed(id, said), ok=200)
        before = b'{"jsonrpc":"2.0","id":%b,"result":' % json.dumps(id).encode()
        if isinstance(given, Flow):
            return self._calls.stream(
                given, lambda said: json.dumps(_failed(id, said)).encode(), before, b"}"
            )
        return Answer(await self._calls.json(given, before, b"}"))

    def _method(self, asked: Any) -> Method:
        if not isinstance(asked, dict):
            raise InvalidRequestError("must be one JSON object: there are no batches here")
        if asked.get("jsonrpc") != "2.0":
            raise InvalidRequestError("jsonrpc: must be '2.0'")
        if isinstance(asked.get("id"), bool | float | list | dict):
            raise InvalidRequestError("id: must be text, a whole number or null")
        name = asked.get("method")
        if not isinstance(name, str) or not name:
            raise InvalidRequestError("method: is required")
        if name not in self._methods:
            raise MethodNotFoundError(f"there is no method {name[:100]!r} in A2A 1.0")
        if not isinstance(asked.get("params") or {}, dict):
            raise InvalidParamsError("params: must be an object")
        return self._methods[name]


def _id_of(asked: Any) -> str | int | None:
    id = asked.get("id") if isinstance(asked, dict) else None
    return id if isinstance(id, str | int) and not isinstance(id, bool) else None


def _failed(id: str | int | None, said: Refusal) -> dict[str, Any]:
    error = {"code": said.rpc_code, "message": said.status.message, "data": said.details}
    return {"jsonrpc": "2.0", "id": id, "error": error}
