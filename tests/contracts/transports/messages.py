"""What the ways share that speak in the messages of pullcord.v1."""

from collections.abc import Iterable, Iterator
from typing import Any

from google.rpc import error_details_pb2
from pullcord.v1 import event_pb2, run_pb2
from pullcord.v1 import run_service_pb2 as v1

from tests.contracts.transports.way import Refused, Stop, Story, Way

TERMINAL = {"run_completed": "completed", "run_cancelled": "cancelled", "run_failed": "failed"}


def told(story: Story, event: event_pb2.RunEvent) -> Story:
    """The story with one event more."""
    kind = event.WhichOneof("payload") or ""
    if kind == "heartbeat":
        return story
    if not story.kinds or story.kinds[-1] != kind:
        story.kinds.append(kind)
    story.numbers.append(event.sequence)
    story.text += event.content_delta.text
    if kind in TERMINAL:
        payload = getattr(event, kind)
        story.end, story.output = TERMINAL[kind], payload.output
        if kind == "run_failed":
            story.error = payload.error.type
        if kind == "run_cancelled":
            stop = payload.cancellation
            story.cause = (
                run_pb2.DESCRIPTOR.pool.FindEnumTypeByName("pullcord.v1.CancelCause")
                .values_by_number[stop.cause]
                .name.removeprefix("CANCEL_CAUSE_")
            )
            story.reason, story.actor = stop.reason, stop.actor
    return story


def stop_of(message: v1.CancelRunResponse) -> Stop:
    """A receipt."""
    outcome = v1.CancelRunResponse.DESCRIPTOR.fields_by_name["outcome"].enum_type
    name = outcome.values_by_number[message.outcome].name.removeprefix("CANCEL_OUTCOME_")
    stop = message.run.cancellation
    return Stop(name, stop.reason, stop.actor, message.run.output)


def refused_of(details: Iterable[Any], status: str, words: str) -> Refused:
    """The refusal of a google.rpc.Status, in its parts."""
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for packed in details:
        for part in (info, bad):
            packed.Unpack(part)
    fields = [violation.field for violation in bad.field_violations]
    return Refused(info.reason, fields, status=status, words=words)


class Messages(Way):
    """A way whose calls are the messages of pullcord.v1."""

    def unary(self, rpc: str, request: Any) -> Any:
        raise NotImplementedError

    def stream(self, rpc: str, request: Any) -> Iterator[Any]:
        raise NotImplementedError

    def start(self, runnable: str, run_id: str, **spec: Any) -> None:
        self.runnables[run_id] = runnable
        made = run_pb2.RunSpec(runnable=f"agents/{runnable}", run_id=run_id, **spec)
        self.unary("StartRun", v1.StartRunRequest(spec=made))

    def follow(self, run_id: str, after: int = 0) -> Iterator[Story]:
        story = Story()
        for answer in self.stream(
            "WatchRun", v1.WatchRunRequest(run_id=run_id, after_sequence=after)
        ):
            yield told(story, answer.event)

    def attend(self, runnable: str, run_id: str) -> Iterator[Story]:
        self.runnables[run_id] = runnable
        spec = run_pb2.RunSpec(runnable=f"agents/{runnable}", run_id=run_id)
        story = Story()
        for answer in self.stream("Run", v1.RunRequest(spec=spec)):
            yield told(story, answer.event)

    def cancel(self, run_id: str, reason: str = "", *, wait: int = 0, early: bool = False) -> Stop:
        request = v1.CancelRunRequest(run_id=run_id, reason=reason, before_start=early)
        if wait:
            request.wait.seconds = wait
        return stop_of(self.unary("CancelRun", request))

    def state(self, run_id: str) -> str:
        run = self.unary("GetRun", v1.GetRunRequest(run_id=run_id)).run
        return run_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
