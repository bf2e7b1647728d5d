"""The requests about runs that exist: to follow, wait for, get, list, continue and cancel them.

Small frozen values, and the bounds of their fields. How they are read from a message is in `wire`;
starting a run is asked for by a `RunSpec`.
"""

from dataclasses import dataclass, field

from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.record import Decision, RunFilter
from pullcord.run.scope import EVERYBODY, Reach

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
DEFAULT_MAX_AFFECTED = 1000
MAX_PAGE_TOKEN_LENGTH = 1024
DEFAULT_TOKEN_LIFETIME = 15 * 60.0
MAX_TOKEN_LIFETIME = 24 * 3600.0
ASKED_CAUSES = frozenset({CancelCause.USER, CancelCause.PARENT})
"""Why a caller may stop a run; of the other causes only a server can know."""


@dataclass(frozen=True, slots=True)
class WatchRequest:
    """Asks for the events after one that was seen."""

    run_id: str
    after_sequence: int = 0
    whose: Reach = EVERYBODY
    """Whose run is meant, if several have one of this id that the caller may see."""


@dataclass(frozen=True, slots=True)
class WatchListRequest:
    """Asks for what is live and matches, and for every change from then on."""

    filter: RunFilter = field(default_factory=RunFilter)
    after: str = ""
    """The position of the last change seen; empty: none was."""
    whose: Reach = EVERYBODY


@dataclass(frozen=True, slots=True)
class RunTokenRequest:
    """Asks for a token for one run."""

    run_id: str
    lifetime: float = DEFAULT_TOKEN_LIFETIME
    """Seconds."""
    watch_only: bool = False
    whose: Reach = EVERYBODY


@dataclass(frozen=True, slots=True)
class GetRequest:
    """Asks for a run as it is now."""

    run_id: str
    whose: Reach = EVERYBODY


@dataclass(frozen=True, slots=True)
class WaitRequest:
    """Asks for a run once it has ended, or as it is after `timeout` seconds (None: no end)."""

    run_id: str
    timeout: float | None = None
    whose: Reach = EVERYBODY


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Asks for one run to be stopped. Times are seconds."""

    run_id: str
    reason: str = ""
    mode: CancelMode = CancelMode.GRACEFUL
    grace_period: float | None = None
    """None: the server's default. 0: at once."""
    wait: float = 0.0
    """Seconds that the answer may wait for the stop."""
    before_start: bool = False
    cause: CancelCause = CancelCause.USER
    """USER, or PARENT."""
    whose: Reach = EVERYBODY


@dataclass(frozen=True, slots=True)
class ContinueRequest:
    """Asks for a paused run to go on."""

    run_id: str
    decisions: tuple[Decision, ...]
    whose: Reach = EVERYBODY


@dataclass(frozen=True, slots=True)
class CancelManyRequest:
    """Asks for every live run to be stopped that the filter matches."""

    filter: RunFilter
    reason: str = ""
    mode: CancelMode = CancelMode.GRACEFUL
    validate_only: bool = False
    max_affected: int = DEFAULT_MAX_AFFECTED
    whose: Reach = EVERYBODY


@dataclass(frozen=True, slots=True)
class EraseRequest:
    """Asks for what is kept to be deleted, of the runs that match every field that is set."""

    user_id: str = ""
    session_id: str = ""
    whose: Reach = EVERYBODY
    validate_only: bool = False

    @property
    def filter(self) -> RunFilter:
        """Which runs of those are meant."""
        return RunFilter(session_id=self.session_id, user_id=self.user_id)

    def __str__(self) -> str:
        """The filter in words for a log."""
        tenant, owner = self.whose
        named = {
            "user_id": self.user_id,
            "session_id": self.session_id,
            "tenant": tenant,
            "owner": owner,
        }
        return " ".join(f"{name}={value}" for name, value in named.items() if value)


@dataclass(frozen=True, slots=True)
class ListRequest:
    """Asks for one page of runs, the newest first."""

    filter: RunFilter = field(default_factory=RunFilter)
    page_size: int = DEFAULT_PAGE_SIZE
    page_token: str = ""
    """Of the page before; what it says is its maker's business."""
    whose: Reach = EVERYBODY
