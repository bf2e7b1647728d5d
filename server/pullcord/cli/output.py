"""The output of the commands: JSON lines of the API's messages, and the same things in words.

Words are for people and may change; JSON is for programs and is protobuf's own mapping. Following
a run as it goes is in `screen` and `follow`, and lists of runs are in `listing`.
"""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pullcord.run.cancel import Cancellation, CancelOutcome
from pullcord.run.events import Progress, ToolCall, ToolCallState
from pullcord.run.finish import FinishReason
from pullcord.run.record import Receipt, Run
from pullcord.run.scope import LOCAL
from pullcord.run.state import RunState

STYLES = {
    RunState.PENDING: "dim",
    RunState.RUNNING: "cyan",
    RunState.PAUSED: "yellow",
    RunState.CANCELLING: "yellow",
    RunState.COMPLETED: "green",
    RunState.CANCELLED: "yellow",
    RunState.FAILED: "red",
}

OUTCOMES = {
    CancelOutcome.REQUESTED: "The run is stopping.",
    CancelOutcome.STOPPED: "The run has stopped.",
    CancelOutcome.RECORDED: "No such run has started yet. If it does, it ends at once.",
    CancelOutcome.ALREADY_FINISHED: "The run had ended before; nothing was changed.",
}

_TOOL_NOTES = {
    ToolCallState.UNKNOWN: "may have taken effect",
    ToolCallState.INTERRUPTED: "was interrupted",
    ToolCallState.RUNNING: "is at work",
    ToolCallState.WAITING: "waits for a decision",
    ToolCallState.APPROVED: "is approved, and has not begun",
    ToolCallState.DECLINED: "was declined",
}


_PIPE_WIDTH = 1_000_000
"""Columns of a pipe: no table is wrapped there."""


def console(*, stderr: bool = False) -> Console:
    """A console that prints text as it is; into a pipe, lines are never cut."""
    made = Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def complain(words: str) -> None:
    """Says on stderr what is wrong: broken between words on a terminal, in one line in a pipe."""
    console(stderr=True).print(Text(plain(f"pullcord: {words}")))


def print_output(text: str, to: Console) -> None:
    """Prints the output of a run, with a line end behind it. Into a pipe it goes unchanged.

    Not by way of rich, which would wrap it and make spaces of its tabs.
    """
    if not text:
        return
    to.file.write(plain(text) if to.is_terminal else text)
    if not text.endswith("\n"):
        to.file.write("\n")
    to.file.flush()


def print_json(message: Message) -> None:
    """One line, with the field names of the proto."""
    print(json_of(message), flush=True)


def json_of(message: Message) -> str:
    """Protobuf's JSON of a message in one line; enums by name, 64-bit numbers as strings."""
    return MessageToJson(message, preserving_proto_field_name=True, indent=None, ensure_ascii=False)


def plain(text: str) -> str:
    """Text without what could command a terminal; a model's words are only to be read."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def seconds(number: float) -> str:
    """A length of time, as short as it is telling: `3.1 ms`, `2.4 s`, `3 min 5 s`."""
    if number < 0.1:
        return f"{number * 1000:.1f} ms"
    if number < 60:
        return f"{number:.1f} s"
    minutes = int(number // 60)
    if minutes < 60:
        return f"{minutes} min {int(number % 60)} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int, what: str) -> str:
    """`1 word`, `2,000 words`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def progress_words(progress: Progress) -> str:
    """A progress in words: `30 % (12 of 40), reading page 3`."""
    words = _amount(progress.done)
    if progress.total:
        share = min(1.0, progress.done / progress.total)
        words = f"{share:.0%} ({words} of {_amount(progress.total)})".replace("%", " %", 1)
    return f"{words}, {progress.note}" if progress.note else words


def _amount(number: float) -> str:
    return f"{number:,.0f}" if number == int(number) else f"{number:,.1f}"


def why(cancellation: Cancellation) -> str:
    """Cause, actor and reason of a stop in one line."""
    words = cancellation.cause.value
    if cancellation.limit and cancellation.limit not in cancellation.reason.split():
        words += f" ({cancellation.limit})"
    if cancellation.actor:
        words += f", by {cancellation.actor}"
    return plain(f"{words}: {cancellation.reason}" if cancellation.reason else words)


def tool_notes(calls: Iterable[ToolCall]) -> list[str]:
    """Notes on tool calls that did not end cleanly."""
    return [
        f"tool {plain(call.tool_name)} {_TOOL_NOTES[call.state]}"
        for call in calls
        if call.state in _TOOL_NOTES
    ]


def receipt_rows(receipt: Receipt) -> list[tuple[str, str]]:
    """When a stop was accepted, delivered and achieved, and what was kept, as pairs of words."""
    rows = []
    run = receipt.run
    if receipt.accept_time:
        rows.append(("accepted", _clock(receipt.accept_time)))
        for word, at in (("delivered", receipt.deliver_time), ("stopped", receipt.stop_time)):
            if at:
                rows.append((word, f"{seconds(max(0.0, at - receipt.accept_time))} later"))
            elif receipt.outcome is CancelOutcome.REQUESTED:
                rows.append((word, "not yet"))
    if run is not None and run.state.is_terminal:
        rows.append(("kept", _kept(run)))
        rows.extend(("note", note) for note in tool_notes(run.tool_calls))
        if run.abandoned:
            rows.append(("note", "its code did not stop, and may still be at work"))
        rows.extend(killed_rows(run.killed_processes))
    return rows


def killed_rows(names: Sequence[str]) -> list[tuple[str, str]]:
    """The programs that had to be killed, if there were any: each once, and how often."""
    if not names:
        return []
    times = Counter(names)
    words = (name if n == 1 else f"{name} ({n} ×)" for name, n in times.items())
    return [("killed", plain(", ".join(words)))]


def print_receipt(receipt: Receipt, to: Console) -> None:
    """A receipt in words."""
    to.print(Text(OUTCOMES[receipt.outcome], "bold"))
    stop = receipt.run.cancellation if receipt.run is not None else None
    print_rows([*([("why", why(stop))] if stop else []), *receipt_rows(receipt)], to)


def print_rows(rows: Iterable[tuple[str, str]], to: Console) -> None:
    """Pairs of a word and what it is about, one a line."""
    if not to.is_terminal:
        for word, about in rows:
            to.file.write(f"  {word:<9}  {about}\n")
        return
    table = Table.grid(padding=(0, 2))
    for word, about in rows:
        table.add_row(Text(f"  {word}", "dim"), Text(about, overflow="fold"))
    to.print(table)


_ENDINGS = {
    FinishReason.LENGTH: "was cut off by the limit of tokens",
    FinishReason.CONTENT_FILTER: "was cut off by the provider's filter",
    FinishReason.REFUSAL: "was refused by the model",
    FinishReason.ERROR: "broke off at the provider",
    FinishReason.OTHER: "ended for a reason that is not known",
}


def ending(reason: FinishReason | None) -> str | None:
    """The end of the model's answer in words; None if it simply ended."""
    return None if reason is None else _ENDINGS.get(reason)


def print_run(run: Run, to: Console) -> None:
    """All that is known of a run, its output last."""
    rows = [("run", run.run_id), ("runnable", run.runnable), ("state", run.state.value)]
    rows += [
        (word, plain(about))
        for word, about in (
            ("owner", f"{run.tenant}/{run.owner}" if run.owner and run.scope != LOCAL else ""),
            ("session", run.session_id),
            ("user", run.user_id),
            ("part of", run.parent_run_id),
            ("labels", " ".join(f"{key}={value}" for key, value in run.labels.items())),
            ("input", shortened(run.input)),
            ("attached", shortened(", ".join(part.label for part in run.parts))),
        )
        if about
    ]
    if run.cancellation is not None:
        rows.append(("why", why(run.cancellation)))
    if run.error is not None:
        rows.append(("error", plain(f"{run.error.type}: {run.error.message}")))
    rows.append(("created", _clock(run.create_time)))
    if run.start_time:
        took = seconds(max(0.0, (run.end_time or time.time()) - run.start_time))
        rows.append(("took", took if run.end_time else f"{took} so far"))
    if used := usage_words(run):
        rows.append(("used", used))
    for call in run.tool_calls:
        told = f"{plain(call.tool_name)}: {call.state.value}"
        if call.state is ToolCallState.WAITING:
            told = plain(f"{call.tool_call_id}: {call.tool_name}({call.arguments}) waits")
            told += f" in run {call.run_id}" if call.run_id else ""
        rows.append(("tool", told))
    if run.progress is not None:
        rows.append(("progress", plain(progress_words(run.progress))))
    if (words := ending(run.finish_reason)) is not None:
        rows.append(("answer", words))
    if run.abandoned:
        rows.append(("note", "its code did not stop, and may still be at work"))
    rows.extend(killed_rows(run.killed_processes))
    print_rows(rows, to)
    if run.output_data is not None:
        print_output(json.dumps(run.output_data, ensure_ascii=False, indent=2), to)
    if run.output:
        to.print()
        print_output(run.output, to)


def usage_words(run: Run) -> str:
    """The usage of a run, in words."""
    usage = run.usage
    parts = []
    if usage.total_tokens:
        about = "about " if usage.estimated else ""
        parts.append(about + count(usage.total_tokens, "token"))
    if usage.cost is None:
        parts.append("cost unknown")
    elif usage.cost:
        parts.append(f"${usage.cost:.4f}")
    if usage.tool_calls:
        parts.append(count(usage.tool_calls, "tool call"))
    return ", ".join(parts)


def name_table(rows: Iterable[tuple[str, ...]], *columns: str) -> Table:
    """Rows of plain text."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    return table


def _kept(run: Run) -> str:
    kept: list[Any] = [count(len(run.output.split()), "word")]
    if used := usage_words(run):
        kept.append(f"used {used}" if run.usage.total_tokens else used)
    return "; ".join(kept)


def _clock(at: float) -> str:
    told = time.localtime(at)
    return f"{time.strftime('%H:%M:%S', told)}.{int(at % 1 * 1000):03d}"


def shortened(text: str, longest: int = 200) -> str:
    """The text on one line, which ends in an ellipsis if something is left out."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
