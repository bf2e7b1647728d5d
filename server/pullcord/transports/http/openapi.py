"""The page `/openapi.json`: what can be asked over HTTP, as OpenAPI 3.1, made of routes and proto.

A route says by its `about` what its operation takes and answers. Every rpc without a stream is
there by itself. Nothing is served from here but the page.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import version
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from pullcord.transports.answering import SERVICE
from pullcord.transports.http.messages import Answer, Request
from pullcord.transports.http.routing import Route
from pullcord.v1 import run_service_pb2 as v1

PROBLEM: Mapping[str, Any] = {
    "description": "It was refused.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}

_PROBLEM_SCHEMA = {
    "type": "object",
    "required": ["title", "status", "detail", "reason"],
    "properties": {
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "reason": {"type": "string"},
        "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
        "fields": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
            },
        },
        "retry_after": {"type": "number"},
    },
}
_CONNECT_ERROR = {
    "type": "object",
    "required": ["code"],
    "properties": {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "details": {"type": "array", "items": {"type": "object"}},
    },
}

_F = FieldDescriptor
_WHOLE_64 = {_F.TYPE_INT64, _F.TYPE_UINT64, _F.TYPE_SINT64, _F.TYPE_FIXED64, _F.TYPE_SFIXED64}
_DURATION = {"type": "string", "pattern": r"^-?[0-9]{1,9}(\.[0-9]{1,9})?s$"}
_KNOWN: Mapping[str, Mapping[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": _DURATION,
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array"},
}


def route(routes: Iterable[Route]) -> Route:
    """The page of these routes."""
    routes = list(routes)

    @cache
    def page() -> bytes:
        return json.dumps(document(routes)).encode()

    async def show(request: Request) -> Answer:
        return Answer(page())

    return Route("GET", "/openapi.json", show)


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document, as JSON has it."""
    schemas: dict[str, Any] = {"Problem": _PROBLEM_SCHEMA, "ConnectError": _CONNECT_ERROR}
    paths: dict[str, Any] = {}
    for one in routes:
        if one.about is not None:
            about = dict(one.about)
            for message in about.pop("x-messages", ()):
                _collect(message, schemas)
            about.setdefault("responses", {})
            about["responses"] = {**about["responses"], "default": PROBLEM}
            names = [part[1:-1] for part in one.path.split("/") if part.startswith("{")]
            about["parameters"] = [
                *({**_TEXT, "name": name, "in": "path", "required": True} for name in names),
                *about.get("parameters", ()),
            ]
            paths.setdefault(one.path, {})[one.method.lower()] = about
    for name, method in v1.DESCRIPTOR.services_by_name["RunService"].methods_by_name.items():
        if not method.server_streaming:
            paths[f"/{SERVICE}/{name}"] = {
                "post": _rpc(name, method.input_type, method.output_type, schemas)
            }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pullcord",
            "version": version("pullcord"),
            "description": "Start, stream and stop runs. Streams of RunService are Connect's.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "pullcord-session"},
            },
        },
        "security": [{}, {"bearer": []}, {"session": []}],
    }


_TEXT: Mapping[str, Any] = {"schema": {"type": "string"}}


def query(name: str, description: str, **schema: Any) -> dict[str, Any]:
    """A parameter of a query, for a route's `about`."""
    return {
        "name": name,
        "in": "query",
        "description": description,
        "schema": schema or {"type": "string"},
    }


def of_message(message: Any) -> dict[str, Any]:
    """A body or answer that is this message as JSON; name it in `x-messages`, too."""
    ref = {"$ref": f"#/components/schemas/{message.DESCRIPTOR.name}"}
    return {"application/json": {"schema": ref}}


def _rpc(
    name: str, takes: Descriptor, gives: Descriptor, schemas: dict[str, Any]
) -> dict[str, Any]:
    body = {"application/json": {"schema": _collect(takes, schemas)}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/ConnectError"}}}
    return {
        "operationId": name,
        "tags": ["RunService"],
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {
                "description": "The answer.",
                "content": {"application/json": {"schema": _collect(gives, schemas)}},
            },
            "default": {"description": "It was refused.", "content": error},
        },
    }


def _collect(message: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """The reference of a message's schema, which is put into `schemas` with all that it holds."""
    descriptor: Descriptor = getattr(message, "DESCRIPTOR", message)
    if descriptor.full_name in _KNOWN:
        return dict(_KNOWN[descriptor.full_name])
    if descriptor.name not in schemas:
        made: dict[str, Any] = {"type": "object", "properties": {}}
        schemas[descriptor.name] = made  # before its fields: messages may hold themselves
        for field in descriptor.fields:
            made["properties"][field.json_name] = _field(field, schemas)
    return {"$ref": f"#/components/schemas/{descriptor.name}"}


def _field(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        value = message.fields_by_name["value"]
        return {"type": "object", "additionalProperties": _one(value, schemas)}
    one = _one(field, schemas)
    return {"type": "array", "items": one} if field.is_repeated else one


def _one(field: FieldDescriptor, schemas: dict[str, Any]) -> dict[str, Any]:
    if field.message_type is not None:
        return _collect(field.message_type, schemas)
    if field.enum_type is not None:
        return {"type": "string", "enum": [value.name for value in field.enum_type.values]}
    if field.type == _F.TYPE_BOOL:
        return {"type": "boolean"}
    if field.type in _WHOLE_64:
        return {"type": "string", "pattern": "^-?[0-9]{1,18}$"}
    if field.type in (_F.TYPE_DOUBLE, _F.TYPE_FLOAT):
        return {"type": "number"}
    if field.type == _F.TYPE_BYTES:
        return {"type": "string", "contentEncoding": "base64"}
    if field.type == _F.TYPE_STRING:
        return {"type": "string"}
    return {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
