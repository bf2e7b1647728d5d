"""`python -m pullcord.executors.guard FD`: ends the workers of a process that has died, or that has
not said in time that it goes on.

A worker ends by itself once its link is closed, but code that holds its interpreter keeps it from
noticing. So this small process waits for the end of the one that started it, too, and kills what is
left. It imports next to nothing, decides nothing, and ends with that process.
"""

import contextlib
import math
import os
import signal
import socket
import sys

from pullcord.executors.processes import WORKER_MARK, kill_all, kill_tree, marked
from pullcord.link.lease import now

HELD = "held"
"""The word before the time at which the workers end, unless a later one is said."""
_LOOK = 1.0
"""Seconds between two looks at the time, at most: a wait stands still while the machine does."""


def main() -> None:
    """Reads a line for each worker that begins or has ended, until the socket is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to all processes, while workers still end
    workers: dict[int, str] = {}
    sock = socket.socket(fileno=int(sys.argv[1]))
    ends, begun = math.inf, b""
    with contextlib.suppress(OSError):
        while True:
            sock.settimeout(max(0.0, min(ends - now(), _LOOK)) if ends < math.inf else None)
            try:
                data = sock.recv(4096)
            except (TimeoutError, BlockingIOError):  # all that was said is heard
                if now() >= ends:
                    break
                continue
            if not data:
                break
            *lines, begun = (begun + data).split(b"\n")
            for line in lines:
                word, value = line.decode().split()
                if word == HELD:
                    ends = float(value)
                elif value == "-":
                    workers.pop(int(word), None)
                else:
                    workers[int(word)] = value
    for pid, mark in workers.items():
        end_worker(pid, mark)


def end_worker(pid: int, mark: str) -> None:
    """Kills a worker with all that it started: its group, its descendants, what bears its mark."""
    if sys.platform != "linux" or pid in marked(WORKER_MARK, mark):  # else its id is another's now
        kill_tree(pid)
    kill_all(lambda: marked(WORKER_MARK, mark))


if __name__ == "__main__":
    main()
    os._exit(0)
