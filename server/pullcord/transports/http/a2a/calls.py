"""Common to A2A's HTTP bindings: who calls which runnable, messages as JSON and back."""

import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

from a2a.types import (
    ContentTypeNotSupportedError,
    InvalidParamsError,
    StreamResponse,
)
from a2a.utils.errors import A2AError, JSONParseError
from google.protobuf import json_format
from google.protobuf.message import Message

from pullcord.run.errors import InvalidArgument, PullcordError
from pullcord.transports.a2a.agent import Call, Flow
from pullcord.transports.a2a.methods import check_version
from pullcord.transports.a2a.refusals import Refusal, refusal
from pullcord.transports.answering import LARGE
from pullcord.transports.faults import refusal_of
from pullcord.transports.http.messages import Answer, Left, Refused, Request, Stream
from pullcord.transports.http.problems import problem
from pullcord.transports.http.web import Web

M = TypeVar("M", bound=Message)

JSON = "application/a2a+json"
_JSON_TYPES = ("application/json", JSON)
_HEADER = "a2a-version"


class Calls:
    """The calls to one server."""

    def __init__(self, web: Web) -> None:
        self._web = web

    async def of(self, request: Request, runnable: str = "") -> Call:
        """The caller and the runnable.

        Raises:
            Unauthenticated: the caller is not known.
            VersionNotSupportedError: it speaks another version of the protocol.
        """
        caller = await request.caller()
        # A client of 0.3 says nothing.
        said = request.headers.get(_HEADER) or request.query.get("A2A-Version") or "0.3"
        check_version(said)
        runnable = runnable or f"{request.params['kind']}/{request.params['id']}"
        return Call(caller, runnable, self._web.front.callers.still(request.incoming, caller))

    async def values(self, request: Request) -> Any:
        """The JSON of the body; None: there is none.

        Raises:
            ContentTypeNotSupportedError: it says to be something else.
            JSONParseError: it is no JSON.
        """
        kind = request.content_type
        if kind not in _JSON_TYPES and await request.body():
            words = f"the body must be application/json, and says to be {kind[:100]!r}"
            raise ContentTypeNotSupportedError(words)
        try:
            return await request.json()
        except InvalidArgument as error:
            raise JSONParseError(str(error)) from None

    async def read(self, kind: type[M], values: Any, size: int) -> M:
        """A message of JSON values, which were `size` bytes. Raises InvalidParamsError."""
        if size < LARGE:
            return _parsed(kind, values)
        return await self._web.front.lanes.requests.ask(_parsed, kind, values)

    async def json(self, message: Message, before: bytes = b"", after: bytes = b"") -> bytes:
        """The JSON of a message, in ASCII, between these."""
        if message.ByteSize() < LARGE:
            return before + _json(message) + after
        made = await self._web.front.encoder.aside(partial(_json, message))
        return before + made + after

    def stream(
        self,
        flow: Flow,
        refused: Callable[[Refusal], bytes],
        before: bytes = b"",
        after: bytes = b"",
    ) -> Stream:
        """The responses of a flow as server-sent events. Readers that come back subscribe."""

        async def lines() -> AsyncIterator[bytes]:
            try:
                async for response in flow.responses():
                    if response is None:
                        yield b": heartbeat\n\n"
                    else:
                        yield await self._line(response, before, after)
            except (Left, GeneratorExit):
                raise
            except Exception as error:
                yield b"event: error\ndata: %b\n\n" % refused(told(error))

        return Stream(lines(), close=flow.close)

    async def _line(self, response: StreamResponse, before: bytes, after: bytes) -> bytes:
        return b"data: %b\n\n" % await self.json(response, before, after)


def told(error: Exception) -> Refusal:
    """The refusal for an error; a foreign one is our own fault, and its words are not shown."""
    if isinstance(error, Refused | Left):
        raise error
    return refusal(error if isinstance(error, A2AError) else refusal_of(error))


def answer(said: Refusal, error: Exception, body: Any, ok: int | None = None) -> Answer:
    """The answer that says so; `ok`: the status of what A2A has a kind for."""
    data = json.dumps(body).encode()
    if said.http_status is not None:
        return Answer(data, ok or said.http_status)
    ours = problem(error if isinstance(error, PullcordError) else Exception())
    return Answer(data, ours.status, headers=ours.headers)


def _parsed(kind: type[M], values: Any) -> M:
    made = kind()
    try:
        json_format.ParseDict(values, made, ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidParamsError(f"not a {kind.DESCRIPTOR.name}: {str(error)[:300]}") from None
    return made


def _json(message: Message) -> bytes:
    return json.dumps(json_format.MessageToDict(message), separators=(",", ":")).encode()
