"""`python -m pullcord.worker FD`: a worker process at the other end of a socket.

The control process starts it and nobody else. It says hello, is told what to import, reports what
that serves, and executes until the socket closes.
"""

import dataclasses
import faulthandler
import gc
import json
import logging
import resource
import signal
import socket
import sys
import threading
import traceback

from pullcord.engine.clock import ThreadClock
from pullcord.engine.options import EngineOptions
from pullcord.link import frames_pb2 as pb
from pullcord.run import place
from pullcord.worker.host import Host
from pullcord.worker.link import Link

_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that computes lets another have the interpreter: a stop of another
run, and the link, wait for no longer than that for each thread that computes."""


def main() -> None:
    """Serves the control process at the socket whose file descriptor is the first argument."""
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)  # a command that a tool starts must not hold the link open
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a process that dumps core looks alive
    faulthandler.enable()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are text files
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the control process decides when runs stop
    sys.setswitchinterval(_SWITCH_INTERVAL)
    link = Link(sock)
    hello: list[pb.Hello] = []
    greeted = threading.Event()
    host: list[Host] = []

    def handle(frame: pb.DownFrame) -> None:
        if host:
            host[0].handle(frame)
        elif frame.WhichOneof("frame") == "hello":
            hello.append(frame.hello)
            host.append(_host(link, frame.hello))
            greeted.set()

    link.read(handle)
    greeted.wait()
    _prepare(host[0], hello[0], link)
    threading.Event().wait()  # the link's thread ends this process


def _host(link: Link, hello: pb.Hello) -> Host:
    known = {field.name for field in dataclasses.fields(EngineOptions)}
    given = {k: v for k, v in json.loads(hello.options).items() if k in known}
    host = Host(link, EngineOptions(**given), ThreadClock())
    place.default = host.runs
    return host


def _prepare(host: Host, hello: pb.Hello, link: Link) -> None:
    from pullcord.telemetry import configure_logging

    configure_logging(hello.log_level, hello.log_json)
    try:
        from pullcord.worker.loading import TargetError, find_server

        try:
            server = find_server(hello.target)
            server.begin_in_worker()
        except TargetError as error:
            _unready(link, str(error))
            return
        except BaseException:
            words = traceback.format_exc()
            _unready(link, words)
            return
        gc.collect()
        gc.freeze()
        host.ready(server.catalog)
    except Exception:
        logging.getLogger("pullcord.worker").exception("the worker could not begin")
        raise


def _unready(link: Link, words: str) -> None:
    link.outbox.put(None, pb.UpFrame(unready=pb.Unready(words=words[-64 * 1024 :])))


if __name__ == "__main__":
    main()
