"""The suite notices what is wrong: a driver that lies fails, in words that say where."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.drivers import DriverError, Drivers
from tests.conformance.languages import LANGUAGES, partner
from tests.conformance.lying_driver import LIES
from tests.conformance.play import play
from tests.conformance.scenario import load
from tests.conformance.server import make_server

SCENARIOS = {scenario.name: scenario for scenario in load()}

NOTICED = {
    "doubles an event": ("run-to-the-end", "came after event 1"),
    "loses an event": ("run-to-the-end", "came after event 1"),
    "names a payload wrongly": ("run-to-the-end", "event 1 (custom) is a run_started"),
    "names another run": ("run-to-the-end", "answered run_id 'another'"),
    "cuts the text": ("run-to-the-end", "the output has 7 characters"),
    "cuts the output": ("run-to-the-end", "the output has 6 characters"),
    "shows a heartbeat": ("run-to-the-end", "a heartbeat"),
    "ends early": ("run-to-the-end", "the stream ended after content_delta"),
    "never ends": ("run-to-the-end", "was refused: {'kind': 'E'}"),
    "changes who asked": ("cancel-speaking", "cancellation.actor: is 'nobody'"),
    "changes a state": ("start-and-wait", "state: is 'FAILED'"),
    "changes a receipt": ("cancel-speaking", "accept_time: is not set"),
    "names an error wrongly": ("run-not-found", "error.kind: is 'CallFailed'"),
    "forgets an error": ("run-not-found", "should have been refused"),
    "does not leave": ("drop-leaves-the-call", "still holds the call"),
    "asks as somebody else": ("actor", "metadata.pullcord-actor: is 'somebody'"),
    "answers no object": ("run-to-the-end", "no JSON object"),
    "answers no message": ("run-to-the-end", "no Run in base64"),
    "dies": ("run-to-the-end", "has died; its last words:\nno more of this"),
}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with make_server() as address:
        yield address


@pytest.fixture(scope="module")
def drivers() -> Iterator[Drivers]:
    lying = [sys.executable, str(Path(__file__).with_name("lying_driver.py"))]
    with Drivers(lambda lie: [*lying, lie]) as drivers:
        yield drivers


@pytest.mark.parametrize("lie", NOTICED)
def test_a_lie_is_noticed(lie: str, drivers: Drivers, address: str) -> None:
    """A driver that lies in one way fails the scenario that is about it, in the right words."""
    scenario, words = NOTICED[lie]
    (fault,) = play(SCENARIOS[scenario], drivers.get(lie), address)
    assert words in fault


def test_all_lies_are_tried() -> None:
    """There is no lie that nobody tries."""
    assert {*NOTICED, "tells the truth"} == set(LIES)


@pytest.mark.parametrize("scenario", sorted({scenario for scenario, _ in NOTICED.values()}))
def test_the_truth_passes(scenario: str, drivers: Drivers, address: str) -> None:
    """The same driver passes the same scenarios where it tells the truth."""
    assert play(SCENARIOS[scenario], drivers.get("tells the truth"), address) == []


def test_a_driver_that_died_is_started_again(address: str, drivers: Drivers) -> None:
    """One scenario's dead driver costs the next one nothing."""
    assert play(SCENARIOS["run-to-the-end"], drivers.get("dies"), address)
    assert play(SCENARIOS["tool-calls"], drivers.get("dies"), address)[0].startswith("step 3, get")


def test_a_silent_driver_is_given_up(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that does not answer in time fails its scenario, and is ended."""
    monkeypatch.setattr("tests.conformance.drivers.PATIENCE", 0.1)
    silent = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with Drivers(lambda language: silent) as drivers:
        driver = drivers.get("silence")
        (fault,) = play(SCENARIOS["run-to-the-end"], driver, address)
        assert fault.startswith("the driver did not answer for 0.1 s")
        assert not driver.is_alive


def test_what_cannot_be_built_is_built_once() -> None:
    """A client that does not build fails every scenario, and is built for the first one only."""
    built = []

    def build(language: str) -> list[str]:
        built.append(language)
        raise DriverError("it does not build")

    with Drivers(build) as drivers:
        for _ in range(2):
            with pytest.raises(DriverError, match="it does not build"):
                drivers.get("klingon")
    assert built == ["klingon"]


@pytest.mark.parametrize("count", range(1, len(LANGUAGES) + 1))
def test_partners_go_round(count: int) -> None:
    """Of the languages that are here each plays the second part for one other."""
    present = list(LANGUAGES)[:count]
    assert sorted(partner(language, present) for language in present) == sorted(present)
