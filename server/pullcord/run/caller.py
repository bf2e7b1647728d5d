"""The caller of a verb: on whose behalf something is asked, until when, and within which trace.

Transports make one of each call. Whether a caller may do what is asked is not decided here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever calls, as the transport sees it. A verified identity will be a field of its own."""

    actor: str = ""
    """The name that the caller gave; nobody has checked it. Empty: none was given."""
    peer: str = ""
    """The address the call came from; empty: the call came from this process."""
    deadline: float | None = None
    """Seconds from now after which the caller takes no answer; None: the caller waits."""
    trace: Mapping[str, str] = field(default_factory=dict)
    """What the caller's trace propagates, such as `traceparent`; empty: there is none."""

    @property
    def name(self) -> str:
        """Who asked, as receipts and events say it."""
        return self.actor or self.peer
