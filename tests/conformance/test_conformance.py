"""Every client keeps every promise of scenarios/: one test for each language and scenario.

All play against a server that executes runs in a worker; Python's plays once more against one that
executes them itself. Both servers are spoken to by the same bytes, so one language is enough.
"""

from collections.abc import Callable, Iterator

import pytest

from tests.conformance.languages import LANGUAGES, missing
from tests.conformance.matrix import PAGE, promise
from tests.conformance.scenario import Scenario, load
from tests.conformance.stage import Stage
from tests.steady import steady
from tools.clients import is_ci

SCENARIOS = load()


@pytest.fixture(scope="session")
def stage() -> Iterator[Stage]:
    with Stage([language for language in LANGUAGES if not missing(language)]) as stage:
        yield stage


@pytest.fixture(scope="session")
def stage_in_process() -> Iterator[Stage]:
    with Stage(["python"], in_process=True) as stage:
        yield stage


@pytest.fixture(scope="session")
def present() -> Callable[[str], None]:
    def look(language: str) -> None:
        if words := missing(language):
            (pytest.fail if is_ci() else pytest.skip)(words)

    return look


@pytest.mark.timeout(900)  # the first test of a language builds its driver
@pytest.mark.parametrize(
    ("language", "scenario"),
    [
        pytest.param(language, scenario, id=f"{language}-{scenario.name}")
        for language in LANGUAGES
        for scenario in SCENARIOS
        if language not in scenario.not_in
    ],
)
@steady  # some scenarios have real deadlines
def test_promise(
    language: str, scenario: Scenario, stage: Stage, present: Callable[[str], None]
) -> None:
    """The language's client does what the scenario says."""
    present(language)
    _check(scenario, language, stage)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@steady
def test_promise_in_process(scenario: Scenario, stage_in_process: Stage) -> None:
    """The scenario is the same where the server executes runs in its own process."""
    _check(scenario, "python", stage_in_process, "--in-process ")


def _check(scenario: Scenario, language: str, stage: Stage, mode: str = "") -> None:
    result = stage.play(scenario, language)
    if result.faults:
        words = "\n".join(result.faults)
        again = f"python -m tests.conformance {mode}--only {language} --scenario {scenario.name}"
        pytest.fail(f"{scenario.says}\n{words}\nTo try again: {again}", pytrace=False)


def test_every_promise_is_told() -> None:
    """docs/clients.md has the whole matrix; else: make conformance ARGS=--write."""
    page = PAGE.read_text()
    assert f"| Promise | {' | '.join(LANGUAGES)} |" in page
    told = [line for line in page.splitlines() if line.endswith("✓ |")]
    assert [line.split(" | ")[0] for line in told] == [f"| {promise(s)}" for s in SCENARIOS]
    assert "✗" not in page
