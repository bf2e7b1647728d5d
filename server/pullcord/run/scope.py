"""Whose runs: the scope that a run belongs to, and the reach of a look at many.

Values only. Which scope a caller has, and how far it may look, is not decided here.
"""

from typing import NamedTuple


class Scope(NamedTuple):
    """Whose a run is. The same run_id in two scopes names two runs."""

    tenant: str = "default"
    owner: str = "local"


LOCAL = Scope()
"""The scope of runs in a program of its own, and of callers that nobody has to verify."""


class Reach(NamedTuple):
    """Whose runs a look at many finds. Empty fields: anybody's."""

    tenant: str = ""
    owner: str = ""

    def covers(self, scope: Scope) -> bool:
        """Whether the runs of this scope are found."""
        return self.tenant in ("", scope.tenant) and self.owner in ("", scope.owner)


EVERYBODY = Reach()
"""Every run of every tenant."""
