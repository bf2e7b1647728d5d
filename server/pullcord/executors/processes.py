"""Processes as the system shows them: which descend from one, which bear a mark, and their end.

Linux tells all of it in /proc; elsewhere nothing is found. Whose processes they are, and when they
must end, is not known here.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pullcord.run.events import Custom

WORKER_MARK = "PULLCORD_WORKER"
"""An environment variable that all processes have which descend from one worker."""
RUN_MARK = "PULLCORD_RUN"
"""Likewise, for the commands of one run."""

_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
_MAX_NAMED = 32
_MAX_COMMAND = 200


@dataclass(frozen=True, slots=True)
class Killed:
    """A process that was killed."""

    pid: int
    command: str
    """Its command line, cut; in brackets its name, if it has none."""


def killed_event(killed: Iterable[Killed]) -> "Custom":
    """The event that names what had to be killed."""
    from pullcord.run.events import Custom  # here, so that the guard of workers stays small

    named = [{"pid": one.pid, "command": one.command} for one in killed]
    return Custom("processes_killed", {"processes": named[:_MAX_NAMED], "count": len(named)})


def adopt_orphans() -> None:
    """From now on processes that descend from this one stay its descendants, detached or not."""
    if sys.platform == "linux":
        import ctypes  # here, so that the guard of workers stays small

        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> list[int]:
    """The living processes that descend from this one, parents first."""
    found: list[int] = []
    ready = [pid]
    while ready:
        children = _children(ready.pop())
        found += children
        ready += children
    return [pid for pid in found if is_alive(pid)]


def _children(pid: int) -> list[int]:
    children: list[int] = []
    with contextlib.suppress(OSError):
        for thread in (_PROC / str(pid) / "task").iterdir():
            with contextlib.suppress(OSError):
                children += map(int, (thread / "children").read_text().split())
    return children


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    with contextlib.suppress(OSError, IndexError):
        stat = (_PROC / str(pid) / "stat").read_text(errors="replace")
        return stat.rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def marked(name: str, value: str) -> list[int]:
    """The living processes, other than this one, that began with this environment variable."""
    mark = f"{name}={value}".encode()
    found: list[int] = []
    with contextlib.suppress(OSError):
        for entry in _PROC.iterdir():
            if entry.name.isdecimal() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(int(entry.name))
    return found


def kill_all(find: Callable[[], Iterable[int]]) -> list[Killed]:
    """Kills what is found, and looks again until nothing new is found. Never waits.

    A process that is about to die starts no others, so this comes to an end.
    """
    killed: dict[int, Killed] = {}
    while new := [pid for pid in find() if pid not in killed]:
        for pid in new:
            killed[pid] = Killed(pid, _command(pid))
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return list(killed.values())


def kill_tree(pid: int) -> list[Killed]:
    """Kills the leader of a group, with its group and all that descends from it, which is returned.

    Never waits.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGSTOP)  # or it would start more while we look
    killed = kill_all(lambda: descendants(pid))
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            end(pid, signal.SIGKILL)
    return killed


def _command(pid: int) -> str:
    process = _PROC / str(pid)
    with contextlib.suppress(OSError):
        line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        name = (process / "comm").read_text(errors="replace").strip()
        return line.strip()[:_MAX_COMMAND] or f"[{name}]"
    return ""
