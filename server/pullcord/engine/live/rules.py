"""The bounds of one run: those that its caller asked for, within those of the engine.

Frozen values. What happens when a bound is reached is the machine's decision.
"""

from dataclasses import dataclass

from pullcord.engine.options import EngineOptions
from pullcord.run.usage import Limits


@dataclass(frozen=True, slots=True)
class Rules:
    """Times are seconds."""

    limits: Limits
    options: EngineOptions

    @property
    def timeout(self) -> float | None:
        """How long the run's code may take."""
        asked, most = self.limits.timeout, self.options.max_timeout
        return min(asked, most) if asked is not None and most is not None else asked or most

    @property
    def longest_wait(self) -> tuple[float, str]:
        """How long the run may wait to begin, and the limit that says so.

        A caller who allows so many seconds for the work does not want it to begin later than that.
        """
        longest = (self.options.max_pending, "max_pending")
        return longest if self.timeout is None else min(longest, (self.timeout, "timeout"))
