"""The steps of one run that have begun and not ended, as its events say.

Code ends its steps itself. Those of a run that is stopped while it waits without code are ended
here. Rules only.
"""

from collections.abc import Iterable, Mapping

from pullcord.engine.live.carried import OpenStep
from pullcord.engine.live.effects import Append
from pullcord.run.events import Payload, Source, StepCompleted, StepStarted
from pullcord.run.record import Run
from pullcord.run.state import RunState

_MOST = 1024
"""More are not remembered: code that ends none of its steps must not fill the memory."""


class Steps:
    """The open steps of one run, by their path."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._open: dict[tuple[str, ...], OpenStep] = {}

    def hear(self, payload: Payload, source: Source | None) -> None:
        """An event of the run. Those of its children, and of other servers' runs, are not its."""
        if source is None or source.run_id != self._run_id:
            return
        if isinstance(payload, StepStarted) and len(self._open) < _MOST:
            self._open[source.path] = OpenStep(source)
        elif isinstance(payload, StepCompleted):
            self._open.pop(source.path, None)

    def is_done_by(self, path: tuple[str, ...], run_id: str) -> None:
        """The step of this path, if there is one, is done by this child."""
        if (step := self._open.get(path)) is not None:
            self._open[path] = OpenStep(step.source, run_id)

    def take_up(self, steps: Iterable[OpenStep]) -> None:
        """Those that were open in a process that is gone."""
        self._open = {step.source.path: step for step in steps}

    def open(self) -> tuple[OpenStep, ...]:
        """Those that are open, in the order in which they began."""
        return tuple(self._open.values())

    def close(self, ended: Mapping[str, Run]) -> list[Append]:
        """The ends of all of them, inner ones first. `ended`: the children that have, by run_id."""
        steps = sorted(self._open.values(), key=lambda step: -len(step.source.path))
        self._open.clear()
        return [Append(_end(step.source, ended.get(step.run_id)), step.source) for step in steps]


def _end(step: Source, run: Run | None) -> StepCompleted:
    if run is None:
        return StepCompleted(step.id, step.name, RunState.CANCELLED)
    return StepCompleted(step.id, step.name, run.state, run.output, run.error)
