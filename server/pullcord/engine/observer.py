"""The port through which others count, log and trace what an engine does.

An observer is told facts and decides nothing. Its calls are made by whichever thread has made the
fact, some of them by the event loop that answers callers.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from pullcord.run.events import StepCompleted, StepStarted
from pullcord.run.model_call import ModelCall
from pullcord.run.record import Run
from pullcord.run.scope import Scope

Path = tuple[str, ...]
"""Ids of the steps between a run and something within it."""


class Observer(Protocol):
    """Receives what operators count and read. Quick, and never raises."""

    def run_entered(self, run: Run, path: Path, trace: Mapping[str, str]) -> Mapping[str, str]:
        """A run can be found, and its code may begin at once. `run_started` follows, or
        `run_withdrawn`. Returns what carries the run's trace to another process.

        `path` leads from its parent to it. `trace` is what was returned in the process that has
        handed the run over to this one; empty: none has.
        """

    def within(self, scope: Scope, run_id: str) -> AbstractContextManager[object]:
        """Code that is started in the block belongs to this run's trace."""

    def run_started(self, run: Run) -> None:
        """A run was admitted."""

    def run_withdrawn(self, scope: Scope, run_id: str) -> None:
        """A run that had entered was refused after all."""

    def run_ended(self, run: Run) -> None:
        """A run has its terminal event."""

    def run_lost(self, run: Run) -> None:
        """A run of a process that is gone was ended here, without any other call about it."""

    def run_spoke(self, run: Run, first_text_time: float) -> None:
        """When a run that has ended made its first text, if it made any and that is still known."""

    def run_handed_over(self, run: Run) -> None:
        """A run goes on in another process; this one hears nothing more of it."""

    def run_refused(self, reason: str) -> None:
        """A run was not admitted."""

    def run_abandoned(self, run: Run, stack: str) -> None:
        """A run did not stop in time; `stack` is where its thread is, if known."""

    def step_began(self, scope: Scope, run_id: str, path: Path, step: StepStarted) -> None:
        """A step of a run begins, just now."""

    def step_ended(self, scope: Scope, run_id: str, path: Path, step: StepCompleted) -> None:
        """A step of a run has ended, just now."""

    def model_called(self, scope: Scope, run_id: str, call: ModelCall) -> None:
        """A call of a model has ended, just now, however it ended."""

    def loop_stalled(self, run_id: str, seconds: float, stack: str) -> None:
        """A run blocks its event loop; `run_id` is empty where it is not known whose code does."""


class SilentObserver:
    """Does nothing."""

    def run_entered(self, run: Run, path: Path, trace: Mapping[str, str]) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def within(self, scope: Scope, run_id: str) -> AbstractContextManager[object]:
        """Nothing."""
        return nullcontext()

    def run_started(self, run: Run) -> None:
        """Nothing."""

    def run_withdrawn(self, scope: Scope, run_id: str) -> None:
        """Nothing."""

    def run_ended(self, run: Run) -> None:
        """Nothing."""

    def run_lost(self, run: Run) -> None:
        """Nothing."""

    def run_spoke(self, run: Run, first_text_time: float) -> None:
        """Nothing."""

    def run_handed_over(self, run: Run) -> None:
        """Nothing."""

    def run_refused(self, reason: str) -> None:
        """Nothing."""

    def run_abandoned(self, run: Run, stack: str) -> None:
        """Nothing."""

    def step_began(self, scope: Scope, run_id: str, path: Path, step: StepStarted) -> None:
        """Nothing."""

    def step_ended(self, scope: Scope, run_id: str, path: Path, step: StepCompleted) -> None:
        """Nothing."""

    def model_called(self, scope: Scope, run_id: str, call: ModelCall) -> None:
        """Nothing."""

    def loop_stalled(self, run_id: str, seconds: float, stack: str) -> None:
        """Nothing."""
