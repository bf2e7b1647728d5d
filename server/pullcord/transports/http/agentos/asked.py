"""Reads AgentOS's requests into values of ours, and refuses by name what is not supported.

Nothing is started here.
"""

import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pullcord.run.errors import Violation
from pullcord.run.message import Part, guessed_type
from pullcord.run.record import Decision, DisconnectPolicy, RunSpec, is_id
from pullcord.transports.http.agentos.forms import Form

_MEDIA = {
    "images": "image/png",
    "audio": "audio/wav",
    "videos": "video/mp4",
    "input_files": "application/octet-stream",
}
"""Lists of media that the client sends as JSON, and what one is if it does not say."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that is asked for, or asked to go on."""

    spec: RunSpec
    stream: bool
    background: bool
    only_content: bool
    decisions: tuple[tuple[str, Decision], ...] = ()
    """Each with the run that asked, where the request names it."""


def read_start(form: Form, runnable: str) -> Asked:
    """A request for a run. Raises InvalidArgument."""
    stream = form.flag("stream", True)
    background = form.flag("background", False)
    only_content = not form.flag("stream_events", True)
    message = form.text("message")
    parts = form.files
    for name, kind in _MEDIA.items():
        for index, given in enumerate(form.value(name, list, [])):
            part = _media(given, kind)
            if part is None:
                why = "must have a url, or content in base64"
                form.wrong.append(Violation(f"{name}[{index}]", why))
            else:
                parts = (*parts, part)
    if not message and not parts:
        form.wrong.append(Violation("message", "is required"))
    run_id = form.text("run_id")
    spec = RunSpec(
        runnable,
        message,
        run_id=run_id,
        # Of a retry the session must be the same.
        session_id=form.text("session_id") or (run_id if is_id(run_id) else str(uuid.uuid4())),
        user_id=form.text("user_id"),
        labels=_labels(form.value("metadata", dict, {})),
        on_disconnect=DisconnectPolicy.CONTINUE if background else DisconnectPolicy.CANCEL,
        parts=parts,
    )
    form.ignore("files_metadata", "version", "files")
    form.done()
    return Asked(spec, stream, background, only_content)


def read_continue(form: Form) -> Asked:
    """A request that brings decisions. Raises InvalidArgument."""
    stream = form.flag("stream", True)
    background = form.flag("background", False)
    only_content = not form.flag("stream_events", True)
    decisions = []
    tools = [("tools", tool) for tool in form.value("tools", list, [])]
    tools += [("requirements", one) for one in form.value("requirements", list, [])]
    for step in form.value("step_requirements", list, []):
        inner = step.get("executor_requirements") if isinstance(step, dict) else None
        if isinstance(inner, list):
            tools += [("step_requirements", one) for one in inner]
        else:
            why = "must have objects with executor_requirements"
            form.wrong.append(Violation("step_requirements", why))
    for name, tool in tools:
        if not isinstance(tool, dict):
            form.wrong.append(Violation(name, "must have objects"))
        elif (decision := _decision(tool)) is not None:
            decisions.append((_asker(tool), decision))
    spec = RunSpec("", session_id=form.text("session_id"))
    form.ignore("user_id", "version")
    form.done()
    return Asked(spec, stream, background, only_content, tuple(decisions))


def _decision(given: Mapping[str, Any]) -> Decision | None:
    """The decision about one tool execution, or a requirement around one; None: none."""
    inner = given.get("tool_execution")
    tool = inner if isinstance(inner, dict) else given
    id = str(tool.get("tool_call_id") or "")
    confirmed = tool.get("confirmed")
    if confirmed is None:
        confirmed = given.get("confirmation")
    result = given.get("external_execution_result") or tool.get("result")
    note = str(tool.get("confirmation_note") or given.get("confirmation_note") or "")
    if result is not None:
        return Decision(id, True, answer=result if isinstance(result, str) else json.dumps(result))
    if isinstance(confirmed, bool):
        return Decision(id, confirmed, note=note)
    return None


def _asker(given: Mapping[str, Any]) -> str:
    """The child run whose call it is, as the client had it from us; empty: it does not say."""
    inner = given.get("tool_execution")
    tool = inner if isinstance(inner, dict) else given
    return str(tool.get("child_run_id") or given.get("member_run_id") or "")


def _labels(metadata: Mapping[str, Any]) -> dict[str, str]:
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}


def _media(given: Any, kind: str) -> Part | None:
    """One image, sound, film or file, by its address or in base64."""
    if not isinstance(given, dict):
        return None
    name = str(given.get("filename") or given.get("name") or "")
    url, content = given.get("url"), given.get("content")
    said = given.get("mime_type")
    if isinstance(url, str) and url:
        told = said if isinstance(said, str) else guessed_type(url.partition("?")[0])
        return Part(uri=url, media_type=told or kind, name=name)
    if not isinstance(content, str) or not content:
        return None
    told = said if isinstance(said, str) else guessed_type(name)
    try:
        return Part(
            data=base64.b64decode(content, validate=True), media_type=told or kind, name=name
        )
    except (binascii.Error, ValueError):
        return None
