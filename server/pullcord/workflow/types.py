"""What steps, and functions that decide about steps, are given and give back: values, no more."""

from dataclasses import dataclass, field

from pullcord.run.events import RunError
from pullcord.run.state import RunState

Path = tuple[str, ...]
"""Step ids from the workflow down."""


class OwnInput(str):
    """The workflow's own input, as long as no step has made anything of it.

    A step that gets it gets the run's parts and messages, too.
    """


@dataclass(frozen=True, slots=True)
class StepOutput:
    """What a step came to. A function that is a step may return one, for its content."""

    content: str = ""
    state: RunState = RunState.COMPLETED
    """COMPLETED, CANCELLED or FAILED."""
    error: RunError | None = None
    run_id: str = ""
    """The step's own run; empty where it was refused, and for what is no single run."""


@dataclass(frozen=True, slots=True)
class StepInput:
    """What a step, or a function that decides about steps, is given."""

    input: str
    """The workflow's own input."""
    previous_step_content: str = ""
    """What the step before made; for the first step the workflow's input."""
    outputs: dict[str, str] = field(default_factory=dict)
    """What all steps so far made, by step id; of steps with one id, the latest."""

    def get_step_content(self, step_id: str) -> str | None:
        """What an earlier step made; None where it has not been done."""
        return self.outputs.get(step_id)
