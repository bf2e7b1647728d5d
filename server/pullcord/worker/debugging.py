"""Debuggers in a worker: one that wants a terminal is refused in words, because there is none.

Without this `breakpoint()` would read the end of stdin and raise BdbQuit. Debuggers that listen
elsewhere, on a port for example, are left alone.
"""

import bdb
import logging
import sys
from types import FrameType
from typing import Any

_log = logging.getLogger("pullcord.worker")


class NoTerminal(RuntimeError):
    """A debugger was called where there is no terminal."""


def refuse_terminals() -> None:
    """Makes `breakpoint()` and `pdb.set_trace()` raise NoTerminal."""
    set_trace = bdb.Bdb.set_trace

    def refuse_or_set(self: bdb.Bdb, frame: FrameType | None = None, *more: Any) -> None:
        if getattr(self, "stdin", sys.stdin) is not sys.stdin:
            set_trace(self, frame, *more)
            return
        at = f"{frame.f_code.co_filename}:{frame.f_lineno}: " if frame is not None else ""
        words = (
            f"{at}a debugger needs a terminal, and a worker process has none: "
            "serve with `pullcord serve --in-process`, or remove the breakpoint"
        )
        _log.error(words)
        raise NoTerminal(words)

    bdb.Bdb.set_trace = refuse_or_set  # type: ignore[method-assign]  # `pdb` has no hook for it
