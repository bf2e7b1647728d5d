"""The caller of a verb: on whose behalf something is asked, until when, and within which trace.

Transports make one of each call. Whether a caller may do what is asked is not decided here.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from pullcord.run.principal import NOBODY_VERIFIED, Principal


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller, as the transport sees it."""

    claim: str = ""
    """The name that the caller gave itself; nobody has checked it. Empty: it gave none."""
    peer: str = ""
    """The address the call came from; empty: the call came from this process."""
    deadline: float | None = None
    """When the caller takes no answer any more, on time.monotonic's scale; None: it waits."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """The headers of the caller's trace, such as `traceparent`; empty: there is none."""
    principal: Principal = NOBODY_VERIFIED
    """The verified identity of the caller."""

    @property
    def time_left(self) -> float | None:
        """Seconds until its deadline, 0 if that has passed; None: it has none."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    @property
    def name(self) -> str:
        """The actor's name in receipts and events: never a claim, if somebody was verified."""
        if self.principal.is_local:
            return self.claim or self.peer
        return self.principal.subject

    @property
    def unchecked_name(self) -> str:
        """The name that a verified caller claims in addition; empty: none."""
        return "" if self.principal.is_local or self.claim == self.name else self.claim
