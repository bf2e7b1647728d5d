"""What work costs a server's processor: the control process, and beside it its workers.

The bare server has no workers, so that its whole cost stands against the control process's alone,
and against both together.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tests.bench.figures import Figure, Goal, Series
from tests.bench.process import Child


@dataclass(slots=True)
class Cost:
    """Seconds of processor time."""

    control: float = 0.0
    workers: float = 0.0


@contextmanager
def cost(child: Child) -> Iterator[Cost]:
    """What the block cost this server; known once it is left."""
    found = Cost()
    control, workers = child.cpu(), child.workers_cpu()
    yield found
    found.control = child.cpu() - control
    found.workers = child.workers_cpu() - workers


class Costs:
    """Two figures in the making: the control process, and that with its workers."""

    def __init__(
        self, what: str, control: Goal | None = None, together: Goal | None = None
    ) -> None:
        """`what` names the unit of work, such as `a message: custom events`."""
        self.control = Series(f"control process CPU {what}", "µs", control)
        self.together = Series(f"control and worker CPU {what}", "µs", together)

    def add(self, product: Cost, count: int, bare: Cost, bare_count: int) -> None:
        """A round: what so many pieces of work cost each."""
        baseline = bare.control / bare_count * 1e6
        self.control.add(product.control / count * 1e6, baseline)
        self.together.add((product.control + product.workers) / count * 1e6, baseline)

    def figures(self, note: str = "") -> list[Figure]:
        """The control process first."""
        self.control.note = self.together.note = note
        return [self.control.figure(), self.together.figure()]
