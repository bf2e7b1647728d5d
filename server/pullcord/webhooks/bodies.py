"""The body of a webhook: what has happened, and the run as GetRun has it, in JSON.

It is bounded: a run that is too large is sent without its texts, and says so.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from google.protobuf import json_format

from pullcord.engine.notices import Notice
from pullcord.run.record import Run
from pullcord.wire.run import run_message

ENDED, PAUSED = "run.ended", "run.paused"
EVENTS = (ENDED, PAUSED)
MAX_BODY = 256 * 1024
"""Bytes."""


def event_of(notice: Notice) -> str:
    """The type of the event."""
    return PAUSED if notice.question else ENDED


def body_of(notice: Notice, run: Run | None, more: Mapping[str, str]) -> bytes:
    """`run`: as it is kept; None: it is not, so that only its name and its state are sent. `more`
    is sent beside the run."""
    if run is None:
        scope = notice.scope
        bare = Run(notice.run_id, notice.runnable, notice.state)
        return _body(notice, replace(bare, tenant=scope.tenant, owner=scope.owner), more, cut=True)
    body = _body(notice, run, more)
    if len(body) > MAX_BODY:
        body = _body(notice, _without_texts(run), more, cut=True)
    if len(body) > MAX_BODY:
        body = _body(notice, replace(_without_texts(run), tool_calls=()), more, cut=True)
    return body


def _without_texts(run: Run) -> Run:
    calls = tuple(replace(call, arguments="", result="") for call in run.tool_calls)
    return replace(run, input="", output="", output_data=None, parts=(), tool_calls=calls)


def _body(notice: Notice, run: Run, more: Mapping[str, str], *, cut: bool = False) -> bytes:
    data: dict[str, Any] = {"run": json_format.MessageToDict(run_message(run)), **more}
    if cut:
        data["truncated"] = True
    said = {
        "type": event_of(notice),
        "timestamp": datetime.fromtimestamp(notice.note_time, UTC).isoformat(),
        "data": data,
    }
    return json.dumps(said, separators=(",", ":")).encode()
