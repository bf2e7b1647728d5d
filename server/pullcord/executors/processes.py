"""Processes as the system shows them: which descend from one, which bear a mark, and their end.

Linux tells all of it in /proc; elsewhere nothing is found. Whose processes they are, and when they
must end, is not known here.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from pullcord.run.killed import MAX_NAME, KilledProcess

WORKER_MARK = "PULLCORD_WORKER"
"""An environment variable that all processes have which descend from one worker."""
RUN_MARK = "PULLCORD_RUN"
"""Likewise, for the commands of one run."""

_PR_SET_CHILD_SUBREAPER = 36
_PROC = Path("/proc")
_MAX_COMMAND = 200


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


def kill_all(find: Callable[[], Iterable[int]]) -> list[KilledProcess]:
    """Kills what is found, and looks again until nothing new is found. Never waits.

    A process that is about to die starts no others, so this comes to an end.
    """
    killed: dict[int, KilledProcess] = {}
    while new := [pid for pid in find() if pid not in killed]:
        for pid in new:
            killed[pid] = _shown(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
    return list(killed.values())


def kill_tree(pid: int) -> list[KilledProcess]:
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


def _shown(pid: int) -> KilledProcess:
    """The details of a process that are reported before it is killed."""
    process = _PROC / str(pid)
    name = command = ""
    with contextlib.suppress(OSError):
        name = (process / "comm").read_text(errors="replace").strip()[:MAX_NAME]
        line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        command = line.strip()[:_MAX_COMMAND] or f"[{name}]"
    return KilledProcess(pid, name, command)
