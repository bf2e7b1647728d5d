"""`python -m tests.conformance`: plays every scenario with every client, and shows the matrix.

It starts the server and the drivers, and ends them. Its status is 0 where every client keeps every
promise.
"""

import argparse
import os
import sys
from collections.abc import Sequence

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")  # processes are started, not forked
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # lines that are cut are part of the play

from rich.console import Console

from tests.conformance import matrix
from tests.conformance.languages import LANGUAGES, missing
from tests.conformance.scenario import Scenario, load
from tests.conformance.stage import Stage
from tools.clients import is_ci


def main() -> None:
    """Plays what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--only", default="", help=f"languages, of {','.join(LANGUAGES)}")
    parser.add_argument("--scenario", default="", help="names, or parts of names or of themes")
    parser.add_argument("--target", help="another server, see tests/conformance/server.py")
    parser.add_argument("--list", action="store_true", help="only show what there is to play")
    parser.add_argument("--write", action="store_true", help="put the matrix into docs/clients.md")
    options = parser.parse_args()
    console = Console(highlight=False)
    scenarios = _chosen(load(), options.scenario.split(","))
    if not scenarios:
        parser.error(f"there is no scenario {options.scenario!r}; try --list")
    if options.list:
        for scenario in scenarios:
            console.print(f"[bold]{scenario.name}[/] {scenario.says}", soft_wrap=True)
        return
    languages = options.only.split(",") if options.only else list(LANGUAGES)
    for language in languages:
        if language not in LANGUAGES:
            parser.error(f"there is no client {language!r}; there are {', '.join(LANGUAGES)}")
    if options.write and (options.only or options.scenario):
        parser.error("--write takes the whole matrix")
    sys.exit(_show(console, scenarios, languages, options.target, options.write))


def _chosen(scenarios: list[Scenario], parts: Sequence[str]) -> list[Scenario]:
    return [s for s in scenarios if any(part in f"{s.theme} {s.name}" for part in parts)]


def _show(
    console: Console,
    scenarios: list[Scenario],
    languages: list[str],
    target: str | None,
    write: bool,
) -> int:
    """Plays, prints and writes; the exit status."""
    present = []
    failed = False
    for language in languages:
        if words := missing(language):
            console.print(f"[yellow]skipped[/]: {words}")
            failed = failed or is_ci()
        else:
            present.append(language)
    results = {}
    with Stage(present, target) as stage:
        for language in present:
            for scenario in scenarios:
                with console.status(f"{language} {scenario.name} …"):
                    results[language, scenario.name] = stage.play(scenario, language)
    console.print(matrix.table(scenarios, present, results))
    for words in matrix.faults(scenarios, results):
        console.print(words, soft_wrap=True)
        failed = True
    if write:
        matrix.write(matrix.markdown(scenarios, present, results))
    return int(failed)


if __name__ == "__main__":
    main()
