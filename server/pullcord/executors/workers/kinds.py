"""The kinds of workers: whether runs share one, and what room each has. A run is given to a worker
of its kind. How many there are of each is for `staffing`.
"""

from typing import NamedTuple

from pullcord.run.resources import Resources


class Kind(NamedTuple):
    """What workers, and runs that need such ones, have in common."""

    exclusive: bool = False
    """Whether a run has the process for itself, and it ends with that."""
    resources: Resources | None = None
    """The room that it has, for one run at a time; None: nothing in particular, for any number."""

    @property
    def takes_one(self) -> bool:
        """Whether a worker has one run at a time."""
        return self.exclusive or self.resources is not None


SHARED = Kind()
"""What runs share that ask for nothing."""
ALONE = Kind(exclusive=True)
