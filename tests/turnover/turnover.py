"""Runs come, end and expire at a steady rate: what a store takes on its disk must stay flat.

One seed makes one order of runs and sizes. When rows go is the store's business, and when their
room is used again, SQLite's and PostgreSQL's.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from pullcord.engine.clock import Clock
from pullcord.engine.ports import LOCAL, RunStore

from tests.contracts.test_durable_stores import Live, write

GROWN = 1.3
"""What the second half may take at most, of the most that was taken before."""


@dataclass
class Turnover:
    """One store, and what it took after each round, by table or file."""

    store: RunStore
    clock: Clock
    measure: Callable[[], dict[str, int]]
    seed: int
    sizes: list[dict[str, int]] = field(default_factory=list)
    runs: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def insert(self, runs: int) -> None:
        """So many runs begin, say something, and end."""
        for _ in range(runs):
            self.runs += 1
            live = Live(f"r{self.runs}")
            self.store.admit(LOCAL, live.spec)
            written = 0
            for _ in range(self._random.randint(1, 4)):
                for _ in range(self._random.randint(1, 10)):
                    live.make("x" * self._random.randint(10, 500))
                written = write(self.store, live.entry(written)).last_sequence
            assert self.store.finish([live.end(self.clock.time(), written)]) == [None]

    def look(self) -> None:
        """How much is taken now."""
        self.sizes.append(self.measure())

    def grown(self) -> dict[str, float]:
        """By how much what is taken has grown, from the second quarter of all looks to the rest."""
        quarter = len(self.sizes) // 4
        before, after = self.sizes[quarter : 2 * quarter], self.sizes[2 * quarter :]
        return {
            name: max(size[name] for size in after) / max(1, *(size[name] for size in before))
            for name in self.sizes[0]
        }
