"""Figures as a table for people. Nothing is computed here."""

from collections.abc import Mapping

from rich.markup import escape
from rich.table import Table

from tests.bench.figures import Figure, Spread


def heading(machine: Mapping[str, object]) -> str:
    """What was measured on."""
    return ", ".join(f"{name} {value}" for name, value in machine.items())


def table(title: str, figures: list[Figure]) -> Table:
    """Medians, with the lowest and highest round in brackets."""
    made = Table(title=title, title_justify="left")
    made.add_column("figure", overflow="fold")
    for column in ("baseline", "product", "ratio", "goal"):
        made.add_column(column, justify="right", overflow="fold")
    made.add_column("note", overflow="fold")
    for figure in figures:
        name = f"{figure.name} ({figure.unit})" if figure.unit else figure.name
        made.add_row(
            name,
            spread(figure.baseline),
            spread(figure.product),
            spread(figure.ratio) + (" × less" if figure.says_less else ""),
            _goal(figure),
            escape(figure.note),
        )
    return made


def spread(values: Spread | None) -> str:
    """The median, and the lowest and highest where they differ."""
    if values is None:
        return ""
    if values.low == values.high:
        return number(values.median)
    return f"{number(values.median)} ({number(values.low)}–{number(values.high)})"


def number(value: float) -> str:
    """Three digits, or all of a whole number."""
    size = abs(value)
    digits = 0 if size >= 100 or size == int(size) else 1 if size >= 10 else 2
    return f"{value:,.{digits}f}"


def _goal(figure: Figure) -> str:
    if figure.goal is None:
        return ""
    return f"{figure.goal.words} {'[green]met' if figure.is_met else '[red]missed'}"
