"""Numbers of several rounds made into figures: medians, spreads, ratios, and the goals beside them.

How a number was measured is not known here, nor how a figure is shown.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds came to."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(min(values), median(values), max(values))


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound that a median is to keep."""

    limit: float
    at_most: bool

    @property
    def words(self) -> str:
        """The bound, for people."""
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}"

    def is_met(self, value: float) -> bool:
        """Whether a median keeps it."""
        return value <= self.limit if self.at_most else value >= self.limit

    def times_better(self, value: float) -> float:
        """1: just so; more is better. A bound of 0 is kept without end, or missed without end."""
        if value <= 0 or self.limit == 0:
            return math.inf if self.is_met(value) else 0.0
        return self.limit / value if self.at_most else value / self.limit


def at_most(limit: float) -> Goal:
    return Goal(limit, at_most=True)


def at_least(limit: float) -> Goal:
    return Goal(limit, at_most=False)


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. A goal is for the ratio, or without a baseline for the product.

    Without a product either there is only the note, which says why."""

    name: str
    unit: str
    product: Spread | None = None
    baseline: Spread | None = None
    ratio: Spread | None = None
    goal: Goal | None = None
    note: str = ""
    says_less: bool = False
    """The ratio is of the baseline to the product: how many times less the product takes."""

    @property
    def is_met(self) -> bool | None:
        """None: there is no goal."""
        judged = self.ratio or self.product
        return None if self.goal is None or judged is None else self.goal.is_met(judged.median)

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        spreads = {
            name: asdict(spread)
            for name in ("baseline", "product", "ratio")
            if (spread := getattr(self, name)) is not None
        }
        goal = {"goal": self.goal.words, "is_met": self.is_met} if self.goal else {}
        less = {"says_less": True} if self.says_less else {}
        return {"name": self.name, "unit": self.unit, **spreads, **less, **goal, "note": self.note}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Figure":
        """From what `plain` made of it."""
        spreads = {
            name: Spread(**plain[name])
            for name in ("baseline", "product", "ratio")
            if name in plain
        }
        goal = None
        if "goal" in plain:
            sign, limit = plain["goal"].split()
            goal = Goal(float(limit), at_most=sign == "≤")
        less = plain.get("says_less", False)
        return cls(
            plain["name"], plain["unit"], **spreads, goal=goal, note=plain["note"], says_less=less
        )


@dataclass(slots=True)
class Series:
    """One figure in the making: a pair of numbers a round, whose ratio is the round's."""

    name: str
    unit: str
    goal: Goal | None = None
    note: str = ""
    says_less: bool = False
    products: list[float] = field(default_factory=list)
    baselines: list[float] = field(default_factory=list)

    def add(self, product: float, baseline: float | None = None) -> None:
        self.products.append(product)
        if baseline is not None:
            self.baselines.append(baseline)

    def figure(self) -> Figure:
        ratio = None
        if self.baselines:
            pairs = zip(self.products, self.baselines, strict=True)
            ratios = [product / baseline for product, baseline in pairs]
            ratio = Spread.of([1 / ratio for ratio in ratios] if self.says_less else ratios)
        baseline = Spread.of(self.baselines) if self.baselines else None
        product = Spread.of(self.products)
        return Figure(
            self.name, self.unit, product, baseline, ratio, self.goal, self.note, self.says_less
        )


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
