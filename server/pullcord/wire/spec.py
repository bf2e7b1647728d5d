"""RunSpec between proto and domain. It names every wrong field of a spec at once.

What makes a spec right is said by `RunSpec` itself, and what a field can hold by `fields`; whether
the run is admitted is the engine's business.
"""

from dataclasses import replace

from pullcord.run.message import BOUNDS, PartBounds
from pullcord.run.record import RunSpec
from pullcord.v1 import run_pb2
from pullcord.wire.enums import DISCONNECT_POLICY, SESSION_POLICY
from pullcord.wire.fields import Fields
from pullcord.wire.limits import limits_message, limits_of
from pullcord.wire.message import fill_messages, fill_parts, parse_messages, parts_of
from pullcord.wire.values import duration


def parse_spec(
    message: run_pb2.RunSpec,
    max_input_bytes: int,
    parts: PartBounds = BOUNDS,
    prefix: str = "spec.",
    data: bytes | None = None,
) -> RunSpec:
    """Reads what a caller asks for. `max_input_bytes` bounds the text, and again the data.

    `data`: the bytes of input_data, where the message was read without it.

    Raises:
        InvalidArgument: it names every wrong field, with `prefix` before its path.
    """
    fields = Fields()
    if data is None and message.HasField("input_data"):
        data = message.input_data.SerializeToString()
    timeout = fields.seconds("limits.timeout", message.limits, "timeout")
    on_disconnect = fields.enum("on_disconnect", DISCONNECT_POLICY, message.on_disconnect)
    lease = fields.seconds("lease", message, "lease")
    spec = RunSpec(
        runnable=message.runnable,
        input=message.input,
        input_data=fields.data("input_data", data),
        run_id=message.run_id,
        session_id=message.session_id,
        user_id=message.user_id,
        limits=replace(limits_of(message.limits), timeout=timeout),
        on_disconnect=on_disconnect,
        # Whether a lease fits cannot be said where the policy itself is unknown.
        lease=None if fields.is_wrong("on_disconnect") else lease,
        labels=dict(message.labels),
        session_policy=fields.enum("session_policy", SESSION_POLICY, message.session_policy),
        parts=parts_of(message.parts),
        messages=parse_messages(fields, "messages", message.messages),
        retry_of=message.retry_of,
    )
    fields.violations += spec.violations(max_input_bytes, parts, is_unicode=True)
    fields.check(prefix)
    return spec


def spec_message(spec: RunSpec) -> run_pb2.RunSpec:
    """Writes what a client asks for.

    Raises:
        InvalidArgument: a limit is 0, which the message would turn into no limit.
        ValueError, TypeError: `input_data` holds what JSON cannot.
    """
    fields = Fields()
    for name in ("max_tokens", "max_cost", "max_steps", "max_tool_calls"):
        if getattr(spec.limits, name) == 0:
            fields.wrong(f"spec.limits.{name}", "must be more than 0, or unset")
    fields.check()
    message = run_pb2.RunSpec(
        runnable=spec.runnable,
        input=spec.input,
        run_id=spec.run_id,
        session_id=spec.session_id,
        user_id=spec.user_id,
        limits=limits_message(spec.limits),
        labels=dict(spec.labels),
        retry_of=spec.retry_of,
    )
    fill_parts(message.parts, spec.parts)
    fill_messages(message.messages, spec.messages)
    if spec.input_data is not None:
        message.input_data.SetInParent()
        message.input_data.update(dict(spec.input_data))
    if spec.on_disconnect is not None:
        message.on_disconnect = DISCONNECT_POLICY.numbers[spec.on_disconnect]
    if spec.lease is not None:
        message.lease.CopyFrom(duration(spec.lease))
    if spec.session_policy is not None:
        message.session_policy = SESSION_POLICY.numbers[spec.session_policy]
    return message
