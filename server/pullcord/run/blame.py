"""The place at which an author's code raised, for the operator's log: classes, files and lines.

Never the words of an exception, which may hold inputs and secrets, unless they are public and say
all; and nothing for callers.
"""

import asyncio
import logging
import secrets
import traceback
from types import TracebackType

from pullcord.run import plain
from pullcord.run.errors import PublicError, RunCancelledError

_log = logging.getLogger("pullcord.run")

_MOST_FRAMES = 40
"""Of each exception, the innermost ones."""
_MOST_CAUSES = 8


def raised(run_id: str, error: BaseException, tool: str = "") -> str:
    """Logs where the code of a run raised, or that of its tool; the id by which the log knows it.

    Called in the author's thread. A stop is no error, and has no id.
    """
    # Of the type: an error may lie about its class.
    if issubclass(type(error), RunCancelledError | GeneratorExit | asyncio.CancelledError):
        return ""
    error_id = new_id()
    level = logging.WARNING if tool else logging.ERROR
    if not _log.isEnabledFor(level):
        return error_id
    name = plain.class_name(error)
    what = f"tool {plain.cut(tool, 200)!r} of run {run_id}" if tool else f"the code of run {run_id}"
    fields = {"run_id": run_id, "error_id": error_id, "error_type": name}
    if words := _all_words(error):
        _log.log(level, "%s raised %s: %s", what, name, words, extra=fields)
        return error_id
    fields["stack"] = _chain(error)
    _log.log(level, "%s raised %s%s", what, name, _place(error.__traceback__), extra=fields)
    return error_id


def _all_words(error: BaseException) -> str:
    """The words of an error that needs no stack; empty for every other."""
    # Of the type and of the object itself: an error may lie about its class and its attributes.
    if not issubclass(type(error), PublicError) or not object.__getattribute__(error, "says_all"):
        return ""
    return str(object.__getattribute__(error, "public"))


def reported(run_id: str, kind: str) -> str:
    """Logs that something which a run's code works with has reported an error; its id."""
    error_id = new_id()
    fields = {"run_id": run_id, "error_id": error_id, "error_type": kind}
    _log.warning("the code of run %s reports %s", run_id, kind, extra=fields)
    return error_id


def new_id() -> str:
    """An id that says nothing, and that callers and the log have in common."""
    return secrets.token_hex(6)


def log_place(log: logging.Logger, what: str, error: BaseException) -> None:
    """Logs an error of our own code which may hold words of somebody else: its class and place."""
    name = plain.class_name(error)
    fields = {"error_type": name, "stack": _chain(error)}
    log.warning("%s: %s%s", what, name, _place(error.__traceback__), extra=fields)


def _place(tb: TracebackType | None) -> str:
    return "".join(f" at {frame.filename}:{frame.lineno}" for frame in _frames(tb, 1))


def _frames(tb: TracebackType | None, most: int) -> traceback.StackSummary:
    # Without the source: a line of it may hold the words that are raised, and is read from a file.
    return traceback.StackSummary.extract(traceback.walk_tb(tb), limit=-most, lookup_lines=False)


def _chain(error: BaseException) -> str:
    """The frames of an exception and of its causes, the first cause first."""
    blocks: list[str] = []
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen and len(blocks) < _MOST_CAUSES:
        seen.add(id(current))
        frames = _frames(current.__traceback__, _MOST_FRAMES)
        lines = [f'File "{f.filename}", line {f.lineno}, in {f.name}' for f in frames]
        blocks.append("\n".join([*lines, plain.class_name(current)]))
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    return "\n\n".join(reversed(blocks))
