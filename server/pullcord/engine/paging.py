"""Pages of a list of runs: the order, and the token that says where the next page begins.

A token names a place, not a copy of the list: runs that come and go between two pages neither
shift nor repeat the others.
"""

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

from pullcord.engine.ports import Age
from pullcord.run.errors import InvalidArgument, Violation
from pullcord.run.record import Run, RunFilter
from pullcord.run.scope import Reach


@dataclass(frozen=True, slots=True)
class Page:
    """Runs, and the token of the next page; empty: this is the last."""

    runs: list[Run]
    next_page_token: str


def age(run: Run) -> Age:
    """The key that lists are sorted by, the newest last."""
    return run.create_time, run.run_id, run.tenant, run.owner


def make_token(last: Run, reach: Reach, matching: RunFilter) -> str:
    """The token of the page that comes after this run."""
    text = json.dumps([_digest(reach, matching), *age(last)], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def read_token(token: str, reach: Reach, matching: RunFilter) -> Age:
    """The age of the last run of the page before.

    Raises:
        InvalidArgument: it is no token of ours, or one of another list.
    """
    try:
        digest, create_time, run_id, tenant, owner = json.loads(
            base64.b64decode(token, altchars=b"-_", validate=True)
        )
        place = (float(create_time), str(run_id), str(tenant), str(owner))
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise InvalidArgument(Violation("page_token", "is no token of a list of runs")) from None
    if digest != _digest(reach, matching):
        raise InvalidArgument(Violation("page_token", "is of a list with another filter"))
    return place


def _digest(reach: Reach, matching: RunFilter) -> str:
    parts = [
        reach,
        matching.session_id,
        matching.user_id,
        matching.runnable,
        matching.parent_run_id,
        sorted(matching.states),
        sorted(matching.labels.items()),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
