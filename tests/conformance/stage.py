"""Where scenarios are played: one server, and the drivers of all languages.

It owns them, and closes them. What a scenario does is `play`'s business.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Self

from tests.conformance.drivers import DriverError, Drivers
from tests.conformance.languages import command, partner
from tests.conformance.matrix import Result
from tests.conformance.play import play
from tests.conformance.scenario import Scenario, load
from tests.conformance.server import make_server

_FIRST = next(scenario for scenario in load() if scenario.name == "run-to-the-end")


class Stage:
    """Use it in `with`. `present` are the languages that can play; `target` is another's server."""

    def __init__(self, present: Sequence[str], target: str | None = None) -> None:
        self._present = present
        self._stack = contextlib.ExitStack()
        self._address = target or self._stack.enter_context(make_server())
        self._drivers = self._stack.enter_context(Drivers(command))
        self._others = self._stack.enter_context(Drivers(command))
        self._warm: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, scenario: Scenario, language: str) -> Result:
        """Plays one scenario in one language."""
        if language not in self._warm:
            # A cold runtime may take seconds for its first call, and deadlines are for warm ones.
            self._warm.add(language)
            self.play(_FIRST, language)
        began = time.monotonic()
        try:
            found = play(
                scenario,
                self._drivers.get(language),
                self._address,
                lambda: self._others.get(partner(language, self._present)),
            )
        except DriverError as error:
            found = [str(error)]
        return Result(found, time.monotonic() - began)
