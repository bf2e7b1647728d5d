"""Readers for the fields of an author's values: one table, class by class.

A reader copies one field or raises a TypeError or ValueError that names it. What passes is of exact
built-in types and of frozen classes of ours, and bounded. Which values may be said where is not
known here; that is `gate`.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeVar, cast

from pullcord.run import events
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, StopStage
from pullcord.run.events import (
    RunError,
    Source,
    SourceKind,
    ToolCall,
    ToolCallState,
)
from pullcord.run.finish import FinishReason
from pullcord.run.killed import MAX_KILLED
from pullcord.run.message import MAX_MEDIA_TYPE, Message, Part, Role
from pullcord.run.model_call import ModelCall
from pullcord.run.plain import class_name, cut, plain, text, unreadable
from pullcord.run.record import (
    MAX_REASON_LENGTH,
    Decision,
    DisconnectPolicy,
    RunSpec,
    SessionPolicy,
    size,
)
from pullcord.run.state import RunState
from pullcord.run.takes import Takes
from pullcord.run.usage import MAX_COST, MAX_COUNT, MAX_TOKENS, Limits, Usage

MAX_ID = 256
"""Bytes of an id, and of each part of a path."""
MAX_NAME = 1024
"""Bytes of a name for people, and of an event's name."""
MAX_PATH = 1024
"""Parts of a source's path."""
MAX_START_PATH = 32
"""Parts of the path that a run is started under."""
MAX_QUESTION = 64 * 1024
"""Bytes of a question."""
MAX_ASKED = 256 * 1024
"""Bytes of the arguments of all calls that wait for one decision. They are never cut."""
MAX_INPUT_DATA = 16 * 1024 * 1024
MAX_LABELS_DATA = 256 * 1024
MAX_DESCRIPTION = 16 * 1024
"""Bytes of a runnable's description that are kept."""
MAX_MEMBERS = 10_000
MAX_TYPES = 256
"""Media types that a runnable says it takes."""
MAX_TOOL_NAME = 128
"""Bytes of a tool call's id, and again of its name, that are kept."""
MAX_TOOL_TEXT = 1024
"""Bytes of a tool call's arguments, and again of its result, that are kept."""
MAX_CALLS = 256
"""Tool calls that one event lists: of more, the newest."""
MAX_AMOUNT = 1e15
"""The most that a progress counts."""
MAX_TIME = 253_402_300_799.0
"""Seconds since the epoch: the end of the year 9999."""

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most bytes of what the operator may bound."""

    data: int = 256 * 1024
    """Of an event's data, and again of a run's output data."""
    output: int = 2 * 1024 * 1024
    """Of a run's or a step's output."""


DEFAULT = Bounds()
Reader = Callable[[Any, str, Bounds], Any]
"""Reads one field: its value, its name for errors, and the bounds."""


def copied(value: object, kind: type[V], field: str, bounds: Bounds = DEFAULT) -> V:
    """The value as exactly this kind of ours, also where it is a subclass of an author's."""
    if not issubclass(type(value), kind):
        raise TypeError(f"{field} must be a {kind.__name__}, not {class_name(value)}")
    read: dict[str, Any] = {}
    for name, reader in READERS[kind].items():
        where = f"{field}.{name}"
        read[name] = reader(held(value, name, where), where, bounds)
    return kind(**read)


_REQUIRED = object()


def held(value: object, name: str, field: str, missing: object = _REQUIRED) -> Any:
    """An attribute, which may be a property with code of an author's."""
    try:
        if missing is _REQUIRED:
            return getattr(value, name)
        return getattr(value, name, missing)
    except Exception as error:
        raise unreadable(field, error) from error


def listed(values: object, field: str) -> tuple[Any, ...]:
    """The parts of a tuple or list, whatever code a subclass has."""
    # Anything else that can be iterated may be a text, or never end.
    if issubclass(type(values), tuple):
        return tuple(tuple.__iter__(values))  # type: ignore[arg-type]  # it is a tuple
    if issubclass(type(values), list):
        return tuple(list.__iter__(values))  # type: ignore[arg-type]  # it is a list
    raise TypeError(f"{field} must be a tuple or list, not {class_name(values)}")


def texts(values: object, field: str, most: int) -> tuple[str, ...]:
    """At most so many ids."""
    parts = listed(values, field)
    if len(parts) > most:
        raise ValueError(f"{field} must have at most {most} parts, and has {len(parts)}")
    return tuple(text(part, f"{field}[{index}]", MAX_ID) for index, part in enumerate(parts))


def _text(value: Any, field: str, _: Bounds) -> str:
    return text(value, field)


def _id(value: Any, field: str, _: Bounds) -> str:
    return text(value, field, MAX_ID)


def display_name(value: Any, field: str, _: Bounds) -> str:
    """A name for people; None is none."""
    return "" if value is None else text(value, field, MAX_NAME)


def _output(value: Any, field: str, bounds: Bounds) -> str:
    return text(value, field, bounds.output)


def _data(value: Any, field: str, bounds: Bounds) -> dict[str, Any]:
    return plain(value, field, bounds.data)


def _path(value: Any, field: str, _: Bounds) -> tuple[str, ...]:
    return texts(value, field, MAX_PATH)


def _bool(value: Any, field: str, _: Bounds) -> bool:
    if type(value) is not bool:
        raise TypeError(f"{field} must be a bool, not {class_name(value)}")
    return value


def _cut_at(most: int) -> Reader:
    def read(value: Any, field: str, _: Bounds) -> str:
        if not issubclass(type(value), str):
            raise TypeError(f"{field} must be text, not {class_name(value)}")
        return cut(str.__str__(value), most)

    return read


def _member_of(kind: type[Enum]) -> Reader:
    def read(value: Any, field: str, _: Bounds) -> Enum:
        if type(value) is not kind:
            raise TypeError(f"{field} must be a {kind.__name__}, not {class_name(value)}")
        return value

    return read


def _whole(least: int, most: int) -> Reader:
    def read(value: Any, field: str, _: Bounds) -> int:
        if not issubclass(type(value), int) or type(value) is bool:
            raise TypeError(f"{field} must be a whole number, not {class_name(value)}")
        number = int.__int__(value)
        if not least <= number <= most:
            raise ValueError(f"{field} must be {least} to {most}")
        return number

    return read


def _finite(least: float, most: float) -> Reader:
    def read(value: Any, field: str, _: Bounds) -> float:
        kind = type(value)
        if not issubclass(kind, int | float) or kind is bool:
            raise TypeError(f"{field} must be a number, not {class_name(value)}")
        try:
            number = float(int.__int__(value)) if issubclass(kind, int) else float.__float__(value)
        except OverflowError:  # an int that no double can hold
            number = math.inf
        if not least <= number <= most:  # NaN is never within
            raise ValueError(f"{field} must be a finite number, {least:g} to {most:g}")
        return number

    return read


def _a(kind: type[Any]) -> Reader:
    return lambda value, field, bounds: copied(value, kind, field, bounds)


def _or_none(reader: Reader) -> Reader:
    return lambda value, field, bounds: None if value is None else reader(value, field, bounds)


def _labels(value: Any, field: str, _: Bounds) -> dict[str, str]:
    labels = plain(value, field, MAX_LABELS_DATA)
    return {key: text(label, f"{field}[{key!r}]") for key, label in labels.items()}


def _number(value: Any, field: str, bounds: Bounds) -> int | float:
    if issubclass(type(value), float):
        return cast(float, _finite(-MAX_COST, MAX_COST)(value, field, bounds))
    return cast(int, _TOKENS(value, field, bounds))


def _calls(values: Any, field: str, _: Bounds) -> tuple[ToolCall, ...]:
    return tuple(
        copied(call, ToolCall, f"{field}[{index}]")
        for index, call in enumerate(listed(values, field)[-MAX_CALLS:])
    )


def waiting(values: Any, field: str, bounds: Bounds) -> tuple[ToolCall, ...]:
    """Calls that somebody decides about: nobody must approve what is not shown, so none is cut."""
    parts = listed(values, field)
    if len(parts) > MAX_CALLS:
        raise ValueError(f"{field} must be at most {MAX_CALLS}, and are {len(parts)}")
    room = MAX_ASKED
    calls = []
    for index, value in enumerate(parts):
        where = f"{field}[{index}]"
        call = copied(value, ToolCall, where, bounds)
        whole = text(held(value, "arguments", f"{where}.arguments"), f"{where}.arguments")
        room -= size(whole)
        if room < 0:
            raise ValueError(f"the arguments of all {field} must be at most {MAX_ASKED} bytes")
        calls.append(replace(call, arguments=whole))
    return tuple(calls)


def parts(values: Any, field: str, bounds: Bounds) -> tuple[Part, ...]:
    """Parts of a run or of a message; a text alone is a part, too."""
    return tuple(
        Part(text(value, f"{field}[{index}]"))
        if issubclass(type(value), str)
        else copied(value, Part, f"{field}[{index}]", bounds)
        for index, value in enumerate(listed(values, field))
    )


def messages(values: Any, field: str, bounds: Bounds) -> tuple[Message, ...]:
    """Messages that came before a run."""
    return tuple(
        copied(value, Message, f"{field}[{index}]", bounds)
        for index, value in enumerate(listed(values, field))
    )


def _bytes(value: Any, field: str, _: Bounds) -> bytes:
    if not issubclass(type(value), bytes | bytearray | memoryview):
        raise TypeError(f"{field} must be bytes, not {class_name(value)}")
    return value if type(value) is bytes else bytes(value)


def _types(values: Any, field: str, _: Bounds) -> tuple[str, ...]:
    if len(found := listed(values, field)) > MAX_TYPES:
        raise ValueError(f"{field} must be at most {MAX_TYPES}, and are {len(found)}")
    return tuple(text(one, f"{field}[{index}]", MAX_MEDIA_TYPE) for index, one in enumerate(found))


def _total(value: Any, field: str, bounds: Bounds) -> Usage:
    """A total usage, which is never negative."""
    return Usage() + copied(value, Usage, field, bounds)


_TOKENS = _whole(-MAX_TOKENS, MAX_TOKENS)
_STEPS = _whole(-MAX_COUNT, MAX_COUNT)
_TIME = _finite(0.0, MAX_TIME)
_AMOUNT = _finite(0.0, MAX_AMOUNT)
_RESULT: dict[str, Reader] = {
    "output": _output,
    "usage": _total,
    "tool_calls": _calls,
    "finish_reason": _or_none(_member_of(FinishReason)),
}

READERS: Mapping[type[Any], Mapping[str, Reader]] = {
    Source: {
        "kind": _member_of(SourceKind),
        "id": _id,
        "name": display_name,
        "run_id": _id,
        "path": _path,
    },
    ToolCall: {
        "tool_call_id": _cut_at(MAX_TOOL_NAME),
        "tool_name": _cut_at(MAX_TOOL_NAME),
        "arguments": _cut_at(MAX_TOOL_TEXT),
        "result": _cut_at(MAX_TOOL_TEXT),
        "state": _member_of(ToolCallState),
        "start_time": _TIME,
        "end_time": _TIME,
        "run_id": _id,
    },
    Usage: {
        "input_tokens": _TOKENS,
        "output_tokens": _TOKENS,
        "reasoning_tokens": _TOKENS,
        "cached_tokens": _TOKENS,
        "cost": _or_none(_finite(-MAX_COST, MAX_COST)),
        "estimated": _bool,
        "steps": _STEPS,
        "tool_calls": _STEPS,
    },
    ModelCall: {
        "model": _cut_at(MAX_ID),
        "provider": _cut_at(MAX_ID),
        "seconds": _TIME,
        "first_after": _or_none(_TIME),
        "usage": _total,
        "finish_reason": _or_none(_member_of(FinishReason)),
        "error_type": _cut_at(events.MAX_ERROR_TYPE),
    },
    RunError: {
        "type": _cut_at(events.MAX_ERROR_TYPE),
        "message": _cut_at(events.MAX_ERROR_MESSAGE),
    },
    Cancellation: {
        "cause": _member_of(CancelCause),
        "actor": _cut_at(MAX_ID),
        "reason": _cut_at(MAX_REASON_LENGTH),
        "mode": _member_of(CancelMode),
        "limit": _cut_at(MAX_ID),
        "accept_time": _TIME,
        "claimed_actor": _cut_at(MAX_ID),
    },
    Limits: {
        "timeout": _or_none(_number),
        "max_tokens": _or_none(_number),
        "max_cost": _or_none(_number),
        "max_steps": _or_none(_number),
        "max_tool_calls": _or_none(_number),
    },
    RunSpec: {
        "runnable": _text,
        "input": _text,
        "input_data": _or_none(lambda value, field, _: plain(value, field, MAX_INPUT_DATA)),
        "run_id": _text,
        "session_id": _text,
        "user_id": _text,
        "limits": _a(Limits),
        "on_disconnect": _or_none(_member_of(DisconnectPolicy)),
        "lease": _or_none(_number),
        "labels": _labels,
        "session_policy": _or_none(_member_of(SessionPolicy)),
        "parts": parts,
        "messages": messages,
        "retry_of": _text,
    },
    Part: {
        "text": _or_none(_text),
        "uri": _or_none(_text),
        "data": _or_none(_bytes),
        "media_type": _text,
        "name": _text,
    },
    Message: {"role": _member_of(Role), "parts": parts, "name": _text},
    Takes: {"parts": _bool, "messages": _bool, "data_types": _types, "uri_types": _types},
    Decision: {
        "tool_call_id": _text,
        "approved": _bool,
        "answer": _or_none(_text),
        "note": _text,
    },
    # The payloads, in the order of the proto.
    events.RunStarted: {"runnable": _id, "session_id": _id, "parent_run_id": _id},
    events.ContentDelta: {"text": _output, "count": _whole(1, MAX_COUNT)},
    events.ReasoningDelta: {"text": _output, "count": _whole(1, MAX_COUNT)},
    events.ToolCallStarted: {"tool_call": _a(ToolCall)},
    events.ToolCallCompleted: {"tool_call": _a(ToolCall)},
    events.StepStarted: {"step_id": _id, "name": display_name, "attempt": _whole(0, MAX_COUNT)},
    events.StepCompleted: {
        "step_id": _id,
        "name": display_name,
        "state": _member_of(RunState),
        "output": _output,
        "error": _or_none(_a(RunError)),
    },
    events.UsageUpdated: {"usage": _total},
    events.CancelRequested: {"cancellation": _a(Cancellation)},
    events.RunPaused: {
        "question": lambda value, field, _: text(value, field, MAX_QUESTION),
        "tool_calls": waiting,
        "survives": _bool,
    },
    events.RunContinued: {"actor": _cut_at(MAX_ID)},
    events.Custom: {"name": display_name, "data": _data},
    events.Progress: {"done": _AMOUNT, "total": _AMOUNT, "note": _cut_at(MAX_NAME)},
    events.RunCompleted: {**_RESULT, "output_data": _or_none(_data)},
    events.RunCancelled: {
        **_RESULT,
        "output_data": _or_none(_data),
        "cancellation": _a(Cancellation),
        "abandoned": _bool,
        "stage": _or_none(_member_of(StopStage)),
        "killed_processes": lambda value, field, _: texts(value, field, MAX_KILLED),
    },
    events.RunFailed: {
        **_RESULT,
        "error": _a(RunError),
        "output_data": _or_none(_data),
        "cancellation": _or_none(_a(Cancellation)),
    },
}
