"""`python -m pullcord.worker FD [TARGET]`: a worker process at the other end of a socket.

The control process starts it and nobody else. It says hello, is told what to import, reports what
that serves, and executes until the socket closes.
"""

import dataclasses
import faulthandler
import gc
import itertools
import json
import logging
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path

from pullcord import lines
from pullcord.engine.clock import ThreadClock
from pullcord.engine.options import EngineOptions
from pullcord.executors.processes import adopt_orphans, descendants, kill_all
from pullcord.hooks import Hook, call_hooks
from pullcord.link import frames_pb2 as pb
from pullcord.link.values import IMPORT_SHOWN_AFTER
from pullcord.run import place
from pullcord.run.disclosure import Disclosure
from pullcord.worker.collecting import collect_aside
from pullcord.worker.debugging import refuse_terminals
from pullcord.worker.host import Host
from pullcord.worker.link import Link

_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that computes lets another have the interpreter: a stop of another
run, and the link, wait for no longer than that for each thread that computes."""


_OURS = str(Path(__file__).parents[1])


def main() -> None:
    """Serves the control process at the socket whose file descriptor is the first argument.

    The second, if there is one, is what to import, whatever the control process says: the module
    may be elsewhere here.
    """
    target = sys.argv[2] if len(sys.argv) > 2 else ""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)  # a command that a tool starts must not hold the link open
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a process that dumps core looks alive
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are text files
    for number in (signal.SIGINT, signal.SIGTERM):
        # The control process decides when runs stop, also where a service manager sends SIGTERM to
        # every process. Not SIG_IGN, which the commands of tools would inherit.
        signal.signal(number, lambda *_: None)
    refuse_terminals()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    link = Link(sock)
    hello: list[pb.Hello] = []
    greeted = threading.Event()
    host: list[Host] = []

    def handle(frame: pb.DownFrame) -> None:
        if host:
            host[0].handle(frame)
        elif frame.WhichOneof("frame") == "hello":
            if frame.hello.exclusive:
                adopt_orphans()
            frame.hello.target = target or frame.hello.target
            hello.append(frame.hello)
            host.append(_host(link, frame.hello))
            greeted.set()

    link.read(handle)
    greeted.wait()
    ending = _prepare(host[0], hello[0], link)
    host[0].leaving.wait()  # or the link's thread ends this process
    try:
        call_hooks(ending)
    except BaseException:
        logging.getLogger("pullcord.worker").exception("a shutdown hook raised")
    kill_all(lambda: descendants(os.getpid()))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    lines.stderr().flush(lines.EXIT)
    os._exit(0)  # also where threads of an author's do not end


def _host(link: Link, hello: pb.Hello) -> Host:
    known = {field.name for field in dataclasses.fields(EngineOptions)}
    given = {k: v for k, v in json.loads(hello.options).items() if k in known}
    disclosure = Disclosure(hello.disclosure or Disclosure.FULL)
    host = Host(link, EngineOptions(**given), ThreadClock(), disclosure)
    place.default = host.runs
    return host


def _prepare(host: Host, hello: pb.Hello, link: Link) -> Sequence[Hook]:
    """Imports what is served and reports it; returns the hooks for the end."""
    from pullcord.telemetry import configure_logging

    configure_logging(hello.log_level, hello.log_json)
    try:
        from pullcord.settings import SettingsError
        from pullcord.worker.loading import TargetError, find_server

        faulthandler.dump_traceback_later(IMPORT_SHOWN_AFTER)  # unless that is over before
        try:
            server = find_server(hello.target)
            server.begin_in_worker()
        except (TargetError, SettingsError) as error:
            _unready(link, str(error))
            return ()
        except BaseException:
            _unready(link, _authors_traceback())
            return ()
        finally:
            faulthandler.cancel_dump_traceback_later()
        gc.collect()
        gc.freeze()
        collect_aside()
        if hello.exclusive:
            host.executor.serve_one_tree()
        host.ready(server.catalog)
        return server.on_shutdown
    except Exception:
        logging.getLogger("pullcord.worker").exception("the worker could not begin")
        raise


def _authors_traceback() -> str:
    """The traceback of what is raised now, without the frames that lead to the author's module."""
    error = sys.exception() if sys.version_info >= (3, 12) else sys.exc_info()[1]
    assert error is not None
    told = traceback.TracebackException.from_exception(error)
    leading = itertools.takewhile(_is_ours, told.stack)
    told.stack = traceback.StackSummary.from_list(told.stack[sum(1 for _ in leading) :])
    return "".join(told.format())


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith((_OURS, "<frozen importlib")) or (
        frame.filename.endswith("importlib/__init__.py")
    )


def _unready(link: Link, words: str) -> None:
    link.outbox.put(None, pb.UpFrame(unready=pb.Unready(words=words[-64 * 1024 :])))


if __name__ == "__main__":
    main()
