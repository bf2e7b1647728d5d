"""The figures in docs/performance.md: a table between its markers, and the drawing beside it.

What the page says of them is written by hand.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.plot import plot
from tests.bench.report import heading, spread

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
DRAWING = PAGE.with_suffix(".svg")
_BLOCK = re.compile(r"(<!-- bench -->\n).*?(<!-- end -->)", re.DOTALL)


def write(found: Mapping[str, list[Figure]], machine: Mapping[str, object]) -> None:
    """Raises ValueError where the page has no markers."""
    page = PAGE.read_text(encoding="utf-8")
    if not _BLOCK.search(page):
        raise ValueError(f"{PAGE} has no <!-- bench --> and <!-- end -->")
    told = markdown(found, machine)
    new = _BLOCK.sub(lambda block: f"{block[1]}{told}{block[2]}", page)
    PAGE.write_text(new, encoding="utf-8")
    with_goals = [figure for made in found.values() for figure in made if figure.goal]
    DRAWING.write_text(plot(with_goals, heading(machine)), encoding="utf-8")


def markdown(found: Mapping[str, list[Figure]], machine: Mapping[str, object]) -> str:
    """A heading, and a table for each benchmark."""
    lines = [f"{heading(machine)}. Medians, with the lowest and highest round.", ""]
    for name, figures in found.items():
        lines += [f"**{name}**", "", "| figure | baseline | Pullcord | ratio | goal | |"]
        lines += ["| --- | --: | --: | --: | --- | --- |", *map(_row, figures), ""]
    return "\n".join(lines)


def _row(figure: Figure) -> str:
    name = f"{figure.name}, {figure.unit}" if figure.unit else figure.name
    ratio = spread(figure.ratio) + (" × less" if figure.says_less else "")
    goal = ""
    if figure.goal is not None:
        goal = f"{figure.goal.words} {'met' if figure.is_met else '**missed**'}"
    cells = (name, spread(figure.baseline), spread(figure.product), ratio, goal, figure.note)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
