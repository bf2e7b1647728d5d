"""A tool's function may end in any way; its call ends once, with words for the model.

A run's own cancel is a cancel; whatever else a function raises is a failed call. When calls are
made, and what the ledger keeps of them, is not decided here.
"""

import asyncio
import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pullcord.models.base import ToolRequest
from pullcord.native.tools import CallableTool, ToolFailed
from pullcord.run.context import RunContext
from pullcord.run.errors import PublicError, RunCancelledError

MAX_RESULT = 200_000
"""Characters of a tool's result, or of its error, that are kept; a note says what was cut."""


class RepeatedFailure(PublicError):
    """The model asks for the same failing call again and again."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The end of the function: with a text, or by raising."""

    text: str = ""
    error: BaseException | None = None


async def result_of(tool: CallableTool, ctx: RunContext, arguments: str, *, approved: bool) -> str:
    """The tool's result, no longer than it may be.

    Raises:
        Exception: what the function raised, or ToolFailed for what is no ordinary exception.
        RunCancelledError, CancelledError: the run must stop, and for no other reason.
    """
    # A task of its own keeps the function's own CancelledError, such as that of a library's cancel
    # scope, apart from a cancel of this call.
    function = asyncio.ensure_future(_outcome(tool, ctx, arguments, approved))
    try:
        outcome = await asyncio.shield(function)
    except asyncio.CancelledError:
        function.cancel()
        while not function.done():  # nobody must believe that it has stopped before it has
            try:
                await asyncio.wait([function])
            except asyncio.CancelledError:
                function.cancel()
        raise
    error = outcome.error
    if error is None:
        return cut(outcome.text)
    if isinstance(error, RunCancelledError) and ctx.cancel_token.cancelled:
        raise error
    raise _ordinary(error)


async def _outcome(tool: CallableTool, ctx: RunContext, arguments: str, approved: bool) -> _Outcome:
    """Never raises, because asyncio passes the SystemExit of a task on to the loop."""
    try:
        return _Outcome(await tool.call(ctx, arguments, approved=approved))
    except KeyboardInterrupt as error:
        if threading.current_thread() is threading.main_thread():
            raise  # somebody at the keyboard
        return _Outcome(error=error)
    except BaseException as error:
        return _Outcome(error=error)


def _ordinary(error: BaseException) -> Exception:
    """The error itself, or one of ours where it cannot be raised and shown like any other."""
    name = type(error).__name__[:100]
    try:
        words = str(error)
    except BaseException:
        return ToolFailed(f"it raised {name}, whose words cannot be had")
    if not isinstance(error, Exception):
        return ToolFailed(f"it raised {name}: {cut(words)}" if words else f"it raised {name}")
    if len(words) > MAX_RESULT:
        return ToolFailed(f"it raised {name}: {cut(words)}")
    return error


def cut(text: str) -> str:
    """The text, at most MAX_RESULT characters and a note."""
    if len(text) <= MAX_RESULT:
        return text
    missing = len(text) - MAX_RESULT
    return f"{text[:MAX_RESULT]}\n[cut: {missing} of {len(text)} characters are left out]"


class Repetitions:
    """Counts, turn by turn, how often one call has failed in one way."""

    def __init__(self, most: int | None, counted: Iterable[Any] = ()) -> None:
        """`counted`: what another one's `data` returned."""
        self._most = most
        self._times: dict[tuple[str, str], dict[str, int]] = {
            (name, arguments): dict(times) for name, arguments, times in counted
        }
        self._failed: set[tuple[tuple[str, str], str]] = set()

    def data(self) -> list[Any]:
        """What was counted in the turns that have ended, as JSON."""
        return [[*call, dict(times)] for call, times in self._times.items()]

    def succeeded(self, request: ToolRequest) -> None:
        """A call has done its work: what failed before it counts no more."""
        self._times.pop(_call(request), None)

    def failed(self, request: ToolRequest, error: str) -> None:
        """A call has failed, with these words; several at once count as one."""
        self._failed.add((_call(request), error))

    def check(self) -> None:
        """Ends a turn. Raises RepeatedFailure where the model has not learnt from it."""
        failed, self._failed = self._failed, set()
        for call, error in failed:
            times = self._times.setdefault(call, {})
            times[error] = times.get(error, 0) + 1
            if self._most is not None and times[error] >= self._most:
                raise RepeatedFailure(
                    f"the tool {call[0]!r} failed {times[error]} times with the same arguments "
                    "and the same error",
                    said=error[:1000],
                )


def _call(request: ToolRequest) -> tuple[str, str]:
    """The tool and its arguments, however they were written."""
    try:
        arguments = json.dumps(json.loads(request.arguments), sort_keys=True)
    except (ValueError, RecursionError):
        arguments = request.arguments
    return request.name, arguments
