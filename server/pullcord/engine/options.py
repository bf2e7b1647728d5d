"""The engine's bounds, each with the answer that is given when it is reached.

A frozen value that the composition root fills, from the environment or not at all. Nothing below
reads the environment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pullcord.run.message import PartBounds

MIB = 1024 * 1024
MAX_PARTS_BYTES = 32 * MIB
"""The most that `max_parts_bytes` may be: a run's parts must fit every message they travel in."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Bounds and waits. Times are seconds, sizes are bytes."""

    max_live_runs: int = 10_000
    """Runs that have not ended, and those abandoned but still at work. More: SERVER_BUSY."""
    max_runs_beneath: int = 1000
    """Live children of one run, at any depth. More: ServerBusy in its code."""
    max_depth: int = 32
    """The most levels of a tree of runs. Deeper: InvalidArgument in its code."""
    workers: int = 32
    """Threads for sync runs."""
    worker_queue: int = 10_000
    """Sync runs that wait for a thread, PENDING. More: SERVER_BUSY."""
    tool_workers: int = 256
    """Threads for sync tools and `ctx.in_thread`. More calls wait, and can be cancelled."""
    max_run_loops: int = 8
    """Event loops for async runs. A second one is made only when all others are blocked."""
    max_input_bytes: int = 1 * MIB
    """A run's text, and again its data. More: INVALID_ARGUMENT."""
    max_parts: int = 1000
    """Parts of a run, those of its messages included. More: INVALID_ARGUMENT."""
    max_part_bytes: int = 4 * MIB
    """One part: a file, or a text. More: INVALID_ARGUMENT."""
    max_parts_bytes: int = 8 * MIB
    """All parts of a run together. More: INVALID_ARGUMENT. At most 32 MiB."""
    max_output_bytes: int = 2 * MIB
    """A run's text. Reached: the run ends with cause BUDGET, limit `output_bytes`, and keeps that.
    Small enough for every gRPC client's default message limit of 4 MiB."""
    max_data_bytes: int = 256 * 1024
    """An event's data, and a run's output_data. More: ValueError in the run's code."""
    max_log_bytes: int = 4 * MIB
    """One run's events. More: the oldest are trimmed; who misses them gets a gap and a snapshot."""
    max_log_records: int = 20_000
    """Likewise, counted in messages."""
    max_ledger: int = 256
    """Tool calls that a run lists. More: the oldest ended ones are dropped,
    or the oldest where none has ended."""
    retention: float = 3600.0
    """Seconds for which an ended run is kept."""
    retention_of_tenants: Mapping[str, float] = field(default_factory=dict)
    """Likewise, by tenant, instead of that: `{"acme": 86400}`."""
    retention_of_runnables: Mapping[str, float] = field(default_factory=dict)
    """Likewise, by a runnable's full name. Where both name a run's, the shorter one holds."""
    max_finished_runs: int = 10_000
    """Ended runs kept. More: the oldest are forgotten."""
    max_finished_bytes: int = 256 * MIB
    """Their logs, together. More: the oldest runs are forgotten."""
    tombstone_ttl: float = 600.0
    """Seconds for which a cancel waits for a run that has not come."""
    max_tombstones: int = 100_000
    """Cancels that wait so. More: SERVER_BUSY."""
    lease: float = 30.0
    """Seconds for which a run outlives its last watcher under LEASE, unless its spec says."""
    grace_period: float = 5.0
    """Seconds that work which a GRACEFUL cancel does not interrupt may take, unless it says."""
    abandon_after: float = 2.0
    """Seconds after IMMEDIATE until a run that still does not stop is abandoned."""
    stall_after: float = 0.5
    """Seconds that a run may block its event loop before that is reported, and a cancel of another
    run there stops waiting for the loop."""
    max_timeout: float | None = None
    """The longest a run may take, whatever its spec says."""
    max_pending: float = 600.0
    """Seconds that a run may wait to begin. Longer: cause BUDGET, limit `max_pending`."""
    max_pause: float = 7 * 24 * 3600.0
    """Seconds that a run may wait for a decision. Longer: cause BUDGET, limit `max_pause`."""
    max_continuation_bytes: int = 4 * MIB
    """Bytes that a paused run may hand over to resume elsewhere. More: its pause is lost with its
    process."""

    def retention_for(self, tenant: str, runnable: str) -> float:
        """Seconds for which an ended run of this tenant and runnable is kept."""
        of_tenant = self.retention_of_tenants.get(tenant)
        of_runnable = self.retention_of_runnables.get(runnable)
        named = [kept for kept in (of_tenant, of_runnable) if kept is not None]
        return min(named, default=self.retention)

    @property
    def part_bounds(self) -> PartBounds:
        """The bounds of a run's parts."""
        return PartBounds(self.max_parts, self.max_part_bytes, self.max_parts_bytes)
