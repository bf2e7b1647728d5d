"""Domain values in frames: specs, offers, events, decisions and refusals, in both directions.

Data of authors and callers stays serialized: a process that passes it on does not look into it.
How frames travel is not known here.
"""

import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pullcord.link import frames_pb2 as pb
from pullcord.run.cancel import Cancellation
from pullcord.run.errors import InvalidArgument, PullcordError, ServerFault, Violation
from pullcord.run.events import Payload, Source, SourceKind
from pullcord.run.model_call import ModelCall
from pullcord.run.record import Decision, DisconnectPolicy, RunSpec
from pullcord.run.resources import Resources, resources_of
from pullcord.run.resumed import HandedOver, Resumed
from pullcord.run.runnable import Runnable, RunnableInfo
from pullcord.run.scope import Scope
from pullcord.run.takes import NOTHING, Takes
from pullcord.run.usage import Limits
from pullcord.v1 import run_pb2
from pullcord.wire.enums import DISCONNECT_POLICY, FINISH_REASON, SESSION_POLICY
from pullcord.wire.event import fill_body, fill_source, payload_of, source_of
from pullcord.wire.message import fill_messages, fill_parts, messages_of, parts_of
from pullcord.wire.run import (
    cancellation_of,
    fill_cancellation,
    fill_usage,
    runnable_message,
    runnable_of,
    usage_of,
)
from pullcord.wire.unread import with_data, without_data
from pullcord.wire.values import StructData, duration, seconds_of, struct_bytes

VERSION = f"{zlib.crc32(pb.DESCRIPTOR.serialized_pb):08x}"
"""Of the frames: both ends of a link must have the same."""

IMPORT_SHOWN_AFTER = 15.0
"""Seconds after which a worker that still imports the author's module shows where it is."""


@dataclass
class Offer:
    """A runnable as the control process knows it: what it is, but not its code."""

    kind: SourceKind
    id: str
    name: str
    description: str
    members: tuple[str, ...]
    is_async: bool
    takes: Takes = NOTHING
    isolation: str = ""
    """`process`: each run has a process for itself; empty: as the settings say."""
    resources: Resources | None = None
    """What each run needs of a machine; None: nothing in particular."""

    def execute(self, ctx: Any) -> None:
        """Never called: the code is in a worker."""
        raise AssertionError("an offer has no code")


@dataclass
class PinnedOffer(Offer):
    """A runnable whose object is in one worker, which knows it by a key; it executes there only."""

    place: object = None
    """The connection to that worker."""
    key: int = 0
    started: bool = False
    """Whether the worker was told to start it; that forgets the key by then."""


# --- specs


def fill_spec(message: run_pb2.RunSpec, spec: RunSpec, *, with_input: bool = True) -> None:
    """Writes a spec that was checked before, without its data, which a frame has by itself."""
    limits = spec.limits
    message.runnable = spec.runnable
    message.run_id = spec.run_id
    message.session_id = spec.session_id
    message.user_id = spec.user_id
    message.retry_of = spec.retry_of
    message.labels.update(spec.labels)
    if limits.timeout is not None:
        message.limits.timeout.CopyFrom(duration(limits.timeout))
    for name in ("max_tokens", "max_cost", "max_steps", "max_tool_calls"):
        if (value := getattr(limits, name)) is not None:
            setattr(message.limits, name, value)
    if with_input:
        message.input = spec.input
        fill_parts(message.parts, spec.parts)
        fill_messages(message.messages, spec.messages)
    if spec.on_disconnect is not None:
        message.on_disconnect = DISCONNECT_POLICY.numbers[spec.on_disconnect]
    if spec.lease is not None:
        message.lease.CopyFrom(duration(spec.lease))
    if spec.session_policy is not None:
        message.session_policy = SESSION_POLICY.numbers[spec.session_policy]


def spec_of(message: run_pb2.RunSpec, data: bytes | None) -> RunSpec:
    """Reads a spec that was checked before, and its data."""
    limits = message.limits
    return RunSpec(
        runnable=message.runnable,
        input=message.input,
        input_data=None if data is None else StructData(data),
        run_id=message.run_id,
        session_id=message.session_id,
        user_id=message.user_id,
        limits=Limits(
            timeout=seconds_of(limits.timeout) if limits.HasField("timeout") else None,
            max_tokens=limits.max_tokens or None,
            max_cost=limits.max_cost or None,
            max_steps=limits.max_steps or None,
            max_tool_calls=limits.max_tool_calls or None,
        ),
        on_disconnect=policy_of(message.on_disconnect),
        lease=seconds_of(message.lease) if message.HasField("lease") else None,
        labels=dict(message.labels),
        session_policy=SESSION_POLICY.find(message.session_policy),
        parts=parts_of(message.parts),
        messages=messages_of(message.messages),
        retry_of=message.retry_of,
    )


def policy_of(number: int) -> DisconnectPolicy | None:
    """The policy of this number; None where none is set."""
    return DISCONNECT_POLICY.find(number)


def data_bytes(data: Mapping[str, Any] | None) -> bytes | None:
    """Data as a frame carries it."""
    return None if data is None else struct_bytes(data)


# --- offers


def fill_offer(message: pb.Offer, runnable: Runnable, info: RunnableInfo) -> None:
    """Writes what the control process must know of a runnable."""
    message.runnable.CopyFrom(runnable_message(info))
    message.is_async = runnable.is_async
    message.isolation = getattr(runnable, "isolation", "") or ""
    if (resources := resources_of(runnable)) is not None:
        message.resources.cpu, message.resources.gpu = resources.cpu, resources.gpu
        if resources.memory_bytes is not None:
            message.resources.memory = resources.memory_bytes


def offer_of(message: pb.Offer) -> Offer:
    """Reads what a worker said of a runnable."""
    info: RunnableInfo = runnable_of(message.runnable)
    return Offer(
        kind=info.kind,
        id=info.id,
        name=info.display_name,
        description=info.description,
        members=info.members,
        takes=info.takes,
        is_async=message.is_async,
        isolation=message.isolation,
        resources=_resources_of(message.resources) if message.HasField("resources") else None,
    )


def _resources_of(message: pb.Resources) -> Resources:
    memory = message.memory if message.HasField("memory") else None
    return Resources(message.cpu, memory, message.gpu)


# --- events


def fill_happened(message: pb.Happened, payload: Payload, source: Source | None) -> None:
    """Writes an event's payload and source; its number and time the engine gives."""
    bare, data = without_data(payload)
    fill_body(message.event, bare)
    if data is not None:
        message.data = struct_bytes(data)
    if source is not None:
        fill_source(message.event.source, source)


def happened_of(message: pb.Happened) -> tuple[Payload, Source | None]:
    """Reads an event's payload and source, with its data still serialized."""
    event = message.event
    payload = payload_of(event)
    if message.HasField("data"):
        payload = with_data(payload, StructData(message.data))
    return payload, source_of(event.source) if event.HasField("source") else None


# --- stops, decisions


def stop_frame(run: int, cancellation: Cancellation, grace_period: float | None) -> pb.DownFrame:
    """The frame that stops a run's code."""
    frame = pb.DownFrame()
    frame.stop.run = run
    fill_cancellation(frame.stop.cancellation, cancellation)
    if grace_period is not None:
        frame.stop.grace_period = grace_period
    return frame


def stop_of(message: pb.Stop) -> tuple[Cancellation, float | None]:
    """Reads a stop and its grace period."""
    grace = message.grace_period if message.HasField("grace_period") else None
    return cancellation_of(message.cancellation), grace


def fill_decisions(target: Any, decisions: Iterable[Decision]) -> None:
    """Writes decisions into a repeated field."""
    for decision in decisions:
        made = target.add(
            tool_call_id=decision.tool_call_id, approved=decision.approved, note=decision.note
        )
        if decision.answer is not None:
            made.answer = decision.answer


def decisions_of(messages: Iterable[pb.Decision]) -> tuple[Decision, ...]:
    """Reads decisions."""
    return tuple(
        Decision(m.tool_call_id, m.approved, m.answer if m.HasField("answer") else None, m.note)
        for m in messages
    )


def fill_resumed(message: pb.Resumed, resumed: Resumed) -> None:
    """Writes what an execution goes on from."""
    message.continuation = resumed.continuation
    fill_decisions(message.decisions, resumed.decisions)
    fill_usage(message.usage, resumed.usage)


def resumed_of(message: pb.Resumed) -> Resumed:
    """Reads it."""
    decisions = decisions_of(message.decisions)
    return Resumed(message.continuation, decisions, usage_of(message.usage))


def fill_handed(message: pb.HandedOver, handed: HandedOver) -> None:
    """Writes what a run that waits for children can go on from."""
    message.continuation = handed.continuation
    message.children.extend(handed.children)


def handed_of(messages: Iterable[pb.HandedOver]) -> list[HandedOver]:
    """Reads them."""
    return [HandedOver(m.continuation, tuple(m.children)) for m in messages]


# --- refusals


def fill_refusal(message: pb.Refusal, error: BaseException) -> None:
    """Writes a refusal; what is no PullcordError is our own mistake, and told by its words."""
    # Here, because the table of errors brings gRPC, which a worker that is refused nothing skips.
    from pullcord.wire.errors import reason_of, told_of

    message.message = str(error)
    if not isinstance(error, PullcordError):
        message.message = f"{type(error).__name__}: {error}"
        return
    message.reason = reason_of(error)
    if isinstance(error, InvalidArgument):
        for violation in error.violations:
            message.violations.add(field=violation.field, description=violation.description)
        return
    told = told_of(error)
    message.metadata.update(told.metadata)
    if told.retry_after is not None:
        message.retry_after = told.retry_after


def refusal_of(message: pb.Refusal) -> Exception:
    """Reads a refusal back into the same error."""
    from pullcord.wire.errors import TABLE, Told

    if message.violations:
        return InvalidArgument(
            *(Violation(found.field, found.description) for found in message.violations)
        )
    row = TABLE.get(message.reason)
    if row is None:
        return ValueError(message.message) if not message.reason else ServerFault()
    retry = message.retry_after if message.HasField("retry_after") else None
    error: Exception = row.hear(
        Told(metadata=dict(message.metadata), message=message.message, retry_after=retry)
    )
    return error


def question(scope: Scope) -> pb.UpFrame:
    """A question about runs of this scope, to be filled in."""
    frame = pb.UpFrame()
    frame.ask.tenant, frame.ask.owner = scope
    return frame


def fill_model_called(message: pb.ModelCalled, call: ModelCall) -> None:
    """Writes a call of a model into a message that has its run."""
    message.model, message.provider = call.model, call.provider
    message.seconds, message.error_type = call.seconds, call.error_type
    if call.first_after is not None:
        message.first_after = call.first_after
    fill_usage(message.usage, call.usage)
    if call.finish_reason is not None:
        message.finish_reason = FINISH_REASON.numbers[call.finish_reason]


def model_call_of(message: pb.ModelCalled) -> ModelCall:
    """Reads a call of a model."""
    return ModelCall(
        message.model,
        message.provider,
        message.seconds,
        message.first_after if message.HasField("first_after") else None,
        usage_of(message.usage),
        FINISH_REASON.find(message.finish_reason),
        message.error_type,
    )
