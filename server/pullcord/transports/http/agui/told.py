"""Tells one run as AG-UI's events: what begins is ended before anything else comes, and is named.

No stream is known here, and nothing is asked of the engine.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ag_ui.core import (
    BaseEvent,
    CustomEvent,
    Interrupt,
    ReasoningEndEvent,
    ReasoningMessageContentEvent,
    ReasoningMessageEndEvent,
    ReasoningMessageStartEvent,
    ReasoningStartEvent,
    RunAgentInput,
    RunErrorEvent,
    RunFinishedCancelledOutcome,
    RunFinishedEvent,
    RunFinishedInterruptOutcome,
    RunFinishedSuccessOutcome,
    RunStartedEvent,
    StepFinishedEvent,
    StepStartedEvent,
    SubagentErrorEvent,
    SubagentFinishedEvent,
    SubagentStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
    TokenUsage,
    ToolCallArgsEvent,
    ToolCallEndEvent,
    ToolCallResultEvent,
    ToolCallStartEvent,
)

from pullcord.engine.log.record import Record
from pullcord.run.events import (
    TERMINAL_PAYLOADS,
    CancelRequested,
    Custom,
    Gap,
    Progress,
    RunCancelled,
    RunFailed,
    RunPaused,
    Snapshot,
    Source,
    StepCompleted,
    StepStarted,
    TerminalPayload,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
    ToolCallState,
)
from pullcord.run.usage import Usage
from pullcord.transports.http.agui.asked import Pause

_DECIDES = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean", "description": "whether the tool is executed"},
        "answer": {"type": "string", "description": "the tool's result, instead of executing it"},
        "note": {"type": "string", "description": "why; the model is told if it is declined"},
    },
}


@dataclass(frozen=True, slots=True)
class _Speech:
    """A message that has begun and not ended."""

    message_id: str
    voice: str | None
    """The child that speaks; None: the run itself."""
    reasoning: bool


class Told:
    """Makes the events of one stream."""

    def __init__(self, given: RunAgentInput, run_id: str, said: int = 0) -> None:
        """`run_id` is that of the run here, which differs where a run goes on after a pause; of its
        text the client has so many characters."""
        self._given = given
        self._run_id = run_id
        self._said = said
        self._speech: _Speech | None = None
        self._voices: dict[str, bool] = {}  # the runs beneath, and whether they are still open
        self._steps: dict[tuple[str | None, str], str] = {}  # open ones, by voice and id
        self._calls: set[str] = set()
        self._names: Counter[str] = Counter()
        self.is_over = self.is_paused = False
        """Whether the end was sent to the client; or a pause, which ends the run there, too."""

    def first(self) -> BaseEvent:
        """The first events of a stream."""
        return RunStartedEvent(
            thread_id=self._given.thread_id,
            run_id=self._given.run_id,
            protocol_version=self._given.protocol_version and "1.0",
            metadata={"pullcord": {"runId": self._run_id}},
        )

    def of(self, record: Record) -> Iterator[BaseEvent]:
        """The events for one record."""
        at = int(record.create_time * 1000)
        for event in self._of(record):
            event.timestamp = at
            yield event

    def _of(self, record: Record) -> Iterator[BaseEvent]:
        payload, source = record.payload, record.source
        voice = source.run_id if source and source.run_id != self._run_id else None
        if voice is not None and source is not None and voice not in self._voices:
            yield from self._silence()
            yield self._begin(voice, source)
        if payload is None:
            yield from self._speak(voice, record.text, reasoning=record.reasoning)
        elif isinstance(payload, ToolCallStarted):
            yield from self._call(voice, payload.tool_call)
        elif isinstance(payload, ToolCallCompleted):
            yield from self._result(voice, payload.tool_call)
        elif isinstance(payload, StepStarted | StepCompleted):
            yield from self._step(voice, payload)
        elif isinstance(payload, Custom):
            yield CustomEvent(name=payload.name, value=dict(payload.data), subagent_run_id=voice)
        elif isinstance(payload, Progress):
            value = {"done": payload.done, "total": payload.total, "note": payload.note}
            yield CustomEvent(name="pullcord.progress", value=value, subagent_run_id=voice)
        elif isinstance(payload, TERMINAL_PAYLOADS) and voice is not None:
            yield from self._end_of(voice, payload)
        elif isinstance(payload, RunPaused):
            yield from self._pause(voice, payload, record.sequence)
        elif voice is None:
            yield from self._own(payload)

    def _own(self, payload: Any) -> Iterator[BaseEvent]:
        """The events about the run itself."""
        if isinstance(payload, CancelRequested):
            stop = payload.cancellation
            value = {"cause": stop.cause.name, "actor": stop.actor, "reason": stop.reason}
            yield CustomEvent(name="pullcord.cancel_requested", value=value)
        elif isinstance(payload, Gap):
            gap = {"firstSequence": payload.first_sequence, "lastSequence": payload.last_sequence}
            yield CustomEvent(name="pullcord.gap", value=gap)
        elif isinstance(payload, Snapshot):
            yield from self._speak(None, payload.run.output[self._said :])
        elif isinstance(payload, TERMINAL_PAYLOADS):
            yield from self._end(payload)

    # --- messages

    def _speak(
        self, voice: str | None, text: str, *, reasoning: bool = False
    ) -> Iterator[BaseEvent]:
        if not text:
            return
        speech = self._speech
        if speech is None or (speech.voice, speech.reasoning) != (voice, reasoning):
            yield from self._silence()
            self._names["message"] += 1
            id = f"{self._given.run_id}-{self._names['message']}"
            speech = self._speech = _Speech(id, voice, reasoning)
            if reasoning:
                yield ReasoningStartEvent(message_id=id, subagent_run_id=voice)
                yield ReasoningMessageStartEvent(message_id=id, subagent_run_id=voice)
            else:
                yield TextMessageStartEvent(message_id=id, role="assistant", subagent_run_id=voice)
        says = ReasoningMessageContentEvent if reasoning else TextMessageContentEvent
        yield says(message_id=speech.message_id, delta=text, subagent_run_id=voice)
        if voice is None and not reasoning:
            self._said += len(text)

    def _silence(self) -> Iterator[BaseEvent]:
        """Ends the message that is open."""
        speech, self._speech = self._speech, None
        if speech is None:
            return
        id, voice = speech.message_id, speech.voice
        if speech.reasoning:
            yield ReasoningMessageEndEvent(message_id=id, subagent_run_id=voice)
            yield ReasoningEndEvent(message_id=id, subagent_run_id=voice)
        else:
            yield TextMessageEndEvent(message_id=id, subagent_run_id=voice)

    # --- tools, steps, runs beneath

    def _call(self, voice: str | None, call: ToolCall) -> Iterator[BaseEvent]:
        if call.tool_call_id in self._calls:
            return
        self._calls.add(call.tool_call_id)
        yield from self._silence()
        id = call.tool_call_id
        name = call.tool_name
        yield ToolCallStartEvent(tool_call_id=id, tool_call_name=name, subagent_run_id=voice)
        if call.arguments:
            yield ToolCallArgsEvent(tool_call_id=id, delta=call.arguments, subagent_run_id=voice)
        yield ToolCallEndEvent(tool_call_id=id, subagent_run_id=voice)

    def _result(self, voice: str | None, call: ToolCall) -> Iterator[BaseEvent]:
        yield from self._call(voice, call)
        yield from self._silence()
        self._names["result"] += 1
        # AG-UI has no word for how far a call got.
        done = call.state is ToolCallState.COMPLETED
        yield ToolCallResultEvent(
            message_id=f"{self._given.run_id}-result-{self._names['result']}",
            tool_call_id=call.tool_call_id,
            content=call.result if done else call.result or f"The call was {call.state.value}.",
            role="tool",
            subagent_run_id=voice,
            metadata={"pullcord": {"state": call.state.value}},
        )

    def _step(self, voice: str | None, step: StepStarted | StepCompleted) -> Iterator[BaseEvent]:
        yield from self._silence()
        key = (voice, step.step_id)
        if isinstance(step, StepCompleted):
            if (open_as := self._steps.pop(key, None)) is not None:
                yield StepFinishedEvent(step_name=open_as, subagent_run_id=voice)
            return
        if key in self._steps:  # it is tried again
            yield StepFinishedEvent(step_name=self._steps[key], subagent_run_id=voice)
        name = step.name or step.step_id
        self._names[f"step {name}"] += 1
        count = self._names[f"step {name}"]
        self._steps[key] = name if count == 1 else f"{name} #{count}"  # they are told by names
        yield StepStartedEvent(step_name=self._steps[key], subagent_run_id=voice)

    def _begin(self, voice: str, source: Source) -> BaseEvent:
        self._voices[voice] = True
        return SubagentStartedEvent(subagent_run_id=voice, name=source.name or source.id)

    def _end_of(self, voice: str, end: TerminalPayload) -> Iterator[BaseEvent]:
        yield from self._silence()
        yield from self._close_steps(voice)
        if not self._voices[voice]:
            return
        self._voices[voice] = False
        if isinstance(end, RunFailed):
            words, code = end.error.words, end.error.type
            yield SubagentErrorEvent(subagent_run_id=voice, message=words, code=code)
        else:
            result = end.output if end.output_data is None else dict(end.output_data)
            yield SubagentFinishedEvent(subagent_run_id=voice, result=result)

    def _close_steps(self, voice: str | None) -> Iterator[BaseEvent]:
        for key in [key for key in self._steps if key[0] == voice]:
            yield StepFinishedEvent(step_name=self._steps.pop(key), subagent_run_id=voice)

    def _close(self) -> Iterator[BaseEvent]:
        """Ends all that is open, before the stream does."""
        self.is_over = True
        yield from self._silence()
        for voice in [voice for voice, is_open in self._voices.items() if is_open]:
            yield from self._close_steps(voice)
            yield SubagentFinishedEvent(subagent_run_id=voice)
        yield from self._close_steps(None)

    # --- ends

    def _pause(self, voice: str | None, pause: RunPaused, sequence: int) -> Iterator[BaseEvent]:
        for call in pause.tool_calls:
            yield from self._call(voice, call)
        yield from self._close()
        self.is_paused = True
        waits = Pause(voice or self._run_id, sequence, self._said)
        interrupts = [
            Interrupt(
                id=waits.name(call.tool_call_id),
                reason="approval",
                message=pause.question or None,
                tool_call_id=call.tool_call_id,
                subagent_run_id=voice,
                response_schema=_DECIDES,
            )
            for call in pause.tool_calls
        ]
        yield self._finished(RunFinishedInterruptOutcome(interrupts=interrupts))

    def _end(self, end: TerminalPayload) -> Iterator[BaseEvent]:
        if end.output and len(end.output) != self._said:
            # The code has said its output to be something else than its text.
            yield from self._silence()
            yield from self._speak(None, end.output)
        yield from self._close()
        usage = [_usage(end.usage)]
        if isinstance(end, RunFailed):
            yield RunErrorEvent(message=end.error.words, code=end.error.type, usage=usage)
            return
        metadata: dict[str, Any] = {"runId": self._run_id}
        if not isinstance(end, RunCancelled):
            success = RunFinishedSuccessOutcome()
            yield self._finished(success, end.output_data, usage, metadata)
            return
        stop = end.cancellation
        metadata |= {"cause": stop.cause.name, "actor": stop.actor, "reason": stop.reason}
        if self._given.protocol_version:
            cancelled = RunFinishedCancelledOutcome()
            yield self._finished(cancelled, end.output_data, usage, metadata)
        else:  # a client of before 1.0 would read that as a success
            words = f"the run was stopped, cause {stop.cause.name}"
            metadata = {"pullcord": metadata}
            yield RunErrorEvent(message=words, code="CANCELLED", usage=usage, metadata=metadata)

    def _finished(
        self,
        outcome: Any,
        result: Mapping[str, Any] | None = None,
        usage: list[TokenUsage] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> BaseEvent:
        return RunFinishedEvent(
            thread_id=self._given.thread_id,
            run_id=self._given.run_id,
            outcome=outcome,
            result=None if result is None else dict(result),
            usage=usage,
            metadata={"pullcord": metadata or {"runId": self._run_id}},
        )


def _usage(used: Usage) -> TokenUsage:
    return TokenUsage(
        input_tokens=used.input_tokens,
        output_tokens=used.output_tokens,
        total_tokens=used.total_tokens,
        reasoning_tokens=used.reasoning_tokens,
        cached_input_tokens=used.cached_tokens,
    )
