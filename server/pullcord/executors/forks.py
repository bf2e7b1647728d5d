"""What becomes of a process that an author's code forks: it executes that code, and none of ours.

Without this a child whose code returns or raises would go on in our threads and loops. It would
never end, and it would take wake-ups from the loop of its parent, with which it shares them. What
the child itself does, such as an `exec`, is not known here.
"""

import os
import sys
import threading
import traceback
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pullcord.executors.loops import RunLoop

_loops: "weakref.WeakSet[RunLoop]" = weakref.WeakSet()


def leave_in_child(loop: "RunLoop") -> None:
    """In a child that is forked on this loop, the loop does nothing more once the code lets go."""
    _loops.add(loop)


def end_child(parent: int, error: BaseException | None) -> None:
    """Ends this process if it is not `parent`, as a program ends whose code has raised `error`."""
    if os.getpid() == parent:
        return
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        code = 1
        with suppress(BaseException):
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
    os._exit(code & 0xFF)


def _in_child() -> None:
    for run_loop in _loops:
        if run_loop.ident == threading.get_ident():
            run_loop.loop.stop()
            # No step of another run that is due: it is taken in the parent. asyncio has no verb for
            # that; other loops take those of this turn.
            getattr(run_loop.loop, "_ready", []).clear()


os.register_at_fork(after_in_child=_in_child)
