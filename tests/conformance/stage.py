"""Where scenarios are played: one server, and the drivers of all languages.

It owns them, and closes them. What a scenario does is `play`'s business.
"""

import contextlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pullcord.run.events import SourceKind

from tests.conformance.drivers import Driver, DriverError, Drivers
from tests.conformance.languages import command, partner
from tests.conformance.matrix import Result
from tests.conformance.play import play
from tests.conformance.runnables import Script, gate
from tests.conformance.scenario import Scenario, load
from tests.conformance.server import Apart, make_server
from tests.identity.callers import guarded

_FIRST = next(scenario for scenario in load() if scenario.name == "run-to-the-end")


class Stage:
    """Use it in `with`. `present` are the languages that can play; `target` is another's server.

    `in_process`: the suite's own server executes runs itself, and not in a worker.
    """

    def __init__(
        self, present: Sequence[str], target: str | None = None, *, in_process: bool = False
    ) -> None:
        self.present = present
        self._stack = contextlib.ExitStack()
        self._web = ""
        if target is None:
            server = make_server(in_process=in_process)
            target = self._stack.enter_context(server)
            self._web = server.http_url.removeprefix("http://")
        self._address = target
        self._drivers = self._stack.enter_context(Drivers(command))
        self._others = self._stack.enter_context(Drivers(command))
        self._warm: set[str] = set()
        self._made_guarded = ""
        self._made_apart: Apart | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, scenario: Scenario, language: str) -> Result:
        """Plays one scenario in one language."""
        if language not in self._warm:
            # A build, and a cold runtime's first call, may take longer than a scenario's deadlines.
            self._warm.add(language)
            for drivers, who in (self._drivers, language), (self._others, self._partner(language)):
                with contextlib.suppress(DriverError):  # it will be said of what is played
                    play(_FIRST, drivers.get(who), self._address, _nobody, web=self._web)
        began = time.monotonic()
        try:
            found = play(
                scenario,
                self._drivers.get(language),
                self._guarded() if scenario.guarded else self._address,
                lambda: self._others.get(self._partner(language)),
                self._apart() if scenario.apart else None,
                "" if scenario.guarded else self._web,
            )
        except DriverError as error:
            found = [str(error)]
        return Result(found, time.monotonic() - began)

    def _guarded(self) -> str:
        """The address of a server that knows its callers."""
        if not self._made_guarded:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
            agents = [gate, Script(SourceKind.AGENT, name="Script")]
            self._made_guarded = self._stack.enter_context(guarded(folder, *agents)).address
        return self._made_guarded

    def _apart(self) -> Apart:
        if self._made_apart is None:
            self._made_apart = self._stack.enter_context(Apart())
        return self._made_apart

    def _partner(self, language: str) -> str:
        return partner(language, self.present)


def _nobody() -> Driver:
    raise AssertionError("the first scenario has one driver")
