"""The audit of who did what: one event for each start, stop, decision and refusal.

A port. Where the events go is decided elsewhere. An event holds ids, never an input, an output, a
reason or a token.
"""

from typing import Protocol

from pullcord.run.caller import Caller


class Audit(Protocol):
    """Receives events. Quick, and never raises."""

    def record(
        self, action: str, outcome: str, caller: Caller, *, run_id: str = "", detail: str = ""
    ) -> None:
        """Something was done, or refused.

        Args:
            action: such as `run.start`, `run.cancel`, `run.token`, `run.continue`, `auth.refused`.
            outcome: `ok`, or the reason of the refusal.
            caller: who asked.
            run_id: of the run, if one is meant.
            detail: a name, such as the runnable's or a quota's.
        """


class NoAudit:
    """Does nothing."""

    def record(
        self, action: str, outcome: str, caller: Caller, *, run_id: str = "", detail: str = ""
    ) -> None:
        """Nothing."""
