"""The worker's end of the link: questions and their answers, and the thread that reads frames.

What the frames mean is for `host` and `port`; this file only knows who waits for which answer.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from pullcord.executors.processes import descendants, kill_all
from pullcord.link import frames_pb2 as pb
from pullcord.link.framing import MAX_MESSAGE, Deframer
from pullcord.link.values import refusal_of
from pullcord.run.errors import InvalidArgument, RunCancelledError, Violation
from pullcord.worker.outbox import Outbox
from pullcord.worker.port import LinkPort

_log = logging.getLogger("pullcord.worker")

_SLICE = 0.1
"""Seconds that a thread waits at a stretch where an interrupt must be able to reach it."""

_MOST = MAX_MESSAGE // 2
"""Bytes of a question, such as one that starts a run with its input. Whoever answers may allow
less, and then says of which field."""

Answered = Callable[[pb.Answer], None]


class Link:
    """The connection to the control process. When that goes, this process and its group end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.outbox = Outbox(sock)
        self._is_cut = False
        os.register_at_fork(after_in_child=self._cut)
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._waiting: dict[int, Answered] = {}

    def _cut(self) -> None:
        """In a process that an author forks: it must not speak for this one."""
        self._is_cut = True
        self._sock.close()
        self.outbox.forget()

    def read(self, handle: Callable[[pb.DownFrame], None]) -> None:
        """Reads frames in a thread of its own, and hands over all that are no answers."""
        threading.Thread(
            target=self._read, args=(handle,), name="pullcord-link-in", daemon=True
        ).start()

    def _read(self, handle: Callable[[pb.DownFrame], None]) -> None:
        deframer = Deframer()
        try:
            while data := self._sock.recv(256 * 1024):
                for message in deframer.feed(data):
                    for frame in pb.Down.FromString(message).frames:
                        if frame.WhichOneof("frame") == "answer":
                            self._answered(frame.answer)
                        else:
                            handle(frame)
        except OSError:
            pass
        finally:
            # Without its control process a worker's work reaches nobody: neither it nor what its
            # tools have started may go on.
            kill_all(lambda: descendants(os.getpid()))
            os.killpg(0, signal.SIGKILL)

    def _answered(self, answer: pb.Answer) -> None:
        with self._lock:
            then = self._waiting.pop(answer.id, None)
        if then is not None:
            try:
                then(answer)
            except Exception:  # the thread that reads must go on
                _log.exception("an answer of the control process could not be handed over")

    def ask_then(self, port: "LinkPort | None", frame: pb.UpFrame, then: Answered) -> None:
        """Asks, and calls `then` with the answer, in the thread that reads.

        Raises InvalidArgument for more than any message may hold, and RuntimeError in a process
        that was forked: nobody would answer.
        """
        if (size := frame.ByteSize()) > _MOST:
            words = f"what is asked for must be at most {_MOST} bytes in all, and has {size}"
            raise InvalidArgument(Violation("", words))
        if self._is_cut:
            raise RuntimeError("a process that a run forks cannot act for it: use ctx.run_process")
        with self._lock:
            frame.ask.id = next(self._ids)
            self._waiting[frame.ask.id] = then
        if port is not None:
            frame.ask.run = port.number
        self.outbox.put(port, frame)
        self.outbox.flush()

    def ask(self, port: "LinkPort | None", frame: pb.UpFrame) -> pb.Answer:
        """Asks, and blocks this thread until the answer has come.

        Raises what the control process raised, and RunCancelledError where the run must stop.
        """
        answers: SimpleQueue[pb.Answer] = SimpleQueue()
        self.ask_then(port, frame, answers.put)
        return checked(answers.get())

    def ask_interruptibly(self, frame: pb.UpFrame) -> pb.Answer:
        """As `ask`, but for a long wait, which an interrupt can end."""
        answers: SimpleQueue[pb.Answer] = SimpleQueue()
        self.ask_then(None, frame, answers.put)
        while True:
            with contextlib.suppress(Empty):
                return checked(answers.get(timeout=_SLICE))

    async def ask_async(self, port: "LinkPort | None", frame: pb.UpFrame) -> pb.Answer:
        """As `ask`, without blocking the loop."""
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[pb.Answer] = loop.create_future()

        def settle(answer: pb.Answer) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle, answered, answer)

        self.ask_then(port, frame, settle)
        return checked(await answered)


def _settle(answered: "asyncio.Future[pb.Answer]", answer: pb.Answer) -> None:
    if not answered.done():
        answered.set_result(answer)


def checked(answer: pb.Answer) -> pb.Answer:
    """Returns the answer; raises the error of a refusal."""
    if answer.must_stop:
        raise RunCancelledError("the run must stop, or has ended: nothing more begins")
    if answer.HasField("refusal"):
        raise refusal_of(answer.refusal)
    return answer
