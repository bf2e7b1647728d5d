"""A worker behind a network: it opens the link, and starts the worker process at the end of it.

The link has a process of its own, so that its end is seen also while code holds the interpreter.
What a worker process does is the same as on the server's machine.
"""

import contextlib
import os
import resource
import signal
import socket
import ssl
import subprocess
import sys
import uuid
from pathlib import Path

from pullcord.executors.processes import WORKER_MARK, kill_all, kill_tree, marked
from pullcord.executors.workers.guardian import Guardian
from pullcord.executors.workers.process import ROOT
from pullcord.link.greeting import CONNECT, SECRET, SECRET_FILE, LinkRefused, Ticket, call
from pullcord.link.relay import farewell, relay

_REST = 2.0
"""Seconds for the last words of a worker process whose socket something else still holds."""


def ticket_given() -> Ticket:
    """What the environment gives to this process; its code will not find it there.

    Raises LinkRefused, and OSError for a file that cannot be read.
    """
    text, file = os.environ.pop(SECRET, ""), os.environ.pop(SECRET_FILE, "")
    if not text and not file:
        raise LinkRefused(
            f"{SECRET} is not set: `pullcord serve --worker-command` gives it to its command"
        )
    return Ticket.of(text or Path(file).read_text())


def serve_elsewhere(target: str, host: str, port: int, ticket: Ticket) -> int:
    """Executes runs until the link or the worker ends; returns the exit code for this process.

    Raises LinkRefused, or OSError where nobody is there. Dies of the signal that the worker died
    of.
    """
    link = call(host, port, ticket)
    os.environ.pop(CONNECT, None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a process that dumps core looks alive
    for number in (signal.SIGINT, signal.SIGTERM):
        # The server decides when runs stop, also where a cluster sends SIGTERM to every process.
        signal.signal(number, lambda *_: None)
    mark = uuid.uuid4().hex
    guardian = Guardian(ROOT)  # for the case that this process is killed
    guardian.open()
    try:
        code = _serve(link, target, guardian, mark)
    finally:
        guardian.close()
    if code != 0:
        kill_all(lambda: marked(WORKER_MARK, mark))
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler that could be reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def _serve(link: ssl.SSLSocket, target: str, guardian: Guardian, mark: str) -> int:
    """The exit code of the worker process, or 1 if it was the link that ended."""
    ours, theirs = socket.socketpair()
    with theirs:
        worker = subprocess.Popen(
            [sys.executable, "-m", "pullcord.worker", str(theirs.fileno()), target],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=os.environ | {WORKER_MARK: mark},
        )
    guardian.watch(worker.pid, mark)
    exits = os.pidfd_open(worker.pid) if hasattr(os, "pidfd_open") else None
    is_over = relay(link, ours, {} if exits is None else {exits: _REST})
    farewell(link)
    ours.close()
    if exits is not None:
        os.close(exits)
    if is_over or worker.poll() is not None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return worker.wait(_REST)
    kill_tree(worker.pid)
    worker.wait()
    print("pullcord: the link to the server has ended, and the worker with it", file=sys.stderr)
    return 1
