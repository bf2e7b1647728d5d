"""The one gate for what an author's code says: what passes it can be sent, whatever happens later.

Each function copies a value into one of ours, made of exact built-in types and frozen classes of
ours only, bounded in size, or raises a TypeError or ValueError that names the field. They are pure:
they run where the author's code speaks, under no lock, and nothing is logged or decided here.

Two rules for what is too long. A name that the author chose is refused. Words from elsewhere (a
model's arguments, a tool's result, an error's message, a reason) are cut, and end in an ellipsis.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, TypeVar

from pullcord.run import events
from pullcord.run.cancel import CancelCause, Cancellation, CancelMode, StopStage
from pullcord.run.events import (
    AUTHORS_PAYLOADS,
    RELAYED_PAYLOADS,
    Payload,
    RunError,
    Source,
    SourceKind,
    ToolCall,
    ToolCallState,
)
from pullcord.run.plain import class_name, cut, plain, text, unreadable
from pullcord.run.record import MAX_REASON_LENGTH, Decision, is_runnable_name, size
from pullcord.run.runnable import RunnableInfo
from pullcord.run.state import RunState
from pullcord.run.usage import MAX_COST, MAX_COUNT, MAX_TOKENS, Usage

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
MAX_DESCRIPTION = 16 * 1024
"""Bytes of a runnable's description that are kept."""
MAX_MEMBERS = 10_000
MAX_TOOL_NAME = 128
"""Bytes of a tool call's id, and again of its name, that are kept."""
MAX_TOOL_TEXT = 1024
"""Bytes of a tool call's arguments, and again of its result, that are kept."""
MAX_CALLS = 256
"""Tool calls that one event lists: of more, the newest."""
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


_BOUNDS = Bounds()
Reader = Callable[[Any, str, Bounds], Any]
"""Reads one field: its value, its name for errors, and the bounds."""


# --- what a run says


def emitted(payload: object, bounds: Bounds = _BOUNDS) -> Payload:
    """An event that a run's own code adds.

    Raises:
        TypeError, ValueError: it is no event of an author's, or a field of it cannot be sent.
    """
    return _one_of(payload, AUTHORS_PAYLOADS, "emitted", bounds)


def relayed(payload: object, is_own: bool, bounds: Bounds = _BOUNDS) -> Payload:
    """An event of a run elsewhere; `is_own`: of the very run that does this run's work.

    A run's own beginning and end are the engine's to say, so only those of others can be relayed.

    Raises:
        TypeError, ValueError: it cannot be relayed, or a field of it cannot be sent.
    """
    engines = (events.RunStarted, events.CancelRequested, *events.TERMINAL_PAYLOADS)
    kinds = tuple(k for k in RELAYED_PAYLOADS if k not in engines) if is_own else RELAYED_PAYLOADS
    return _one_of(payload, kinds, "relayed", bounds)


def source(value: object) -> Source | None:
    """Who an event is of; None: the run's own runnable."""
    return None if value is None else _copied(value, Source, "source")


def path(value: object) -> tuple[str, ...]:
    """The path that a run is started under."""
    return _texts(value, "path", MAX_START_PATH)


def usage(value: object) -> Usage:
    """What is added to a run's usage; a field may be negative, as a correction."""
    if type(value) is Usage and _is_sound(value):
        return value  # the hot path; sums are new objects
    return _copied(value, Usage, "usage")


def tool_call(value: object) -> ToolCall:
    """A tool call, cut so that a ledger of them fits a message."""
    return _copied(value, ToolCall, "tool_call")


def asked_calls(values: object) -> tuple[ToolCall, ...]:
    """The calls that a question is about, each with all of its arguments."""
    return tuple(replace(call, run_id="") for call in _waiting(values, "calls", _BOUNDS))


def question(value: object) -> str:
    """The words of a question."""
    return text(value, "question", MAX_QUESTION)


def output(value: object, bounds: Bounds = _BOUNDS) -> str:
    """What a run says that its output is."""
    return text(value, "output", bounds.output)


def output_data(value: object, bounds: Bounds = _BOUNDS) -> dict[str, Any]:
    """What a run says that its result is, as data."""
    return plain(value, "output_data", bounds.data)


def input(value: object) -> str:
    """What a run is given; the engine bounds it."""
    return text(value, "input")


def input_data(value: object) -> dict[str, Any]:
    """What a run is given as data; the engine bounds it more narrowly."""
    return plain(value, "input_data", MAX_INPUT_DATA)


def cancellation(value: object) -> Cancellation:
    """The stop that a run asks for itself."""
    return _copied(value, Cancellation, "cancellation")


def decisions(values: object) -> tuple[Decision, ...]:
    """What somebody decided about tool calls that wait."""
    return tuple(
        _copied(value, Decision, f"decisions[{index}]")
        for index, value in enumerate(_listed(values, "decisions"))
    )


def described(runnable: object) -> RunnableInfo:
    """What callers may know of a runnable, whoever wrote it.

    Raises:
        TypeError, ValueError: it cannot be called by its kind and id, or says what cannot be sent.
    """
    kind = _held(runnable, "kind", "runnable.kind")
    if type(kind) is not SourceKind or kind is SourceKind.STEP:
        raise TypeError(
            f"runnable.kind must be SourceKind.AGENT, TEAM or WORKFLOW, not {class_name(kind)}"
        )
    id = text(_held(runnable, "id", "runnable.id"), "runnable.id")
    name = f"{kind.value}s/{id}"
    if not is_runnable_name(name):
        raise ValueError(
            f"runnable.id {id[:64]!r} must be 1 to 128 of a-z, 0-9, '_', '.' and '-',"
            " and begin with a letter or digit"
        )
    found = {
        name: _held(runnable, name, f"runnable.{name}", missing=None)
        for name in ("name", "description", "members")
    }
    about = (
        "" if found["description"] is None else text(found["description"], "runnable.description")
    )
    members = () if found["members"] is None else found["members"]
    return RunnableInfo(
        name,
        kind,
        id,
        _name(found["name"], "runnable.name", _BOUNDS),
        cut(about, MAX_DESCRIPTION),
        _texts(members, "runnable.members", MAX_MEMBERS),
    )


# --- reading fields


def _one_of(payload: object, kinds: Iterable[type[Payload]], verb: str, bounds: Bounds) -> Payload:
    for kind in kinds:
        if issubclass(type(payload), kind):
            return _copied(payload, kind, kind.__name__, bounds)
    raise TypeError(f"a {class_name(payload)} cannot be {verb} by a run")


def _copied(value: object, kind: type[V], field: str, bounds: Bounds = _BOUNDS) -> V:
    """The value as exactly this kind of ours, also where it is a subclass of an author's."""
    if not issubclass(type(value), kind):
        raise TypeError(f"{field} must be a {kind.__name__}, not {class_name(value)}")
    read: dict[str, Any] = {}
    for name, reader in _READERS[kind].items():
        where = f"{field}.{name}"
        read[name] = reader(_held(value, name, where), where, bounds)
    return kind(**read)


_REQUIRED = object()


def _held(value: object, name: str, field: str, missing: object = _REQUIRED) -> Any:
    """An attribute, which may be a property with code of an author's."""
    try:
        if missing is _REQUIRED:
            return getattr(value, name)
        return getattr(value, name, missing)
    except Exception as error:
        raise unreadable(field, error) from error


def _listed(values: object, field: str) -> tuple[Any, ...]:
    # Anything else that can be iterated may be a text, or never end.
    if issubclass(type(values), tuple):
        return tuple(tuple.__iter__(values))  # type: ignore[arg-type]  # it is a tuple
    if issubclass(type(values), list):
        return tuple(list.__iter__(values))  # type: ignore[arg-type]  # it is a list
    raise TypeError(f"{field} must be a tuple or list, not {class_name(values)}")


def _texts(values: object, field: str, most: int) -> tuple[str, ...]:
    listed = _listed(values, field)
    if len(listed) > most:
        raise ValueError(f"{field} must have at most {most} parts, and has {len(listed)}")
    return tuple(text(part, f"{field}[{index}]", MAX_ID) for index, part in enumerate(listed))


def _is_sound(usage: Usage) -> bool:
    counts = (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cached_tokens)
    for number in counts:
        if type(number) is not int or not -MAX_TOKENS <= number <= MAX_TOKENS:
            return False
    for number in (usage.steps, usage.tool_calls):
        if type(number) is not int or not -MAX_COUNT <= number <= MAX_COUNT:
            return False
    return (
        type(usage.cost) is float
        and -MAX_COST <= usage.cost <= MAX_COST
        and type(usage.estimated) is bool
    )


def _id(value: Any, field: str, _: Bounds) -> str:
    return text(value, field, MAX_ID)


def _name(value: Any, field: str, _: Bounds) -> str:
    return "" if value is None else text(value, field, MAX_NAME)


def _output(value: Any, field: str, bounds: Bounds) -> str:
    return text(value, field, bounds.output)


def _data(value: Any, field: str, bounds: Bounds) -> dict[str, Any]:
    return plain(value, field, bounds.data)


def _path(value: Any, field: str, _: Bounds) -> tuple[str, ...]:
    return _texts(value, field, MAX_PATH)


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
    return lambda value, field, bounds: _copied(value, kind, field, bounds)


def _or_none(reader: Reader) -> Reader:
    return lambda value, field, bounds: None if value is None else reader(value, field, bounds)


def _calls(values: Any, field: str, _: Bounds) -> tuple[ToolCall, ...]:
    return tuple(
        _copied(call, ToolCall, f"{field}[{index}]")
        for index, call in enumerate(_listed(values, field)[-MAX_CALLS:])
    )


def _waiting(values: Any, field: str, bounds: Bounds) -> tuple[ToolCall, ...]:
    """Calls that somebody decides about: nobody must approve what is not shown, so none is cut."""
    listed = _listed(values, field)
    if len(listed) > MAX_CALLS:
        raise ValueError(f"{field} must be at most {MAX_CALLS}, and are {len(listed)}")
    room = MAX_ASKED
    calls = []
    for index, value in enumerate(listed):
        where = f"{field}[{index}]"
        call = _copied(value, ToolCall, where, bounds)
        whole = text(_held(value, "arguments", f"{where}.arguments"), f"{where}.arguments")
        room -= size(whole)
        if room < 0:
            raise ValueError(f"the arguments of all {field} must be at most {MAX_ASKED} bytes")
        calls.append(replace(call, arguments=whole))
    return tuple(calls)


def _total(value: Any, field: str, bounds: Bounds) -> Usage:
    """What was used in all, which is never negative."""
    return Usage() + _copied(value, Usage, field, bounds)


_TOKENS = _whole(-MAX_TOKENS, MAX_TOKENS)
_STEPS = _whole(-MAX_COUNT, MAX_COUNT)
_TIME = _finite(0.0, MAX_TIME)
_RESULT: dict[str, Reader] = {"output": _output, "usage": _total, "tool_calls": _calls}

_READERS: Mapping[type[Any], Mapping[str, Reader]] = {
    Source: {
        "kind": _member_of(SourceKind),
        "id": _id,
        "name": _name,
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
        "cost": _finite(-MAX_COST, MAX_COST),
        "estimated": _bool,
        "steps": _STEPS,
        "tool_calls": _STEPS,
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
    },
    Decision: {
        "tool_call_id": lambda value, field, _: text(value, field),
        "approved": _bool,
        "answer": _or_none(lambda value, field, _: text(value, field)),
        "note": lambda value, field, _: text(value, field),
    },
    # The payloads, in the order of the proto.
    events.RunStarted: {"runnable": _id, "session_id": _id, "parent_run_id": _id},
    events.ContentDelta: {"text": _output, "count": _whole(1, MAX_COUNT)},
    events.ReasoningDelta: {"text": _output, "count": _whole(1, MAX_COUNT)},
    events.ToolCallStarted: {"tool_call": _a(ToolCall)},
    events.ToolCallCompleted: {"tool_call": _a(ToolCall)},
    events.StepStarted: {"step_id": _id, "name": _name, "attempt": _whole(0, MAX_COUNT)},
    events.StepCompleted: {
        "step_id": _id,
        "name": _name,
        "state": _member_of(RunState),
        "output": _output,
        "error": _or_none(_a(RunError)),
    },
    events.UsageUpdated: {"usage": _total},
    events.CancelRequested: {"cancellation": _a(Cancellation)},
    events.RunPaused: {
        "question": lambda value, field, _: text(value, field, MAX_QUESTION),
        "tool_calls": _waiting,
    },
    events.RunContinued: {"actor": _cut_at(MAX_ID)},
    events.Custom: {"name": _name, "data": _data},
    events.RunCompleted: {**_RESULT, "output_data": _or_none(_data)},
    events.RunCancelled: {
        **_RESULT,
        "output_data": _or_none(_data),
        "cancellation": _a(Cancellation),
        "abandoned": _bool,
        "stage": _or_none(_member_of(StopStage)),
    },
    events.RunFailed: {
        **_RESULT,
        "error": _a(RunError),
        "output_data": _or_none(_data),
        "cancellation": _or_none(_a(Cancellation)),
    },
}
