"""Following one run to its end: what each event shows, and what Ctrl-C does.

How things look is the view's business; what is asked of the server, and with which options, the
commands'.
"""

import asyncio
import contextlib
import json
import re
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pullcord.cli.exits import Exit, exit_of
from pullcord.cli.output import (
    count,
    ending,
    killed_rows,
    progress_words,
    receipt_rows,
    seconds,
    tool_notes,
    why,
)
from pullcord.cli.screen import Status, View
from pullcord.cli.tree import entries_of
from pullcord.cli.unreachable import bare
from pullcord.client import AsyncRunStream
from pullcord.run import events
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.errors import PullcordError
from pullcord.run.events import Event
from pullcord.run.record import Decision, Receipt, Run
from pullcord.run.state import RunState

_TICK = 0.05
"""Seconds between two looks at the screen."""
_RECEIPT = 2.0
"""Seconds that a receipt may come later than the end of its run."""

_HANDS_OVER = "delegate_to_member"
"""The tool that starts a member of a team; the member's own events show its result."""

Stop = Callable[[CancelMode], Awaitable[Receipt]]
Look = Callable[[str], Awaitable[Run]]
Decide = Callable[[str, list[Decision]], Awaitable[object]]


class Follower:
    """Shows one run. With `stop`, Ctrl-C cancels it; without, Ctrl-C only leaves."""

    def __init__(
        self,
        stream: AsyncRunStream,
        view: View,
        status: Status,
        stop: Stop | None,
        look: Look,
        decide: Decide,
        where: str = "",
    ) -> None:
        """`where` is the option that a command needs to reach the same server, if it needs one."""
        self._decide = decide
        self._asked: dict[str, events.RunPaused] = {}
        """The questions that stand, by the run that asks; the oldest is answered by a key."""
        self._deciding: list[asyncio.Task[None]] = []
        self._where = where
        self._stream = stream
        self._view = view
        self._status = status
        self._stop = stop
        self._look = look
        self._looking: asyncio.Task[None] | None = None
        self._interrupts = 0
        self._stopping: list[asyncio.Task[Receipt]] = []
        self._leaving: asyncio.Future[None] | None = None
        self._shown: list[str] = []
        self._is_tail = stream.after_sequence > 0  # the text before was shown somewhere else
        self._gap: events.Gap | None = None
        self._speaker = ""
        self._told = False  # why the run is being stopped
        self._end_time = 0.0
        status.hint = "Ctrl-C stops it" if stop else "Ctrl-C leaves; the run is not stopped"

    async def follow(self) -> Exit:
        """Shows the run until it ends or the user leaves."""
        loop = asyncio.get_running_loop()
        before = signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(self._interrupt))
        ticker = asyncio.create_task(self._tick())
        keys = self._view.keys(self._key)
        try:
            async for event in self._stream:
                self._view.event(event)
                self._show(event)
        finally:
            keys()
            signal.signal(signal.SIGINT, before)
            for task in filter(None, (ticker, self._looking, *self._deciding)):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            self._view.close(self._status)
        return await self._conclude()

    async def _tick(self) -> None:
        while True:
            self._look_at_connection()
            self._view.tick(self._status)
            await asyncio.sleep(_TICK)

    def _look_at_connection(self) -> None:
        """Says once that the connection is lost, and once that it is back."""
        lost = self._stream.reconnecting
        if lost == self._status.offline:
            return
        self._status.offline = lost
        words = "connection lost; trying again" if lost else "connected again"
        self._view.note(words, "yellow" if lost else "dim")

    def _interrupt(self) -> None:
        self._interrupts += 1
        if self._stop is None or self._interrupts > 2:
            self._leaving = asyncio.ensure_future(self._stream.close())
            return
        mode = CancelMode.GRACEFUL if self._interrupts == 1 else CancelMode.IMMEDIATE
        self._status.state = RunState.CANCELLING
        self._status.hint = (
            "Ctrl-C again interrupts tools, too" if self._interrupts == 1 else "Ctrl-C again leaves"
        )
        asking = asyncio.ensure_future(self._stop(mode))
        asking.add_done_callback(self._was_asked)
        self._stopping.append(asking)

    def _key(self, key: str) -> None:
        """A key was pressed: y or n decide about the oldest question."""
        if key.lower() not in ("y", "n") or not self._asked:
            return
        run_id, asked = next(iter(self._asked.items()))
        del self._asked[run_id]
        approved = key.lower() == "y"
        self._view.note("approved" if approved else "declined", "green" if approved else "yellow")
        decisions = [Decision(call.tool_call_id, approved=approved) for call in asked.tool_calls]
        self._deciding.append(asyncio.create_task(self._send(run_id, decisions)))

    async def _send(self, run_id: str, decisions: list[Decision]) -> None:
        try:
            await self._decide(run_id, decisions)
        except PullcordError as error:
            self._view.note(f"the decision was not taken: {bare(str(error))}", "red")

    def _was_asked(self, asking: "asyncio.Task[Receipt]") -> None:
        if not asking.cancelled() and isinstance(error := asking.exception(), PullcordError):
            self._view.note(f"the stop did not reach the server: {bare(str(error))}", "red")

    # --- what an event shows

    def _show(self, event: Event) -> None:
        view, status, payload = self._view, self._status, event.payload
        self._end_time = event.create_time
        if event.source is not None:
            self._show_child(event)
            return
        match payload:
            case events.RunStarted():
                status.state = RunState.RUNNING
                status.start_time = status.start_time or event.create_time
                view.note(f"run {event.run_id}")
            case events.ContentDelta(text):
                self._speaks("")
                self._write(text)
            case events.ReasoningDelta(text):
                self._speaks("thinking")
                view.aside(text)
            case events.ToolCallStarted(call):
                view.note(f"→ {call.tool_name}({_short(call.arguments)})")
            case events.ToolCallCompleted(call) if call.tool_name != _HANDS_OVER:
                took = seconds(max(0.0, call.end_time - call.start_time))
                result = f": {_short(call.result)}" if call.result else ""
                view.note(f"← {call.tool_name} {call.state.value}, {took}{result}")
            case events.StepStarted():
                view.note(f"▸ {payload.name or payload.step_id}")
            case events.StepCompleted():
                view.note(f"▪ {payload.name or payload.step_id} {payload.state.value}")
            case events.UsageUpdated(usage):
                status.tokens = usage.total_tokens
            case events.CancelRequested(cancellation):
                status.state = RunState.CANCELLING
                now = self._told and cancellation.mode is CancelMode.IMMEDIATE
                view.note("stopping at once" if now else f"stopping: {why(cancellation)}", "yellow")
                self._told = True
            case events.RunPaused():
                status.state = RunState.PAUSED
                self._asks(payload, event.run_id)
            case events.RunContinued():
                status.state = RunState.RUNNING
                self._asked.pop(event.run_id, None)
            case events.Progress():
                status.doing = progress_words(payload)
                view.progress("", status.doing)
            case events.Custom(name, data):
                view.note(f"{name} {_short(json.dumps(dict(data), ensure_ascii=False))}")
            case events.Gap():
                self._gap = payload
            case events.Snapshot(run):
                self._instead(run)
                self._whole(run.output)
                if status.tree.has_parts:
                    status.tree.fill(run.output_data)
                status.tokens = run.usage.total_tokens
            case events.RunCompleted():
                status.state = RunState.COMPLETED
                status.tree.is_complete = True
                self._whole(payload.output)
                self._data(payload.output_data)
            case events.RunCancelled():
                status.state = RunState.CANCELLED
                self._whole(payload.output)
                self._data(payload.output_data)
            case events.RunFailed():
                status.state = RunState.FAILED
                self._whole(payload.output)

    def _instead(self, run: Run) -> None:
        """Says what a snapshot replaces: the events of the gap before it."""
        if (gap := self._gap) is None:
            return
        if run.cancellation is not None and run.cancellation.cause is CancelCause.LOST:
            self._view.note(
                "the server process that executed the run died after event "
                f"{gap.first_sequence - 1}, or before it stored what came then; all that it stored "
                "is kept, and shown here",
                "yellow",
            )
        else:
            self._view.note(
                f"events {gap.first_sequence} to {gap.last_sequence} are no longer kept one by one;"
                " the text that they made is kept, and shown here"
            )
        self._gap = None

    def _data(self, data: Mapping[str, Any] | None) -> None:
        """Shows the data that the run returned beside its text.

        If the text is that data already, it is not shown again. The tree shows the data of a team
        or workflow.
        """
        if self._status.tree.has_parts and entries_of(data):
            self._status.tree.fill(data)
            return
        if data is None:
            return
        shown = "".join(self._shown)
        if _json_of(shown) != data:
            end_of_text = "\n" if shown and not shown.endswith("\n") else ""
            self._write(end_of_text + json.dumps(dict(data), ensure_ascii=False))

    def _show_child(self, event: Event) -> None:
        if self._looking is None and isinstance(event.payload, events.StepStarted):
            self._looking = asyncio.create_task(self._plan())
        branch = self._status.tree.tell(event)
        if branch is not None:
            self._view.child(branch, event)
        assert event.source is not None
        if isinstance(event.payload, events.RunPaused):
            self._asks(event.payload, event.source.run_id)
        elif isinstance(event.payload, (events.RunContinued, *events.TERMINAL_PAYLOADS)):
            self._asked.pop(event.source.run_id, None)

    def _asks(self, paused: events.RunPaused, run_id: str) -> None:
        """A question, and how to answer it: whose calls wait is the run to be continued."""
        self._view.note(f"paused: {paused.question}", "yellow")
        for call in paused.tool_calls:
            self._view.note(f"  {call.tool_name}({_short(call.arguments, 1000)})")
        if self._view.has_keys:
            self._asked[run_id] = paused
            self._view.note("  press y to approve, n to decline; or, from anywhere:", "yellow")
        ids = " ".join(f"--approve {call.tool_call_id}" for call in paused.tool_calls)
        self._view.note(f"  pullcord continue {run_id} {ids}{self._where}")
        one = paused.tool_calls[0].tool_call_id if len(paused.tool_calls) == 1 else "ID"
        self._view.note(f"  to answer a question: --answer {one}=TEXT; to refuse: --decline {one}")

    async def _plan(self) -> None:
        """Has the steps shown that are yet to come: a workflow's run knows them once it began."""
        with contextlib.suppress(PullcordError):  # then they are shown when they begin
            run = await self._look(self._stream.run_id)
            if self._status.tree.has_parts:
                self._status.tree.plan(run.output_data)

    def _write(self, text: str) -> None:
        if not text:
            return
        # A word that goes on from the text before is no new one.
        goes_on = self._shown and self._shown[-1][-1].strip() and text[0].strip()
        self._status.words += len(re.findall(r"\S+", text)) - bool(goes_on)
        self._shown.append(text)
        self._view.write(text)

    def _whole(self, output: str) -> None:
        """The run's whole text so far: what of it was not shown yet is shown now."""
        shown = "".join(self._shown)
        if self._is_tail and output.endswith(shown):
            return
        self._is_tail = False
        if output.startswith(shown):
            self._write(output[len(shown) :])
        else:
            self._write("\n")
            self._shown.clear()
            self._write(output)

    def _speaks(self, who: str) -> None:
        if who != self._speaker and who:
            self._view.note(f"— {who} —")
        self._speaker = who

    # --- the end

    async def _conclude(self) -> Exit:
        """Shows how the run ended, or how it was left."""
        receipt = await self._receipt()
        result = self._stream.result
        if result is None:
            return self._left()
        took = seconds(max(0.0, self._end_time - (self._status.start_time or self._end_time)))
        made = count(len(result.output.split()), "word")
        if used := result.usage.total_tokens:
            made += f", {'about ' if result.usage.estimated else ''}{count(used, 'token')}"
        view = self._view
        match result:
            case events.RunCompleted():
                view.note(f"✔ completed in {took}: {made}", "green")
                if (words := ending(result.finish_reason)) is not None:
                    view.note(f"  note       the answer {words}", "yellow")
                return exit_of(RunState.COMPLETED)
            case events.RunFailed(error):
                view.note(f"✘ failed after {took}: {error.words}", "red")
                return exit_of(RunState.FAILED)
            case events.RunCancelled(cancellation):
                because = "" if self._told else f": {why(cancellation)}"
                view.note(f"■ cancelled after {took}{because}", "yellow")
                if receipt is not None:
                    for word, about in receipt_rows(receipt):
                        view.note(f"  {word:<9}  {about}")
                else:
                    view.note(f"  kept       {made}")
                    for note in tool_notes(result.tool_calls):
                        view.note(f"  note       {note}")
                    for word, about in killed_rows(result.killed_processes):
                        view.note(f"  {word:<9}  {about}")
        return exit_of(RunState.CANCELLED)

    def _left(self) -> Exit:
        view, place = self._view, self._stream
        if self._stop is not None and self._stopping:
            if not self._told and not any(map(_is_answered, self._stopping)):
                unknown = "the stop was not answered, and its fate is unknown"
                view.note(f"left run {place.run_id}: {unknown}", "red")
                return Exit.UNAVAILABLE
            view.note(f"left run {place.run_id}, which is stopping", "yellow")
            return Exit.CANCELLED
        view.note(f"left run {place.run_id}; its disconnect policy holds. To come back:")
        command = f"pullcord watch {place.run_id} --after {place.after_sequence}"
        view.note(f"  {command}{self._where}")
        return Exit.UNFINISHED

    async def _receipt(self) -> Receipt | None:
        """The latest receipt that has come, or comes soon."""
        if not self._stopping:
            return None
        if self._stream.result is not None:
            await asyncio.wait(self._stopping, timeout=_RECEIPT)
        receipt = None
        for task in self._stopping:
            if not task.done():
                task.cancel()
            elif task.exception() is None:
                receipt = task.result()
        return receipt


def _is_answered(asking: "asyncio.Task[Receipt]") -> bool:
    return asking.done() and not asking.cancelled() and asking.exception() is None


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _short(text: str, longest: int = 120) -> str:
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
