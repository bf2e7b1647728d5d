"""Runs as A2A's tasks, with the text that a run has made as an artifact. Values only.

What A2A has no word for stands in `metadata`, under `pullcord`, in the names of our own API.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from a2a.types import Artifact, Message, Part, Role, Task, TaskState, TaskStatus
from google.protobuf import json_format
from google.protobuf.struct_pb2 import Struct, Value

from pullcord.run import message as ours
from pullcord.run.events import ToolCall, ToolCallState
from pullcord.run.record import Run
from pullcord.run.state import RunState
from pullcord.wire.run import run_message
from pullcord.wire.values import set_data, set_time

OURS = "pullcord"
"""The key of our own fields in metadata."""
MESSAGE_ID = "a2a.message_id"
"""The label of a run that has the id of the message that it was started by."""
TEXT = "output"
"""The artifact of a run's text."""
DATA = "output_data"
"""The artifact of a run's data, which comes when it has ended."""

STATES: Mapping[RunState, TaskState] = {
    RunState.PENDING: TaskState.TASK_STATE_SUBMITTED,
    RunState.RUNNING: TaskState.TASK_STATE_WORKING,
    RunState.PAUSED: TaskState.TASK_STATE_INPUT_REQUIRED,
    # There is no word for a run that is being stopped; metadata says it.
    RunState.CANCELLING: TaskState.TASK_STATE_WORKING,
    RunState.COMPLETED: TaskState.TASK_STATE_COMPLETED,
    RunState.CANCELLED: TaskState.TASK_STATE_CANCELED,
    RunState.FAILED: TaskState.TASK_STATE_FAILED,
}
_SAID = ("state", "cancellation", "abandoned", "killedProcesses", "error", "runnable", "usage")


def task(
    run: Run,
    *,
    question: str = "",
    history_length: int | None = None,
    artifacts: bool = True,
    more: Mapping[str, Any] | None = None,
) -> Task:
    """The task of a run; `question` is what a paused run asks, if that is known."""
    told = Task(
        id=run.run_id,
        context_id=run.session_id,
        status=status(run, question),
        metadata=metadata(run, more),
    )
    if artifacts:
        told.artifacts.extend(artifacts_of(run))
    if history_length is None or history_length > 0:
        told.history.append(_first_message(run))
    return told


def status(run: Run, question: str = "") -> TaskStatus:
    """The state of a run, in A2A's words."""
    told = TaskStatus(state=STATES[run.state])
    set_time(told.timestamp, changed_at(run))
    parts: list[Part] = []
    if run.state is RunState.PAUSED:
        waiting = waiting_calls(run)
        words = question or "waits for a decision about " + ", ".join(c.tool_name for c in waiting)
        calls = [{"toolCallId": c.tool_call_id, **_call(c)} for c in waiting]
        parts = [Part(text=words), Part(data=value({"toolCalls": calls}))]
    elif run.state is RunState.FAILED and run.error is not None:
        parts = [Part(text=run.error.words)]
    elif run.cancellation is not None and run.cancellation.reason:
        parts = [Part(text=run.cancellation.reason)]
    if parts:
        # The same status has the same id for everybody who asks.
        told.message.CopyFrom(
            Message(
                message_id=f"{run.run_id}-{run.last_sequence}",
                task_id=run.run_id,
                context_id=run.session_id,
                role=Role.ROLE_AGENT,
                parts=parts,
            )
        )
    return told


def changed_at(run: Run) -> float:
    """When it came to where it is, as far as is known: a pause has no time of its own."""
    return run.end_time or run.start_time or run.create_time


def waiting_calls(run: Run) -> Sequence[ToolCall]:
    """The calls about which a run waits for a decision; those of children are decided there."""
    return [c for c in run.tool_calls if c.state is ToolCallState.WAITING and not c.run_id]


def metadata(run: Run, more: Mapping[str, Any] | None = None) -> Struct:
    """Our own fields about a run."""
    bare = replace(run, input="", output="", output_data=None, parts=(), tool_calls=())
    said = json_format.MessageToDict(run_message(bare))
    told = {key: said[key] for key in _SAID if key in said}
    return struct(told | {"sequence": run.last_sequence} | dict(more or {}))


def struct(said: Mapping[str, Any]) -> Struct:
    """Metadata with this under our name."""
    return json_format.ParseDict({OURS: said}, Struct())


def value(data: Any) -> Value:
    """Any JSON as the content of a part."""
    return json_format.ParseDict(data, Value())


def artifacts_of(run: Run) -> list[Artifact]:
    """The artifacts of a run so far."""
    made = [text_artifact(run.output)] if run.output else []
    if run.output_data is not None:
        made.append(data_artifact(run.output_data))
    return made


def text_artifact(text: str) -> Artifact:
    """Text of the run's, or the next piece of it."""
    return Artifact(artifact_id=TEXT, name=TEXT, parts=[Part(text=text, media_type="text/plain")])


def data_artifact(data: Mapping[str, Any]) -> Artifact:
    """The run's data."""
    part = Part(media_type="application/json")
    set_data(part.data.struct_value, data)
    return Artifact(artifact_id=DATA, name=DATA, parts=[part])


def _first_message(run: Run) -> Message:
    """The message that the run was started by; of files, only what they are called."""
    parts = [Part(text=run.input)] if run.input else []
    parts += [_part(part) for part in run.parts]
    return Message(
        message_id=run.labels.get(MESSAGE_ID) or f"{run.run_id}-input",
        task_id=run.run_id,
        context_id=run.session_id,
        role=Role.ROLE_USER,
        parts=parts or [Part(text="")],
    )


def _part(part: ours.Part) -> Part:
    if part.uri is not None:
        return Part(url=part.uri, media_type=part.media_type, filename=part.name)
    if part.text is not None:
        return Part(text=part.text, media_type=part.media_type, filename=part.name)
    return Part(text=f"[{part.label}]", filename=part.name)


def _call(call: ToolCall) -> dict[str, Any]:
    try:
        arguments = json.loads(call.arguments) if call.arguments else {}
    except (ValueError, RecursionError):
        arguments = call.arguments
    return {"toolName": call.tool_name, "arguments": arguments}
