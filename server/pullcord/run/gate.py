"""The one gate for what an author's code says: what passes it can be sent, whatever happens later.

Each function copies a value into one of ours, made of exact built-in types and frozen classes of
ours only, bounded in size, or raises a TypeError or ValueError that names the field. They are pure:
they run where the author's code speaks, under no lock, and nothing is logged or decided here.

Two rules for what is too long. A name that the author chose is refused. Words from elsewhere (a
model's arguments, a tool's result, an error's message, a reason) are cut, and end in an ellipsis.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pullcord.run import events
from pullcord.run.cancel import Cancellation
from pullcord.run.events import (
    AUTHORS_PAYLOADS,
    RELAYED_PAYLOADS,
    Payload,
    Source,
    SourceKind,
    ToolCall,
)
from pullcord.run.finish import FinishReason
from pullcord.run.message import Given
from pullcord.run.model_call import ModelCall
from pullcord.run.plain import class_name, cut, plain, text
from pullcord.run.readers import (
    DEFAULT,
    MAX_DESCRIPTION,
    MAX_INPUT_DATA,
    MAX_MEMBERS,
    MAX_QUESTION,
    MAX_START_PATH,
    Bounds,
    copied,
    display_name,
    held,
    listed,
    messages,
    parts,
    texts,
    waiting,
)
from pullcord.run.record import Decision, RunSpec, is_runnable_name
from pullcord.run.runnable import RunnableInfo
from pullcord.run.takes import NOTHING, Takes
from pullcord.run.usage import MAX_COST, MAX_COUNT, MAX_TOKENS, Usage

_ENGINES = (events.RunStarted, events.CancelRequested, *events.TERMINAL_PAYLOADS)
_RELAYED_OWN = tuple(kind for kind in RELAYED_PAYLOADS if kind not in _ENGINES)


# --- what a run says


def emitted(payload: object, bounds: Bounds = DEFAULT) -> Payload:
    """An event that a run's own code adds.

    Raises:
        TypeError, ValueError: it is no event of an author's, or a field of it cannot be sent.
    """
    return _one_of(payload, AUTHORS_PAYLOADS, "emitted", bounds)


def relayed(payload: object, is_own: bool, bounds: Bounds = DEFAULT) -> Payload:
    """An event of a run elsewhere; `is_own`: of the very run that does this run's work.

    A run's own beginning and end are the engine's to say, so only those of others can be relayed.

    Raises:
        TypeError, ValueError: it cannot be relayed, or a field of it cannot be sent.
    """
    return _one_of(payload, _RELAYED_OWN if is_own else RELAYED_PAYLOADS, "relayed", bounds)


def source(value: object) -> Source | None:
    """The source of an event; None: the run's own runnable."""
    return None if value is None else copied(value, Source, "source")


def path(value: object) -> tuple[str, ...]:
    """The path that a run is started under."""
    return texts(value, "path", MAX_START_PATH)


def usage(value: object) -> Usage:
    """An amount that is added to a run's usage; a field may be negative, as a correction."""
    if type(value) is Usage and _is_sound(value):
        return value  # the hot path; sums are new objects
    return copied(value, Usage, "usage")


def tool_call(value: object) -> ToolCall:
    """A tool call, cut so that a ledger of them fits a message."""
    return copied(value, ToolCall, "tool_call")


def model_call(value: object) -> ModelCall:
    """A call of a model that has ended."""
    return copied(value, ModelCall, "call")


def asked_calls(values: object) -> tuple[ToolCall, ...]:
    """The calls that a question is about, each with all of its arguments."""
    return tuple(replace(call, run_id="") for call in waiting(values, "calls", DEFAULT))


def question(value: object) -> str:
    """The words of a question."""
    return text(value, "question", MAX_QUESTION)


def continuation(value: object) -> bytes | None:
    """From what another execution can go on. Raises TypeError for what is no bytes."""
    if value is None or type(value) is bytes:
        return value
    raise TypeError(f"continuation must be bytes, not {class_name(value)}")


def output(value: object, bounds: Bounds = DEFAULT) -> str:
    """The output of a run, as its code sets it."""
    return text(value, "output", bounds.output)


def finish_reason(value: object) -> FinishReason:
    """The end of a model's answer. Raises TypeError if it is no FinishReason."""
    if type(value) is not FinishReason:
        raise TypeError(f"finish_reason must be a FinishReason, not {class_name(value)}")
    return value


def output_data(value: object, bounds: Bounds = DEFAULT) -> dict[str, Any]:
    """The result of a run as data, as its code sets it."""
    return plain(value, "output_data", bounds.data)


def spec(value: object) -> RunSpec:
    """The spec of a run that a program starts in-process.

    What the fields may say is checked by the engine, which refuses all wrong ones at once.
    """
    return copied(value, RunSpec, "spec")


def given(input: object, data: object, parts_: object, messages_: object) -> Given:
    """The input of a child run; the engine bounds it more narrowly."""
    return Given(
        text(input, "input"),
        None if data is None else plain(data, "input_data", MAX_INPUT_DATA),
        parts(parts_, "parts", DEFAULT),
        messages(messages_, "messages", DEFAULT),
    )


def cancellation(value: object) -> Cancellation:
    """The stop that a run asks for itself."""
    return copied(value, Cancellation, "cancellation")


def decisions(values: object) -> tuple[Decision, ...]:
    """Decisions about tool calls that wait."""
    return tuple(
        copied(value, Decision, f"decisions[{index}]")
        for index, value in enumerate(listed(values, "decisions"))
    )


def described(runnable: object) -> RunnableInfo:
    """The public description of a runnable, of any author.

    Raises:
        TypeError, ValueError: it cannot be called by its kind and id, or says what cannot be sent.
    """
    kind = held(runnable, "kind", "runnable.kind")
    if type(kind) is not SourceKind or kind is SourceKind.STEP:
        raise TypeError(
            f"runnable.kind must be SourceKind.AGENT, TEAM or WORKFLOW, not {class_name(kind)}"
        )
    id = text(held(runnable, "id", "runnable.id"), "runnable.id")
    name = f"{kind.value}s/{id}"
    if not is_runnable_name(name):
        raise ValueError(
            f"runnable.id {id[:64]!r} must be 1 to 128 of a-z, 0-9, '_', '.' and '-',"
            " and begin with a letter or digit"
        )
    found = {
        name: held(runnable, name, f"runnable.{name}", missing=None)
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
        display_name(found["name"], "runnable.name", DEFAULT),
        cut(about, MAX_DESCRIPTION),
        texts(members, "runnable.members", MAX_MEMBERS),
        _takes(held(runnable, "takes", "runnable.takes", missing=NOTHING)),
    )


def _takes(value: object) -> Takes:
    return value if value is NOTHING else copied(value, Takes, "runnable.takes")


# --- inside


def _one_of(payload: object, kinds: Iterable[type[Payload]], verb: str, bounds: Bounds) -> Payload:
    for kind in kinds:
        if issubclass(type(payload), kind):
            return copied(payload, kind, kind.__name__, bounds)
    raise TypeError(f"a {class_name(payload)} cannot be {verb} by a run")


def _is_sound(usage: Usage) -> bool:
    counts = (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens, usage.cached_tokens)
    for number in counts:
        if type(number) is not int or not -MAX_TOKENS <= number <= MAX_TOKENS:
            return False
    for number in (usage.steps, usage.tool_calls):
        if type(number) is not int or not -MAX_COUNT <= number <= MAX_COUNT:
            return False
    return (
        usage.cost is None or (type(usage.cost) is float and abs(usage.cost) <= MAX_COST)
    ) and type(usage.estimated) is bool
