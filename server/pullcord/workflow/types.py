"""The values that steps, and functions that decide about steps, take and return."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pullcord.run.events import RunError, SourceKind
from pullcord.run.record import Run
from pullcord.run.runnable import Runnable
from pullcord.run.state import RunState

Path = tuple[str, ...]
"""Step ids from the workflow down."""


@dataclass(frozen=True, slots=True)
class Made:
    """The result of a step, as the next one gets it: text, and data if there is any."""

    content: str = ""
    """If only data was made, that as JSON."""
    data: Mapping[str, Any] | None = None
    is_own_input: bool = False
    """It is the workflow's own input, of which no step has made anything yet. A step that gets it
    gets the run's parts and messages, too."""

    @classmethod
    def of(cls, run: Run, runnable: Runnable) -> "Made":
        """The result of a step's run.

        The data of a workflow or team is the list of what its steps or members came to, which is
        nothing to go on with; that of a team with an `output_schema` is its answer.
        """
        is_list = runnable.kind is not SourceKind.AGENT and not has_schema(runnable)
        data = None if is_list else run.output_data
        return cls(run.output or ("" if data is None else as_text(data)), data)


def has_schema(runnable: object) -> bool:
    """Whether its data is the answer that its author asked for."""
    return getattr(runnable, "output_schema", None) is not None


def as_text(data: Mapping[str, Any]) -> str:
    """Data as JSON, for what takes only text."""
    return json.dumps(dict(data), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class StepOutput:
    """The result of a step. A function that is a step may return one, for its content."""

    content: str = ""
    """If a step made only data, that as JSON."""
    state: RunState = RunState.COMPLETED
    """COMPLETED, CANCELLED or FAILED."""
    error: RunError | None = None
    run_id: str = ""
    """The step's own run; empty if it was refused, and for what is no single run."""
    data: Mapping[str, Any] | None = None
    """Its data; None: it made none."""


@dataclass(frozen=True, slots=True)
class StepInput:
    """The input of a step, or of a function that decides about steps."""

    input: str
    """The workflow's own input."""
    previous_step_content: str = ""
    """The result of the step before, as JSON if it was only data; for the first step the
    workflow's input."""
    outputs: dict[str, str] = field(default_factory=dict)
    """The results of all steps so far, by step id; of steps with one id, the latest."""
    input_data: Mapping[str, Any] | None = None
    """The workflow's own data; None: it was given none."""
    previous_step_data: Mapping[str, Any] | None = None
    """The data that the step before made; for the first step the workflow's own; None: none."""
    data: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """The data that all steps so far made, by step id."""

    def get_step_content(self, step_id: str) -> str | None:
        """The text of an earlier step; None if it has not been done."""
        return self.outputs.get(step_id)

    def get_step_data(self, step_id: str) -> Mapping[str, Any] | None:
        """The data of an earlier step; None if it made none, or has not been done."""
        return self.data.get(step_id)
