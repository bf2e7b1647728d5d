"""Requests and answers of AgentOS's routes, for the OpenAPI page. Nothing is served here."""

from collections.abc import Mapping
from typing import Any

from pullcord.transports.http.agentos.items import STATES
from pullcord.transports.http.openapi import query

About = Mapping[str, Any]

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_IN_JSON = {"type": "string", "description": "A list in JSON."}
_STREAMED = {
    "stream": {
        **_FLAG,
        "default": True,
        "description": "Whether events come as they are made; else the answer is the whole run.",
    },
    "background": {
        **_FLAG,
        "default": False,
        "description": "Whether the run goes on without its client.",
    },
    "stream_events": {
        **_FLAG,
        "default": True,
        "description": "False: of the events, only those that have text.",
    },
    "session_id": _TEXT,
    "user_id": _TEXT,
}
_MEDIA = "A list in JSON, each with a `url`, or with `content` in base64 and a `mime_type`."


def _answer(description: str, kind: str = "object") -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": {"type": kind}}}}


def _form(fields: Mapping[str, Any], required: tuple[str, ...] = ()) -> dict[str, Any]:
    """A body in any of the encodings that are read."""
    schema: dict[str, Any] = {"type": "object", "properties": dict(fields)}
    if required:
        schema["required"] = list(required)
    kinds = ("application/x-www-form-urlencoded", "multipart/form-data", "application/json")
    return {"content": {kind: {"schema": schema} for kind in kinds}}


def _run(description: str) -> dict[str, Any]:
    """A run whole or as a stream, as the request says."""
    stream = {"text/event-stream": {"schema": _TEXT}}
    whole = _answer(description)
    return {**whole, "content": {**whole["content"], **stream}}


HEALTH: About = {
    "summary": "Whether new runs are taken",
    "tags": ["AgentOS"],
    "responses": {"200": _answer("They are."), "503": _answer("They are not now.")},
}
INFO: About = {
    "summary": "What the server says of itself",
    "tags": ["AgentOS"],
    "responses": {"200": _answer("Its version, and how many runnables the caller may run.")},
}
CONFIG: About = {
    "summary": "What the caller may run",
    "tags": ["AgentOS"],
    "responses": {"200": _answer("Agents, teams and workflows.")},
}


def of_kind(kind: str) -> dict[str, About]:
    """The operations of `agent`, `team` or `workflow`, by what they do."""
    decided = {
        "agent": ("tools", "The calls that waited, each with `confirmed` or a `result`."),
        "team": ("requirements", "The requirements of the pause, each decided."),
        "workflow": ("step_requirements", "Those of the pause, with decided requirements."),
    }[kind]
    made: dict[str, About] = {
        "catalog": {
            "summary": f"The {kind}s that the caller may run",
            "responses": {"200": _answer("In order of their ids.", "array")},
        },
        "detail": {
            "summary": f"One {kind}",
            "responses": {"200": _answer("With its members or steps, where it has some.")},
        },
        "start": {
            "summary": f"Runs a {kind}",
            "description": "The same `run_id` with the same request again starts nothing twice. A "
            "run that is not in the background is stopped when its client leaves.",
            "requestBody": _form(
                {
                    "message": {**_TEXT, "description": "The text that it is given."},
                    **_STREAMED,
                    "run_id": {**_TEXT, "description": "Unset: the server makes one."},
                    "metadata": {**_TEXT, "description": "An object in JSON: the run's labels."},
                    **{
                        name: {**_IN_JSON, "description": _MEDIA}
                        for name in ("images", "audio", "videos", "input_files")
                    },
                },
            ),
            "responses": {
                "200": _run("The run at its end or pause, or its events."),
                "202": _answer("It goes on in the background: its ids, and PENDING."),
            },
        },
        "list": {
            "summary": f"The runs of a {kind}, the newest first",
            "parameters": [
                query("session_id", "Only those of this session."),
                query("user_id", "Only those of this user."),
                query("status", "Only those in this status.", type="string", enum=list(STATES)),
                query("limit", "At most so many.", type="integer", minimum=1, default=100),
            ],
            "responses": {"200": _answer("The runs that the caller may see.", "array")},
        },
        "get": {
            "summary": "A run as it is now",
            "parameters": [query("session_id", "Another session's run is not found.")],
            "responses": {"200": _answer("The run, with its text so far.")},
        },
        "cancel": {
            "summary": "Stops a run",
            "description": "No body is needed. All fields may also be in the query.",
            "requestBody": {"content": {"application/json": {"schema": _CANCEL}}},
            "responses": {"200": _answer("The receipt: a CancelRunResponse.")},
        },
        "continue": {
            "summary": "Brings a paused run the decisions that it waits for",
            "description": "Refused with 400 without a decision, and with 409 if it is not paused.",
            "requestBody": _form(
                {decided[0]: {**_IN_JSON, "description": decided[1]}, **_STREAMED}
            ),
            "responses": {
                "200": _run("The run at its end or next pause, or its events."),
                "202": _answer("It goes on in the background: its ids, and PENDING."),
            },
        },
        "resume": {
            "summary": "What came after an event, and what comes",
            "requestBody": _form(
                {
                    "last_event_index": {
                        "type": "integer",
                        "minimum": -1,
                        "default": -1,
                        "description": "The `event_index` of the last event that was seen.",
                    },
                    "session_id": _TEXT,
                    "user_id": _TEXT,
                }
            ),
            "responses": {
                "200": {
                    "description": "First `catch_up` or `replay`, then events, to the end or the "
                    "next pause.",
                    "content": {"text/event-stream": {"schema": _TEXT}},
                }
            },
        },
    }
    return {name: {"tags": [f"AgentOS {kind}s"], **said} for name, said in made.items()}


_CANCEL = {
    "type": "object",
    "properties": {
        "reason": {**_TEXT, "maxLength": 1024},
        "mode": {**_TEXT, "enum": ["graceful", "immediate"], "default": "graceful"},
        "wait": {
            "type": "integer",
            "minimum": 0,
            "maximum": 60,
            "description": "Seconds that the answer waits for the stop.",
        },
        "before_start": {
            **_FLAG,
            "description": "Whether the stop may come before its run.",
        },
    },
}
