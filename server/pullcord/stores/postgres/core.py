"""What the verbs of one store share: its connections, its incarnation, and small conversions.

What a verb does is in the modules beside this one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg

from pullcord.engine.options import EngineOptions
from pullcord.engine.ports import CancelRequest, EndedRun, Scope
from pullcord.run.cancel import CancelMode
from pullcord.run.record import Run, RunSpec
from pullcord.run.state import RunState
from pullcord.stores.postgres.connections import Connections
from pullcord.stores.rows import digest_of, spec_bytes, spec_of, stop_bytes, stop_of, stored_run

Key = tuple[str, str, str]
"""Tenant, owner and run_id."""

STATES = {
    RunState.PENDING: 1,
    RunState.RUNNING: 2,
    RunState.PAUSED: 3,
    RunState.CANCELLING: 4,
    RunState.COMPLETED: 5,
    RunState.CANCELLED: 6,
    RunState.FAILED: 7,
}
STATE_OF = {number: state for state, number in STATES.items()}
CANCELLED = STATES[RunState.CANCELLED]
ENDED = STATES[RunState.COMPLETED]
"""The first state that is an end."""

RESERVED = 256
"""Numbers that a new run may show before more are reserved."""


@dataclass(slots=True)
class Own:
    """A live run that this process executes."""

    id: int
    reserved: int
    """As far as is known here; at least that many are."""


@dataclass(slots=True)
class Core:
    """One store's own. Used on its loop only."""

    options: EngineOptions
    incarnation: str
    control: Connections
    append: Connections
    """A few: the parts of a large write are written at once, and nothing else is."""
    own: dict[Key, Own] = field(default_factory=dict)


def key_of(scope: Scope, run_id: str) -> Key:
    """The key of a row."""
    return scope.tenant, scope.owner, run_id


def labels_json(labels: Mapping[str, str]) -> str:
    """Labels as PostgreSQL can hold them: without the one character that it cannot."""
    return json.dumps(dict(labels)).replace("\\u0000", "\\ufffd")


def stop_columns(request: CancelRequest) -> tuple[bytes, float | None, bool]:
    """What is stored of a stop."""
    immediate = request.cancellation.mode is CancelMode.IMMEDIATE
    return stop_bytes(request), request.grace_period, immediate


def stop_in(row: asyncpg.Record) -> CancelRequest | None:
    """The stop that stands in a row."""
    if row["stop"] is None:
        return None
    request = stop_of(row["stop"], row["stop_grace"])
    if row["stop_now"]:
        return CancelRequest(request.cancellation.hastened(), request.grace_period)
    return request


def run_in(row: asyncpg.Record, output: bytes | None = None) -> Run:
    """The run of an ended row; its output where that was read, too."""
    run = stored_run(row["record"])
    return run if output is None else replace(run, output=output.decode(errors="surrogatepass"))


def ended_in(row: asyncpg.Record) -> EndedRun:
    """An ended row."""
    return EndedRun(
        spec_of(row["spec"]), run_in(row, row["output"]), row["deliver_time"], row["decided"]
    )


def spec_columns(scope: Scope, spec: RunSpec, parent_run_id: str) -> tuple[Any, ...]:
    """What every row of a run begins with, up to the labels."""
    return (
        scope.tenant,
        scope.owner,
        spec.run_id,
        spec_bytes(spec),
        digest_of(spec),
        spec.session_id,
        spec.user_id,
        spec.runnable,
        parent_run_id,
        labels_json(spec.labels),
    )
