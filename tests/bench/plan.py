"""How much is measured: rounds and sizes, as the command line asks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """`--quick` shortens everything, for a look whether it works."""

    quick: bool = False
    runs: int = 20_000
    """Of the benchmark that does runs one after the other."""

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 5

    def scaled(self, count: int) -> int:
        return max(1, count // 10) if self.quick else count
