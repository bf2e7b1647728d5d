"""A runnable as a tool, a call's arguments as a run, and a run as a call's result.

Nothing is started here, and nothing is sent.
"""

import uuid
from collections.abc import Mapping
from typing import Any

import mcp_types as types

from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.events import Event, RunPaused
from pullcord.run.record import Run
from pullcord.run.runnable import RunnableInfo
from pullcord.run.state import RunState
from pullcord.transports.mcp.runs import Wanted

_ARGUMENTS: Mapping[str, tuple[type, str, str]] = {
    "input": (str, "string", "The text to work on."),
    "input_data": (dict, "object", "Data for it, if it takes any."),
    "session_id": (
        str,
        "string",
        "Names a conversation: calls with the same id remember those before.",
    ),
}
_DEFAULTS: Mapping[str, Any] = {"input": "", "input_data": None, "session_id": ""}


def tool_of(info: RunnableInfo) -> types.Tool:
    """The runnable as a tool; `agents/story-writer` is called `agents_story-writer`, since models
    cannot say a slash."""
    properties = {
        name: {"type": said, "description": about} for name, (_, said, about) in _ARGUMENTS.items()
    }
    return types.Tool(
        name=info.name.replace("/", "_", 1),
        title=info.display_name or info.name,
        description=info.description or f"Runs {info.name}.",
        input_schema={
            "type": "object",
            "properties": properties,
            "required": ["input"],
            "additionalProperties": False,
        },
    )


def wanted_by(tool: str, arguments: Mapping[str, Any] | None) -> Wanted:
    """The run that a call asks for.

    Raises:
        InvalidArgument: an argument is unknown, or of another type.
    """
    given = arguments or {}
    wrong = [
        Violation(name[:100], f"is not taken here; there are {', '.join(_ARGUMENTS)}")
        for name in given
        if name not in _ARGUMENTS
    ]
    for name, (kind, said, _) in _ARGUMENTS.items():
        if name in given and given[name] is not None and not isinstance(given[name], kind):
            wrong.append(Violation(name, f"must be a JSON {said}"))
    if wrong:
        raise InvalidArgument(*wrong)
    values = {
        name: default if given.get(name) is None else given[name]
        for name, default in _DEFAULTS.items()
    }
    return Wanted(run_id=str(uuid.uuid4()), runnable=tool.replace("_", "/", 1), **values)


def result_of(run: Run) -> types.CallToolResult:
    """The result of a run that has ended. One that failed or was stopped is an error to the model,
    with what it had made."""
    if run.state is RunState.COMPLETED:
        return _result(run.run_id, run.output, run, is_error=False)
    if run.state is RunState.FAILED and run.error is not None:
        words = f"The run failed: {run.error.type}: {run.error.message}"
    elif (stop := run.cancellation) is not None:
        by = f" by {stop.actor}" if stop.actor else ""
        why = f": {stop.reason}" if stop.reason else ""
        words = f"The run was cancelled, cause {stop.cause.value.upper()}{by}{why}"
    else:
        words = f"The run is {run.state}."
    made = f"{words}\nWhat it had made:\n{run.output}" if run.output else words
    return _result(run.run_id, made, run, is_error=True)


def waiting_run(pause: Event, run_id: str) -> str:
    """The id of the run that asks: this one, or one of its children."""
    return pause.source.run_id or run_id if pause.source is not None else run_id


def paused(event: Event, run_id: str) -> types.CallToolResult:
    """The result of a call whose run waits for a decision of somebody else."""
    assert isinstance(event.payload, RunPaused)
    waits = waiting_run(event, run_id)
    calls = "".join(
        f"\n- {call.tool_call_id}: {call.tool_name} {call.arguments}"[:500]
        for call in event.payload.tool_calls
    )
    words = (
        "The run waits for a decision, and has not ended. It asks: "
        f"{event.payload.question}{calls}\n"
        f"{_decides(run_id, waits)}"
    )
    return _result(run_id, words, None, is_error=True)


def still_paused(run_id: str, waits: str) -> types.CallToolResult:
    """The same, once the client's user did not want to decide."""
    words = f"The run waits for a decision, and has not ended. {_decides(run_id, waits)}"
    return _result(run_id, words, None, is_error=True)


def _decides(run_id: str, waits: str) -> str:
    return (
        f"Somebody may decide with `pullcord continue {waits}`, ContinueRun, or in the console; it "
        f"then goes on, and `pullcord get {run_id}` shows what came of it."
    )


def refused(words: str) -> types.CallToolResult:
    """The result of a call that started nothing; the model may mend it, or try again."""
    return types.CallToolResult(content=[types.TextContent(text=words)], is_error=True)


def _result(run_id: str, text: str, run: Run | None, *, is_error: bool) -> types.CallToolResult:
    state = RunState.PAUSED if run is None else run.state
    data = None if run is None or run.output_data is None else dict(run.output_data)
    return types.CallToolResult(
        content=[types.TextContent(text=text)],
        structured_content=data,
        is_error=is_error,
        _meta={"run_id": run_id, "state": state.value.upper()},
    )
