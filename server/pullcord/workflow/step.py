"""The Step: one runnable among a workflow's steps, tried again where it may be.

A value. The flow decides whether it may begin, and keeps its result.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, Literal

from pullcord.adapters.function import FunctionRunnable
from pullcord.adapters.offering import checked
from pullcord.run.resources import Resources, checked_resources
from pullcord.run.runnable import Runnable, takes_of
from pullcord.run.state import RunState
from pullcord.workflow.flow import Flow, StepFailed
from pullcord.workflow.types import Made, Path, StepInput


class Step:
    """One runnable, as a child run of the workflow's."""

    def __init__(
        self,
        name: str = "",
        *,
        executor: Runnable | Callable[..., Any] | None = None,
        agent: Runnable | None = None,
        team: Runnable | None = None,
        workflow: Runnable | None = None,
        description: str = "",
        retries: int = 0,
        retry_delay: float = 1.0,
        on_error: Literal["fail", "skip"] = "fail",
        resources: Resources | None = None,
    ) -> None:
        """Describes the step.

        Args:
            name: for people and paths; that of its runnable if none is given.
            executor: what to run: anything that can be run, or a function.
            agent: the same, by the name that says what it is; likewise `team` and `workflow`.
            description: its purpose, for readers of the program.
            retries: how often a failed run is tried again.
            retry_delay: seconds before the first of them; doubled for each that follows.
            on_error: what happens to the workflow when the last one fails. A cancel is no error.
            resources: the room that it needs; the workflow's runs wait for a worker that has it.
                None: what its runnable needs.

        Raises:
            ValueError: not exactly one runnable was given, a number is negative, or the runnable
                needs more resources than were given.
            TypeError: it cannot be run.
        """
        offered = {"executor": executor, "agent": agent, "team": team, "workflow": workflow}
        given = [(kind, one) for kind, one in offered.items() if one is not None]
        if len(given) != 1:
            raise ValueError("a step takes one of executor, agent, team and workflow")
        kind, runnable = given[0]
        if retries < 0 or retry_delay < 0 or on_error not in ("fail", "skip"):
            raise ValueError("retries and retry_delay are 0 or more; on_error is 'fail' or 'skip'")
        self._executor = checked(runnable, f"the {kind} of a step")
        self.takes = takes_of(self._runnable(StepInput("")))
        """The inputs that its runnable takes, beside a text."""
        self.description = description
        self.name = name or _name_of(self._executor)
        self.resources = checked_resources(resources, self.name, [self._executor])
        self.id = "" if name else str(getattr(self._executor, "id", ""))
        """Empty: it is made of the name."""
        self._retries = retries
        self._retry_delay = retry_delay
        self._on_error = on_error

    def planned(self, path: Path) -> Iterator[Path]:
        """Itself."""
        yield path

    async def do(self, flow: Flow, path: Path, previous: Made) -> Made:
        """Runs it, and again where it fails and may be tried again."""
        again, first = flow.place.again(path)
        for attempt in range(first, self._retries + 2):
            runnable = self._runnable(flow.given(previous))
            shown = attempt if self._retries else 0
            output = await flow.step(runnable, previous, path, self.name, shown, again)
            again = ""
            if output.state is not RunState.FAILED:
                return Made(output.content, output.data)
            if attempt <= self._retries:
                await asyncio.sleep(self._retry_delay * 2 ** (attempt - 1))
        if self._on_error == "skip":
            return previous
        assert output.error is not None
        raise StepFailed(path[-1], output.error)

    def _runnable(self, given: StepInput) -> Runnable:
        if hasattr(self._executor, "execute"):
            return self._executor  # type: ignore[return-value]  # a Runnable, by its method
        return FunctionRunnable(self._executor, offers={"step_input": given})


def _name_of(runnable: Any) -> str:
    name = getattr(runnable, "name", "") or getattr(runnable, "id", "")
    return str(name or getattr(runnable, "__name__", "step"))
