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
    parser.add_argument(
        "--in-process", action="store_true", help="execute runs in the server, not in a worker"
    )
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
    if options.target and options.in_process:
        parser.error("--in-process is about the suite's own server, and --target names another")
    present = _present(console, languages)
    with Stage(present, options.target, in_process=options.in_process) as stage:
        failed = _show(console, stage, scenarios, options.write)
    sys.exit(failed or int(is_ci() and len(present) < len(languages)))


def _chosen(scenarios: list[Scenario], parts: Sequence[str]) -> list[Scenario]:
    return [s for s in scenarios if any(part in f"{s.theme} {s.name}" for part in parts)]


def _present(console: Console, languages: list[str]) -> list[str]:
    """The languages that can play; of the others it says what is missing."""
    present = []
    for language in languages:
        if words := missing(language):
            console.print(f"[yellow]skipped[/]: {words}")
        else:
            present.append(language)
    return present


def _show(console: Console, stage: Stage, scenarios: list[Scenario], write: bool) -> int:
    """Plays, prints and writes; the exit status."""
    results = {}
    for language in stage.present:
        for scenario in scenarios:
            if language in scenario.not_in:
                continue
            with console.status(f"{language} {scenario.name} …"):
                results[language, scenario.name] = stage.play(scenario, language)
    console.print(matrix.table(scenarios, stage.present, results))
    faults = list(matrix.faults(scenarios, results))
    for words in faults:
        console.print(words, soft_wrap=True)
    if write:
        matrix.write(matrix.markdown(scenarios, stage.present, results))
    return int(bool(faults))


if __name__ == "__main__":
    main()
