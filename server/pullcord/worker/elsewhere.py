"""A worker behind a network: it opens the link, and starts the worker process at the end of it.

The link has a process of its own, so that it is answered, and its end seen, also while code holds
the worker's interpreter. What a worker process does is the same as on the server's machine.
"""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path

from pullcord.executors.processes import WORKER_MARK, kill_all, kill_tree, marked
from pullcord.executors.workers.guardian import Guardian
from pullcord.executors.workers.process import ROOT
from pullcord.link.greeting import CONNECT, SECRET, SECRET_FILE, LinkRefused, Ticket, call
from pullcord.link.lease import Pace, now
from pullcord.link.relay import Ended, Relay
from pullcord.link.session import SessionTorn
from pullcord.worker.returning import Returning

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
    """Executes runs until the session or the worker ends; returns the exit code for this process.

    Raises LinkRefused, or OSError where nobody is there. Dies of the signal that the worker died
    of.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        # The server decides when runs stop, also where a cluster sends SIGTERM to every process.
        signal.signal(number, lambda *_: None)
    code = execute_elsewhere(target, host, port, ticket)
    if code < 0:
        with contextlib.suppress(OSError):  # SIGKILL has no handler that could be reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def execute_elsewhere(target: str, host: str, port: int, ticket: Ticket) -> int:
    """Executes runs until the session or the worker ends; returns the worker's exit code, or the
    number of the signal that it died of, below 0.

    Raises LinkRefused, or OSError where nobody is there.
    """
    since = now()
    first, member = call(host, port, ticket)
    os.environ.pop(CONNECT, None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a process that dumps core looks alive
    mark = uuid.uuid4().hex
    guardian = Guardian(ROOT)  # for the case that this process is killed, or frozen
    guardian.open()
    ours, theirs = socket.socketpair()
    returning = Returning((host, port), member)
    pace = Pace(member.lease)
    late = pace.guarded - pace.lease
    link = Relay(
        ours,
        pace,
        call=returning.begin,
        held=lambda ends: guardian.hold(ends + late),
        since=since,
    )
    link.doorstep.hand_in(first)
    returning.door = link.doorstep
    try:
        code = _serve(link, theirs, target, guardian, mark)
    finally:
        ours.close()
        guardian.close()
    if code != 0:
        kill_all(lambda: marked(WORKER_MARK, mark))
    return code


def _serve(link: Relay, sock: socket.socket, target: str, guardian: Guardian, mark: str) -> int:
    """The exit code of the worker process, or 1 if it was the session that ended."""
    with sock:
        worker = subprocess.Popen(
            [sys.executable, "-m", "pullcord.worker", str(sock.fileno()), target],
            stdin=subprocess.DEVNULL,
            pass_fds=[sock.fileno()],
            start_new_session=True,
            env=os.environ | {WORKER_MARK: mark},
        )
    guardian.watch(worker.pid, mark)
    exits = os.pidfd_open(worker.pid) if hasattr(os, "pidfd_open") else None
    why = "the link to the server has ended"
    try:
        ended = link.run({} if exits is None else {exits: _REST})
    except SessionTorn as error:
        ended, why = Ended.THERE, f"the server sent what cannot be read: {error}"
    if exits is not None:
        os.close(exits)
    if ended is Ended.HERE or worker.poll() is not None:
        link.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return worker.wait(_REST)
    kill_tree(worker.pid)  # first of all: from now on nobody hears what its runs do
    link.close()
    worker.wait()
    if ended is Ended.REFUSED:
        why = link.doorstep.refusal
    elif ended is Ended.LEASE:
        why = "the server could not be reached within the lease of the link"
    with contextlib.suppress(OSError):
        print(f"pullcord: {why}; the worker has ended with its runs", file=sys.stderr)
    return 1
