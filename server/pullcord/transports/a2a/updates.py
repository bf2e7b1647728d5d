"""A run's events as the updates of a task, one or more for each. Nothing is asked here.

The first of a stream is the whole task; text then comes as pieces of one artifact. `metadata` has
our `sequence` in each. Two streams of one run say the same, since all is made of the events.
"""

from collections.abc import Iterator
from dataclasses import replace

from a2a.types import (
    Artifact,
    StreamResponse,
    Task,
    TaskArtifactUpdateEvent,
    TaskStatusUpdateEvent,
)

from pullcord.engine.log.record import Record
from pullcord.run.events import (
    TERMINAL_PAYLOADS,
    CancelRequested,
    Gap,
    RunCancelled,
    RunCompleted,
    RunContinued,
    RunFailed,
    RunPaused,
    RunStarted,
    Snapshot,
    TerminalPayload,
)
from pullcord.run.record import Run
from pullcord.run.state import RunState
from pullcord.transports.a2a import tasks

_ENDS = {
    RunCompleted: RunState.COMPLETED,
    RunCancelled: RunState.CANCELLED,
    RunFailed: RunState.FAILED,
}


class Updates:
    """Makes the updates of one stream."""

    def __init__(self, run: Run) -> None:
        """`run` is the run before the next record; the client gets it first."""
        self._run = run
        self.question = ""
        """The run's last question."""
        self._said = len(run.output)
        """Characters of the run's text that the client has."""
        self._missed: Gap | None = None

    @property
    def state(self) -> RunState:
        """The run's state in the last update that was made."""
        return self._run.state

    def first(self, history_length: int | None) -> StreamResponse:
        """The task as it is before everything that comes."""
        task: Task = tasks.task(self._run, history_length=history_length)
        return StreamResponse(task=task)

    def of(self, record: Record) -> Iterator[StreamResponse]:
        """The updates for one record."""
        payload = record.payload
        if record.source is not None:
            return  # of a child: what it said is not what the runnable says
        if payload is None:
            if not record.reasoning:
                yield self._text(record.text, record.sequence)
        elif isinstance(payload, RunStarted):
            yield self._now(record, state=RunState.RUNNING, start_time=record.create_time)
        elif isinstance(payload, RunPaused):
            self.question = payload.question
            yield self._now(record, state=RunState.PAUSED, tool_calls=payload.tool_calls)
        elif isinstance(payload, RunContinued):
            yield self._now(record, state=RunState.RUNNING)
        elif isinstance(payload, CancelRequested):
            stop = payload.cancellation
            yield self._now(record, state=RunState.CANCELLING, cancellation=stop)
        elif isinstance(payload, Gap):
            self._missed = payload  # a snapshot follows
        elif isinstance(payload, Snapshot):
            yield from self._snapshot(payload.run, record)
        elif isinstance(payload, TERMINAL_PAYLOADS):
            yield from self._end(payload, record)

    def _text(self, text: str, sequence: int) -> StreamResponse:
        told = self._artifact(tasks.text_artifact(text), sequence, append=self._said > 0)
        self._said += len(text)
        return told

    def _end(self, end: TerminalPayload, record: Record) -> Iterator[StreamResponse]:
        if end.output and len(end.output) != self._said:
            # The code has said its output to be something else than its text.
            yield self._artifact(tasks.text_artifact(end.output), record.sequence, last=True)
        if end.output_data is not None:
            made = tasks.data_artifact(end.output_data)
            yield self._artifact(made, record.sequence, last=True)
        yield self._now(
            record,
            state=_ENDS[type(end)],
            end_time=record.create_time,
            output_data=end.output_data,
            usage=end.usage,
            tool_calls=end.tool_calls,
            cancellation=end.cancellation,
            error=end.error if isinstance(end, RunFailed) else None,
            abandoned=isinstance(end, RunCancelled) and end.abandoned,
            killed_processes=end.killed_processes if isinstance(end, RunCancelled) else (),
        )

    def _snapshot(self, run: Run, record: Record) -> Iterator[StreamResponse]:
        """Events before this are no longer kept. Its text replaces what there was."""
        missed = self._missed
        # The end comes after this, as an event of its own.
        ended = run.state.is_terminal
        self._run, self._missed = replace(run, state=RunState.RUNNING) if ended else run, None
        if run.output:
            self._said = len(run.output)
            yield self._artifact(tasks.text_artifact(run.output), record.sequence)
        gap = (
            None if missed is None else {"from": missed.first_sequence, "to": missed.last_sequence}
        )
        yield self._now(record, more={"missed": gap} if gap else {})

    def _artifact(
        self, made: Artifact, sequence: int, *, append: bool = False, last: bool = False
    ) -> StreamResponse:
        update = TaskArtifactUpdateEvent(
            task_id=self._run.run_id,
            context_id=self._run.session_id,
            artifact=made,
            append=append,
            last_chunk=last,
            metadata=tasks.struct({"sequence": sequence}),
        )
        return StreamResponse(artifact_update=update)

    def _now(
        self, record: Record, more: dict[str, object] | None = None, **changes: object
    ) -> StreamResponse:
        """The run has changed so; where it is."""
        run = self._run = replace(self._run, last_sequence=record.sequence, **changes)  # type: ignore[arg-type]  # fields of a Run
        update = TaskStatusUpdateEvent(
            task_id=run.run_id,
            context_id=run.session_id,
            status=tasks.status(run, self.question),
            metadata=tasks.metadata(run, more),
        )
        return StreamResponse(status_update=update)
