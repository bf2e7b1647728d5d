"""The earlier runs of a session, as a new run of it reads them."""

from collections.abc import Iterable
from dataclasses import replace

from pullcord.engine.directory import Directory
from pullcord.engine.ports import RunStore
from pullcord.run.errors import InvalidArgument, RunNotFound, Violation
from pullcord.run.record import Run, RunSpec
from pullcord.run.scope import Scope

_MAX_RUNS = 1000
"""The last ones of the session. No model takes more."""


def must_be_turn(directory: Directory, scope: Scope, spec: RunSpec) -> None:
    """Raises InvalidArgument if `retry_of` names no run whose turn this spec can replace."""
    if not spec.retry_of:
        return
    wrong = ""
    try:
        earlier = directory.find(scope, spec.retry_of).snapshot()
    except RunNotFound:
        wrong = "is unknown, or no longer kept"
    else:
        if earlier.session_id != spec.session_id:
            wrong = f"is no run of session {spec.session_id!r}"
        elif earlier.user_id != spec.user_id:
            wrong = f"is no run of user {spec.user_id!r}"
        elif earlier.runnable != spec.runnable:
            wrong = f"is a run of {earlier.runnable!r}, and not of {spec.runnable!r}"
    if wrong:
        words = f"names run {spec.retry_of!r}, which {wrong}"
        raise InvalidArgument(Violation("spec.retry_of", words))


def history_of(store: RunStore, scope: Scope, spec: RunSpec, *, max_bytes: int) -> list[Run]:
    """The runs that a run of this spec follows, the latest with the data of what they were given.

    Stores keep that data with the spec. As much of it is read as one run may be given.
    """
    if not spec.session_id:
        return []
    every = store.history(scope, spec.session_id, spec.user_id, spec.runnable, _MAX_RUNS)
    runs = _conversation(every, spec.retry_of)
    left = max_bytes
    for index in reversed(range(len(runs))):
        run = runs[index]
        found = store.find(scope, run.run_id) if run.parts and left > 0 else None
        parts = found.spec.parts if found is not None else ()
        left -= sum(part.size for part in parts)
        if left < 0 or not parts:
            parts = tuple(part.brief() for part in run.parts)
        runs[index] = replace(run, parts=parts)
    return runs


def _conversation(runs: Iterable[Run], retry_of: str) -> list[Run]:
    """The turns that a run follows, the oldest first.

    A run that replaces a turn stands in its place, and the turns after that are gone. Several may
    replace the same turn, one after the other.
    """
    turns: list[tuple[Run, set[str]]] = []  # each with the ids of all runs that stood there
    for run in runs:
        stood = _go_back(turns, run.retry_of)
        turns.append((run, stood | {run.run_id}))
    _go_back(turns, retry_of)
    return [run for run, _ in turns]


def _go_back(turns: list[tuple[Run, set[str]]], to: str) -> set[str]:
    """Removes that turn and all after it; the ids of the runs that stood there."""
    for index, (_, stood) in enumerate(turns):
        if to and to in stood:
            del turns[index:]
            return stood
    return set()
