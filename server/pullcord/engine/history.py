"""The earlier runs of a session, as a new run of it reads them."""

from dataclasses import replace

from pullcord.engine.ports import RunStore
from pullcord.run.record import Run, RunSpec
from pullcord.run.scope import Scope

_MAX_RUNS = 1000
"""The last ones of the session. No model takes more."""


def history_of(store: RunStore, scope: Scope, spec: RunSpec, *, max_bytes: int) -> list[Run]:
    """The runs that a run of this spec follows, the latest with the data of what they were given.

    Stores keep that data with the spec. As much of it is read as one run may be given.
    """
    if not spec.session_id:
        return []
    runs = store.history(scope, spec.session_id, spec.runnable, _MAX_RUNS)
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
