"""`python -m pullcord.executors.guard FD`: ends the workers of a control process that has died.

A worker ends by itself once its link is closed, but code that holds its interpreter keeps it from
noticing. So this small process waits for the end of its control process, too, and kills what is
left. It imports next to nothing, decides nothing, and ends with its control process.
"""

import contextlib
import os
import signal
import socket
import sys

from pullcord.executors.processes import WORKER_MARK, kill_all, kill_tree, marked


def main() -> None:
    """Reads a line for each worker that begins or has ended, until the socket is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # sent to all processes, while workers still end
    workers: dict[int, str] = {}
    lines = socket.socket(fileno=int(sys.argv[1])).makefile()
    with contextlib.suppress(OSError):
        for line in lines:
            worker, mark = line.split()
            workers[int(worker)] = mark
            if mark == "-":
                del workers[int(worker)]
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
