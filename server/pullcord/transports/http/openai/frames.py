"""A run's events as the frames of a streamed response. It keeps the items so far, and nothing else.

A frame's `sequence_number` is the event's own, with room for the frames that one event makes. So a
client that comes back with `starting_after` gets what it has not seen, also when deltas were merged
in another way meanwhile: every follower reads the run from its beginning, and skips.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pullcord.engine.log.record import Record
from pullcord.run.cancel import Cancellation
from pullcord.run.events import (
    TERMINAL_PAYLOADS,
    CancelRequested,
    RunPaused,
    RunStarted,
    Snapshot,
    ToolCall,
    ToolCallCompleted,
    ToolCallStarted,
)
from pullcord.run.finish import FinishReason
from pullcord.run.record import Run
from pullcord.run.state import RunState
from pullcord.run.usage import Usage
from pullcord.transports.http.openai import items
from pullcord.transports.http.openai.items import Json

ROOM = 4096
"""Numbers for the frames of one event: more than a run has items open at once."""

Frame = tuple[str, Json]
"""Its type, and its data without type and number."""


class Frames:
    """Makes the frames of one response. Give it all records from the first on."""

    def __init__(self, run: Run, starting_after: int = -1) -> None:
        """`run` says what the events do not: when it was made, its labels and its user."""
        self._run = run
        self._after = starting_after
        self._seen = 0 if starting_after < 0 else starting_after // ROOM + 1
        """The last event of which the client has some frame."""
        self.output: list[Json] = []
        self._open: Json | None = None
        """The message or the reasoning that deltas go to."""
        self._text: list[str] = []
        self._said = 0
        """Characters of the run's output so far."""
        self._calls: dict[str, int] = {}

    def of(self, record: Record, run: Run | None = None) -> Iterator[Json]:
        """The frames of one record that the client has not seen. `run`: as it is at its end."""
        if record.payload is None and record.sequence > self._seen > record.sequence - record.count:
            rest = record.after(self._seen)
            seen = len(record.text) - len(rest.text)
            self._write(record.text[:seen], record.reasoning)
            record = rest
        first = (record.sequence - 1) * ROOM
        for number, (kind, data) in enumerate(self._frames(record, run), first):
            if number > self._after:
                yield {"type": kind, "sequence_number": number, **data}

    def _frames(self, record: Record, run: Run | None) -> Iterator[Frame]:
        payload = record.payload
        if record.source is not None:
            return  # of a child: what it said is not what the runnable says
        if payload is None:
            yield from self._delta(record.text, record.reasoning)
        elif isinstance(payload, RunStarted):
            yield "response.created", self._response(self._in(RunState.RUNNING))
            yield "response.in_progress", self._response(self._in(RunState.RUNNING))
        elif isinstance(payload, ToolCallStarted):
            yield from self._close()
            yield from self._call(payload.tool_call)
        elif isinstance(payload, ToolCallCompleted):
            yield from self._call_ended(payload.tool_call)
        elif isinstance(payload, RunPaused):
            yield from self._close()
            for call in payload.tool_calls:
                yield from self._whole(items.approval_item(call))
            yield "response.in_progress", self._response(self._in(RunState.PAUSED))
        elif isinstance(payload, CancelRequested):
            yield (
                "response.in_progress",
                self._response(self._in(RunState.CANCELLING, payload.cancellation)),
            )
        elif isinstance(payload, Snapshot):
            yield from self._snapshot(payload.run, record.sequence)
        elif isinstance(payload, TERMINAL_PAYLOADS):
            yield from self._end(run or self._run)

    # --- items

    def _delta(self, text: str, reasoning: bool) -> Iterator[Frame]:
        kind = "reasoning" if reasoning else "message"
        if self._open is None or self._open["type"] != kind:
            yield from self._close()
            yield from self._begin(reasoning)
        assert self._open is not None
        self._text.append(text)
        index = len(self.output) - 1
        where = {"item_id": self._open["id"], "output_index": index, "content_index": 0}
        if reasoning:
            yield "response.reasoning_text.delta", {**where, "delta": text}
        else:
            self._said += len(text)
            yield "response.output_text.delta", {**where, "delta": text, "logprobs": []}

    def _write(self, text: str, reasoning: bool) -> None:
        """Text that the client has: only what comes of it later is of interest."""
        for _ in self._delta(text, reasoning):
            pass

    def _begin(self, reasoning: bool) -> Iterator[Frame]:
        index = len(self.output)
        if reasoning:
            item = items.reasoning_item(f"rs_{self._run.run_id}_{index}", "", "in_progress")
        else:
            item = items.message_item(f"msg_{self._run.run_id}_{index}", "", "in_progress")
        self._open = item
        self.output.append(item)
        yield "response.output_item.added", {"output_index": index, "item": item}
        if not reasoning:
            where = {"item_id": item["id"], "output_index": index, "content_index": 0}
            yield "response.content_part.added", {**where, "part": items.text_part("")}

    def _close(self, status: str = "completed") -> Iterator[Frame]:
        """Ends the item that deltas went to."""
        if self._open is None:
            return
        id, text = self._open["id"], "".join(self._text)
        index = len(self.output) - 1
        where = {"item_id": id, "output_index": index, "content_index": 0}
        if self._open["type"] == "reasoning":
            item = items.reasoning_item(id, text, status)
            yield "response.reasoning_text.done", {**where, "text": text}
        else:
            item = items.message_item(id, text, status)
            yield "response.output_text.done", {**where, "text": text, "logprobs": []}
            yield "response.content_part.done", {**where, "part": items.text_part(text)}
        self.output[index] = item
        self._open, self._text = None, []
        yield "response.output_item.done", {"output_index": index, "item": item}

    def _call(self, call: ToolCall) -> Iterator[Frame]:
        item = items.tool_item(call)
        index = self._calls[call.tool_call_id] = len(self.output)
        self.output.append(item)
        where = {"item_id": item["id"], "output_index": index}
        yield "response.output_item.added", {"output_index": index, "item": item}
        yield "response.mcp_call_arguments.done", {**where, "arguments": call.arguments}
        yield "response.mcp_call.in_progress", where

    def _call_ended(self, call: ToolCall) -> Iterator[Frame]:
        index = self._calls.pop(call.tool_call_id, None)
        if index is None:
            yield from self._whole(items.tool_item(call))
            return
        item = self.output[index] = items.tool_item(call)
        where = {"item_id": item["id"], "output_index": index}
        done = "completed" if item["status"] == "completed" else "failed"
        yield f"response.mcp_call.{done}", where
        yield "response.output_item.done", {"output_index": index, "item": item}

    def _whole(self, item: Json) -> Iterator[Frame]:
        index = len(self.output)
        self.output.append(item)
        yield "response.output_item.added", {"output_index": index, "item": item}
        yield "response.output_item.done", {"output_index": index, "item": item}

    # --- the response

    def _end(self, run: Run) -> Iterator[Frame]:
        cut = run.state is not RunState.COMPLETED or run.finish_reason is FinishReason.LENGTH
        yield from self._close("incomplete" if cut else "completed")
        for index in sorted(self._calls.values()):
            item = self.output[index] = {**self.output[index], "status": "incomplete"}
            yield "response.output_item.done", {"output_index": index, "item": item}
        self._run = run
        status = items.status_of(run)
        # The client's types have no response.cancelled; the status says it.
        kind = status if status in ("completed", "failed") else "incomplete"
        yield f"response.{kind}", self._response()

    def _snapshot(self, run: Run, sequence: int) -> Iterator[Frame]:
        """Events before this are no longer kept. Its text replaces what there was."""
        self._run = run
        missed = run.output[self._said :]
        if self._after < 0:
            if not self.output:
                yield "response.created", self._response()
            if missed:
                yield from self._delta(missed, False)
            return
        if missed:
            self._write(missed, False)
        if sequence > self._seen:
            # How much of the text the client has is not known: it gets all of it, and a note.
            more = {"missed": {"from": self._seen + 1, "to": sequence}}
            yield "response.in_progress", self._response(more=more)

    def _in(self, state: RunState, stop: Cancellation | None = None) -> Run:
        """The run as it was at an event, also for a follower that comes after its end."""
        return replace(
            self._run, state=state, cancellation=stop, error=None, finish_reason=None, usage=Usage()
        )

    def _response(self, run: Run | None = None, more: dict[str, Any] | None = None) -> Json:
        output = self.output
        if self._open is not None and more is not None:
            text = "".join(self._text)
            output = [*output[:-1], items.message_item(self._open["id"], text, "in_progress")]
        return {"response": items.response(run or self._run, output, more)}
