"""The matrix of scenarios and languages: for the terminal, and for docs/clients.md.

Results come from elsewhere; nothing is played here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from tests.conformance.scenario import Scenario

PAGE = Path(__file__).parents[2] / "docs" / "clients.md"
_BLOCK = re.compile(r"(<!-- conformance -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one scenario in one language."""

    faults: Sequence[str]
    """Empty: it passed."""
    seconds: float


Results = Mapping[tuple[str, str], Result]
"""By language and scenario's name."""


def table(scenarios: Sequence[Scenario], languages: Sequence[str], results: Results) -> Table:
    """The matrix in colour, with what each scenario promises."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    made.add_column("scenario", no_wrap=True)
    for language in languages:
        made.add_column(language, justify="center", no_wrap=True)
    theme = ""
    for scenario in scenarios:
        if scenario.theme != theme:
            theme = scenario.theme
            made.add_row(f"[bold]{theme}[/]")
        cells = [_cell(results.get((language, scenario.name))) for language in languages]
        made.add_row(f"  {scenario.name}", *cells)
    passed = {
        language: sum(
            not results[language, s.name].faults for s in scenarios if (language, s.name) in results
        )
        for language in languages
    }
    made.add_row("", *(f"{passed[language]}/{len(scenarios)}" for language in languages))
    return made


def _cell(result: Result | None) -> str:
    if result is None:
        return "[dim]–[/]"
    return "[bold red]✗[/]" if result.faults else "[green]✓[/]"


def faults(scenarios: Sequence[Scenario], results: Results) -> list[str]:
    """What differed, a paragraph each, in rich's markup."""
    promised = {scenario.name: scenario.says for scenario in scenarios}
    return [
        f"[bold red]{language} {name}[/]: {promised[name]}\n  " + escape("\n  ".join(result.faults))
        for (language, name), result in results.items()
        if result.faults
    ]


def markdown(scenarios: Sequence[Scenario], languages: Sequence[str], results: Results) -> str:
    """The matrix as docs/clients.md has it."""
    lines = [f"| Promise | {' | '.join(languages)} |", f"| --- |{' :-: |' * len(languages)}"]
    for scenario in scenarios:
        marks = [_mark(results.get((language, scenario.name))) for language in languages]
        lines.append(f"| {promise(scenario)} | {' | '.join(marks)} |")
    return "".join(f"{line}\n" for line in lines)


def promise(scenario: Scenario) -> str:
    """A scenario as docs/clients.md names it."""
    return f"{scenario.says} (`{scenario.name}`)"


def _mark(result: Result | None) -> str:
    if result is None:
        return "–"
    return "✗" if result.faults else "✓"


def write(text: str, page: Path = PAGE) -> None:
    """Puts the matrix between its markers. Raises ValueError where they are missing."""
    made, count = _BLOCK.subn(lambda m: f"{m[1]}{text}{m[2]}", page.read_text())
    if count != 1:
        raise ValueError(f"{page} has no <!-- conformance --> and <!-- end -->")
    page.write_text(made)
