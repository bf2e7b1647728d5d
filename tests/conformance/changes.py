"""Reads the list of runs as it changes: the next change, or the first one that is as expected.

What holds for the events of a run is in `reading`.
"""

from collections.abc import Mapping
from typing import Any

from pullcord.v1 import run_service_pb2 as v1

from tests.conformance.drivers import Driver, decode
from tests.conformance.matching import differences
from tests.conformance.plain import plain
from tests.conformance.reading import Fault


class Changes:
    """A list that a driver follows."""

    def __init__(self, driver: Driver, number: int) -> None:
        self.number = number
        """The driver's number of the stream."""
        self._driver = driver

    def read(self, step: Mapping[str, Any]) -> dict[str, Any]:
        """The answer that the step asks for, as {"change": …} or {"error": …}. Raises Fault.

        A list that does not get there is ended by the driver's patience.
        """
        while True:
            answer = self._driver.ask("next", stream=self.number)
            if "error" in answer:
                return answer
            change = plain(decode(v1.WatchRunsResponse, answer.get("message")))
            if not (change.get("run") or change["caught_up"] or change["missed"]):
                raise Fault("a change was shown that says nothing")
            if step["change"] == "next" or not any(differences(step["expect"], change)):
                return {"change": change}
