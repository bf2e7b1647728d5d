"""One run of a workflow: the list of its steps with what each came to, and how a step is done.

Every step of every kind begins and ends here, so that nothing begins once the run must stop, and
everything that was made before is in the list. The nodes decide which steps there are, in which
order.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pullcord.run.context import RunContext
from pullcord.run.errors import PublicError
from pullcord.run.events import RunError, Source, SourceKind, StepCompleted, StepStarted
from pullcord.run.outcomes import Outcomes
from pullcord.run.resumed import HandedOver
from pullcord.run.runnable import Runnable
from pullcord.run.state import RunState
from pullcord.run.usage import Usage
from pullcord.workflow.place import Place
from pullcord.workflow.types import Made, Path, StepInput, StepOutput


class StepFailed(PublicError):
    """A step failed, and the workflow with it."""

    def __init__(self, step_id: str, error: RunError) -> None:
        super().__init__(f"step {step_id!r} failed: {error.type}: {error.message}")
        self.error = error


class Flow:
    """The steps of one run."""

    def __init__(self, ctx: RunContext, workflow_id: str, planned: Iterable[Path]) -> None:
        self.ctx = ctx
        self._id = workflow_id
        self._contents: dict[str, str] = {}
        self._data: dict[str, Mapping[str, Any]] = {}
        self._outcomes = Outcomes("steps")
        paths = list(planned)
        self.place = Place(paths)
        """Where the run is among its nodes."""
        self._latest = ""
        if ctx.resumed is not None:
            self._go_on(self.place.load(ctx.resumed.continuation))
        else:
            for path in paths:
                self._outcomes.expect(path, _about(path))
            self.tell("")
        ctx.can_go_on(self._handed_over)

    def _handed_over(self) -> HandedOver | None:
        """From what another execution can go on; None: something is at work beside the steps that
        are waited for."""
        if not self.place.only_waits:
            return None
        more = {
            "contents": dict(self._contents),
            "data": {key: dict(data) for key, data in self._data.items()},
            "outcomes": self._outcomes.data(),
            "latest": self._latest,
        }
        data = self.place.dumped(more)
        return None if data is None else HandedOver(data, self.place.children)

    def _go_on(self, more: Mapping[str, Any]) -> None:
        self._contents, self._data = dict(more["contents"]), dict(more["data"])
        self._latest = more["latest"]
        self._outcomes = Outcomes.of("steps", more["outcomes"], _path_of)

    def given(self, previous: Made) -> StepInput:
        """The input of the next step."""
        return StepInput(
            self.ctx.input,
            previous.content,
            dict(self._contents),
            self.ctx.input_data,
            previous.data,
            dict(self._data),
        )

    def tell(self, output: str) -> None:
        """Sets the result so far: this content, and the list of steps."""
        self._latest = output
        self.ctx.set_output(output, self._outcomes.data())

    async def step(
        self,
        runnable: Runnable,
        given: Made,
        path: Path,
        name: str,
        attempt: int = 0,
        again: str = "",
    ) -> StepOutput:
        """Does a step as a child run; its result is kept, however this run ends. `again`: the child
        run that it waited for in an execution that is gone.

        Raises RunCancelledError or CancelledError if the run must stop.
        """
        if not again:
            started = StepStarted(path[-1], name, attempt)
            self.ctx.begin(started, source=self._source(path, name), counts=Usage(steps=1))
        output = StepOutput(state=RunState.CANCELLED)
        try:
            child = self.ctx.start(
                runnable,
                given.content,
                given.data,
                path=path,
                parts=self.ctx.parts if given.is_own_input else (),
                messages=self.ctx.messages if given.is_own_input else (),
                again=again,
            )
            self._outcomes.begin(path, _about(path), child.run_id)
            self.tell(self._latest)
            self.place.waits(path, child.run_id, attempt or 1)
            try:
                await child.wait()
            finally:
                self.place.works(path)
                run = child.snapshot()
                self._outcomes.keep(path, _about(path), run)
                made = Made.of(run, runnable)
                output = StepOutput(made.content, run.state, run.error, run.run_id, made.data)
        except Exception as refused:  # such as ServerBusy: the run never was
            error = self.ctx.error(refused)
            self._outcomes.refuse(path, _about(path), error)
            output = StepOutput(state=RunState.FAILED, error=error)
        finally:
            self._keep(path, output)
            # A step that was cut off before it said anything takes nothing from what there was.
            ended_well = output.state is RunState.COMPLETED
            self.tell(output.content if ended_well else output.content or self._latest)
            self._ended(path, name, output)
        return output

    @contextmanager
    def group(self, path: Path, name: str) -> Iterator[list[Made]]:
        """Steps that make one: `with flow.group(…) as made:`, to which that is appended."""
        if self.place.begins(path):
            self.ctx.begin(StepStarted(path[-1], name), source=self._source(path, name))
        made: list[Made] = []
        output = StepOutput(state=RunState.CANCELLED)
        try:
            yield made
            output = StepOutput(made[0].content, data=made[0].data)
            self._keep(path, output)
            self.tell(output.content)
        except Exception as raised:
            output = StepOutput(state=RunState.FAILED, error=self.ctx.error(raised))
            raise
        finally:
            self._ended(path, name, output)

    def _keep(self, path: Path, output: StepOutput) -> None:
        self._contents[path[-1]] = output.content
        self._data.pop(path[-1], None)
        if output.data is not None:
            self._data[path[-1]] = output.data

    def _ended(self, path: Path, name: str, output: StepOutput) -> None:
        # Also when the run must stop: the event says what has happened.
        said = StepCompleted(path[-1], name, output.state, output.content, output.error)
        self.ctx.emit(said, source=self._source(path, name), always=True)

    def _source(self, path: Path, name: str) -> Source:
        return Source(SourceKind.STEP, path[-1], name, self.ctx.run_id, (self._id, *path))


def _about(path: Path) -> dict[str, str]:
    return {"path": "/".join(path)}


def _path_of(entry: Mapping[str, Any]) -> Path:
    return tuple(entry["path"].split("/"))


async def together(work: Iterable[Callable[[], Coroutine[Any, Any, Any]]]) -> list[Any]:
    """Does all of it at the same time; the first that fails stops the others.

    Returns the results in order, once nothing of it is at work any more. Raises the first failure.
    """
    tasks = [asyncio.ensure_future(begin()) for begin in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        results = await _all_ended(tasks)
    failures = [r for r in results if isinstance(r, BaseException)]
    for failure in failures:
        if not isinstance(failure, asyncio.CancelledError):
            raise failure
    if failures:
        raise failures[0]
    return results


async def _all_ended(tasks: "Sequence[asyncio.Future[Any]]") -> list[Any]:
    gathered = asyncio.gather(*tasks, return_exceptions=True)
    while not gathered.done():
        with suppress(asyncio.CancelledError):  # they are cancelled already, and must be waited for
            await asyncio.wait([gathered])
    return gathered.result()
