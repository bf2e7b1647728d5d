"""Connect and gRPC-Web: every rpc of RunService, in JSON and in binary, by the library connectrpc.

The library reads and writes envelopes and statuses. Messages pass through it as bytes: binary ones
are those that gRPC has, with an event's kept bytes, and JSON is made and read by `wire.json`.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from contextvars import ContextVar
from functools import partial
from typing import Any

from connectrpc.code import Code
from connectrpc.codec import Codec
from connectrpc.errors import ConnectError, ErrorDetail
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.request import RequestContext
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf import message_factory
from google.rpc import code_pb2
from protobuf.wkt import Any as AnyDetail

from pullcord.transports.answering import LARGE, SERVICE, ListOpening, Opening, Unary, notice_bytes
from pullcord.transports.encoding import serialized
from pullcord.transports.faults import refusal_of
from pullcord.transports.http.messages import Answer, Refused, Request
from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import OneCall, Web, is_large
from pullcord.v1 import run_service_pb2 as v1
from pullcord.wire.errors import status_message
from pullcord.wire.json import from_json, to_json

REQUEST: ContextVar[Request] = ContextVar("request")
"""The request that is being served: the library passes no more than its headers on."""

_Context = RequestContext[Any, Any]


def routes(web: Web) -> list[Route]:
    """The routes of this surface: one prefix, behind which the library finds the rpc."""
    app = _Application(web)

    async def read(request: Request) -> Answer:
        if request.content_type.startswith("application/grpc") and not (
            request.content_type.startswith("application/grpc-web")
        ):
            raise Refused(415, "NOT_GRPC", "gRPC itself is served at an address of its own")
        request.scope["headers"] = [
            (name, value) for name, value in request.scope["headers"] if value.isascii()
        ]
        await request.body()
        return Answer()

    return [Route("*", f"/{SERVICE}/", read, app=app)]


class _Application(ConnectASGIApplication[Web]):
    def __init__(self, web: Web) -> None:
        super().__init__(
            service=web,
            endpoints=_endpoints,
            read_max_bytes=web.options.max_body,
            compressions=[],  # what a request is unpacked to would have no bound
            codecs=[_Bytes("proto"), _Bytes("json")],
        )

    @property
    def path(self) -> str:
        return f"/{SERVICE}"


class _Body(bytes):
    """A request's message, and how it is written."""

    is_json: bool = False


class _Bytes(Codec[bytes, Any]):
    """Passes messages on as they are."""

    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    def encode(self, message: bytes) -> bytes:
        return message

    def decode(self, data: bytes | bytearray, message_class: type[Any]) -> _Body:
        body = _Body(data)
        body.is_json = self._name == "json"
        return body


def _endpoints(web: Web) -> Mapping[str, Any]:
    made: dict[str, Any] = {}
    for name, method in v1.DESCRIPTOR.services_by_name["RunService"].methods_by_name.items():
        takes: type[Any] = message_factory.GetMessageClass(method.input_type)
        gives: type[Any] = message_factory.GetMessageClass(method.output_type)
        kind = StreamType.SERVER_STREAM if method.server_streaming else StreamType.UNARY
        about: MethodInfo[Any, Any] = MethodInfo(
            name=name,
            service_name=SERVICE,
            input=takes,
            output=gives,
            idempotency_level=IdempotencyLevel.UNKNOWN,
            stream_type=kind,
        )
        if name in web.front.answering.lists:
            listing = partial(_list, web, web.front.answering.lists[name], takes, gives)
            made[f"/{SERVICE}/{name}"] = Endpoint.server_stream(about, listing)
        elif name in web.front.answering.streams:
            opening = partial(_stream, web, web.front.answering.streams[name], takes)
            made[f"/{SERVICE}/{name}"] = Endpoint.server_stream(about, opening)
        else:
            answer = partial(_unary, web, web.front.answering.unary[name], takes, gives)
            made[f"/{SERVICE}/{name}"] = Endpoint.unary(about, answer)
    return made


async def _call(context: _Context) -> tuple[Request, OneCall]:
    request = REQUEST.get()
    if context.timeout_ms is not None:
        request.ends_in(context.timeout_ms / 1000)
    return request, OneCall(await request.caller())


async def _read(web: Web, takes: type[Any], body: _Body) -> bytes:
    if not body.is_json:
        return bytes(body)
    if len(body) < LARGE:
        return _binary(takes, body)
    return await web.front.lanes.requests.ask(_binary, takes, body)


def _binary(takes: type[Any], body: bytes) -> bytes:
    data: bytes = from_json(takes, body).SerializeToString()
    return data


def _json(gives: type[Any], data: bytes) -> bytes:
    return to_json(gives.FromString(data))


async def _unary(
    web: Web, rpc: Unary, takes: type[Any], gives: type[Any], body: _Body, context: _Context
) -> bytes:
    try:
        _, call = await _call(context)
        data = await rpc(call, await _read(web, takes, body))
        if not body.is_json:
            return data
        if len(data) < LARGE:
            return _json(gives, data)
        return await web.front.encoder.aside(partial(_json, gives, data))
    except Exception as error:
        raise _refusal(error) from None


async def _stream(
    web: Web, rpc: Opening, takes: type[Any], body: _Body, context: _Context
) -> AsyncIterator[bytes]:
    try:
        request, call = await _call(context)
        following = await rpc(call, await _read(web, takes, body))
        web.follow(following, request, call.caller)
        run_id, encoder = following.run_id, web.front.encoder
        with closing(following):
            async for record in web.records(following):
                if body.is_json:
                    yield b'{"event":%b}' % await web.event_json(run_id, record)
                elif is_large(record):
                    yield await encoder.event(run_id, record)
                else:
                    yield serialized(run_id, record)
    except Exception as error:
        raise _refusal(error) from None


async def _list(
    web: Web,
    rpc: ListOpening,
    takes: type[Any],
    gives: type[Any],
    body: _Body,
    context: _Context,
) -> AsyncIterator[bytes]:
    try:
        request, call = await _call(context)
        following = await rpc(call, await _read(web, takes, body))
        web.follow(following, request, call.caller)
        with closing(following):
            while True:
                data = notice_bytes(await following.next())
                yield _json(gives, data) if body.is_json else data
    except Exception as error:
        raise _refusal(error) from None


def _refusal(error: Exception) -> ConnectError:
    """The same refusal in the library's words. A foreign error's own words are never sent."""
    status = status_message(refusal_of(error))
    code = Code(code_pb2.Code.Name(status.code).lower().replace("cancelled", "canceled"))
    details = [
        ErrorDetail(AnyDetail(type_url=packed.type_url, value=packed.value))
        for packed in status.details
    ]
    return ConnectError(code, status.message, details)
