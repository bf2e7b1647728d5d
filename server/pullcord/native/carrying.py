"""An agent's turn that waits for a decision, as bytes from which a fresh execution goes on.

The conversation so far and the calls that wait. Which calls those are, and what becomes of them, is
the loop's business; when a run is carried, the engine's.

1. The form has a number. What has another one, of a newer release, is refused.
2. A decision is about what was shown: a tool that has changed since is not called by it.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from pullcord.models.base import (
    AssistantMessage,
    Message,
    Model,
    SystemMessage,
    ToolMessage,
    ToolRequest,
    UserMessage,
)
from pullcord.native.tools import CallableTool
from pullcord.run.message import Part

_FORM = "agent/1"


class ContinuationRefused(Exception):
    """A paused run cannot go on with the code that is served now; the message says why."""


def of_form(data: bytes, form: str) -> dict[str, Any]:
    """A continuation's state, which must say `form` of itself: its kind, and the version of that.

    Raises:
        ContinuationRefused: it has another form, or none.
    """
    try:
        state = json.loads(data)
        has = state.get("form")
    except (ValueError, AttributeError):
        has = None
    if has != form:
        raise ContinuationRefused(
            f"the run paused in a form that this release does not know: {has!r}, not {form!r};"
            " continue it with the release that it was started with"
        )
    return dict(state)


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn of a model whose calls wait."""

    said: tuple[Message, ...]
    """The conversation, up to the answer that asks for the calls."""
    wanted: tuple[tuple[str, ToolRequest], ...]
    """Its calls, each with its id in the run's ledger."""
    asked: tuple[str, ...]
    """The ids of those that somebody decides about, in the order of the question."""
    model_calls: int
    """The number of model calls."""
    ledger_ids: tuple[str, ...]
    """All that the run has used."""
    extra: Any = None
    """The rest of the run's state; JSON."""
    results: Mapping[str, str] = field(default_factory=dict)
    """What came of those that are done, by their ids in the ledger."""
    children: Mapping[str, str] = field(default_factory=dict)
    """The child runs that the others wait for: run_ids by ids in the ledger."""
    rejected: int = 0
    """The number of answers that did not fit the schema, and were asked for again."""
    failures: Any = ()
    """The failures of calls in earlier turns, as `Repetitions` counts them; JSON."""


def dumped(turn: Turn, model: Model, tools: Mapping[str, CallableTool]) -> bytes | None:
    """The turn as bytes; None: it holds what only its process can hold."""
    open = (*turn.asked, *turn.children)
    asked = {request.name for id, request in turn.wanted if id in open}
    state = {
        "form": _FORM,
        "model": _model(model),
        "said": [_message(message) for message in turn.said],
        "wanted": [[id, _request(request)] for id, request in turn.wanted],
        "asked": list(turn.asked),
        "model_calls": turn.model_calls,
        "ledger_ids": list(turn.ledger_ids),
        "extra": turn.extra,
        "results": dict(turn.results),
        "children": dict(turn.children),
        "rejected": turn.rejected,
        "failures": turn.failures,
        "tools": {name: _looks(tools[name]) for name in sorted(asked)},
    }
    try:
        return json.dumps(state).encode()
    except (TypeError, ValueError):  # a model of the author's keeps more than JSON
        return None


def loaded(data: bytes, model: Model, tools: Mapping[str, CallableTool]) -> Turn:
    """The turn that was dumped.

    Raises:
        ContinuationRefused: it is none of ours, or a tool has changed whose call was decided about.
    """
    state = of_form(data, _FORM)
    for name, looked in state["tools"].items():
        if name not in tools or _looks(tools[name]) != looked:
            raise ContinuationRefused(
                f"the tool {name!r} has changed since its call was asked about; start the run again"
            )
    is_same = state["model"] == _model(model)
    return Turn(
        tuple(_message_of(one, is_same) for one in state["said"]),
        tuple((id, ToolRequest(**request)) for id, request in state["wanted"]),
        tuple(state["asked"]),
        state["model_calls"],
        tuple(state["ledger_ids"]),
        state["extra"],
        state.get("results", {}),
        state.get("children", {}),
        state.get("rejected", 0),
        state.get("failures", ()),
    )


def _looks(tool: CallableTool) -> str:
    """A digest of a tool as a decider sees it."""
    shown = [tool.name, tool.definition.parameters]
    return sha256(json.dumps(shown, sort_keys=True, default=str).encode()).hexdigest()


def _model(model: Model) -> str:
    return f"{type(model).__module__}.{type(model).__qualname__}/{model.id}"


def _request(request: ToolRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "name": request.name,
        "arguments": request.arguments,
        "extra": dict(request.extra),
    }


def _message(message: Message) -> dict[str, Any]:
    match message:
        case SystemMessage(text):
            return {"role": "system", "text": text}
        case UserMessage(text, parts):
            return {"role": "user", "text": text, "parts": [_part(part) for part in parts]}
        case AssistantMessage(text, requests, kept):
            asked = [_request(request) for request in requests]
            return {"role": "assistant", "text": text, "requests": asked, "kept": kept}
        case ToolMessage(request_id, text):
            return {"role": "tool", "request_id": request_id, "text": text}


def _message_of(one: dict[str, Any], is_same_model: bool) -> Message:
    match one["role"]:
        case "system":
            return SystemMessage(one["text"])
        case "user":
            return UserMessage(one["text"], tuple(map(_part_of, one["parts"])))
        case "assistant":
            requests = tuple(ToolRequest(**request) for request in one["requests"])
            return AssistantMessage(one["text"], requests, one["kept"] if is_same_model else None)
        case _:
            return ToolMessage(one["request_id"], one["text"])


def _part(part: Part) -> dict[str, Any]:
    data = None if part.data is None else b64encode(part.data).decode()
    return {
        "text": part.text,
        "uri": part.uri,
        "data": data,
        "media_type": part.media_type,
        "name": part.name,
    }


def _part_of(one: dict[str, Any]) -> Part:
    data = None if one["data"] is None else b64decode(one["data"])
    return Part(**{**one, "data": data})
