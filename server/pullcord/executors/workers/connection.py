"""The link to one worker, on the control side: frames in and out, and who is assigned to it.

Frames of a run that is no longer assigned here are dropped. Which worker a run is given to, and
when a worker is killed, is the pool's business; questions are answered in `answers`.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pullcord.executors.workers.execution import RemoteExecution
from pullcord.executors.workers.kinds import Kind
from pullcord.executors.workers.launcher import Worker
from pullcord.link import frames_pb2 as pb
from pullcord.link.framing import Deframer, head
from pullcord.link.large import start_frame
from pullcord.link.values import (
    data_bytes,
    fill_resumed,
    fill_spec,
    handed_of,
    happened_of,
    model_call_of,
    stop_frame,
)
from pullcord.run.cancel import Cancellation
from pullcord.run.killed import KilledProcess
from pullcord.run.port import Failure
from pullcord.wire.enums import FINISH_REASON
from pullcord.wire.event import source_of
from pullcord.wire.run import error_of, tool_call_of, usage_of
from pullcord.wire.values import StructData

if TYPE_CHECKING:
    from pullcord.executors.workers.answers import Answers
    from pullcord.executors.workers.pool import WorkerExecutor

_log = logging.getLogger("pullcord.workers")

_READ = 256 * 1024
"""Bytes taken of a socket in one turn of the loop, so that a flood delays nobody else."""
_AT_ONCE = 64
"""Pieces that one system call sends."""
_LOOK_AGAIN = 0.001
"""Seconds between two looks at how a dead process died."""
FULL = 4 * 1024 * 1024
"""Bytes that wait for a worker which is busy reading; until it has, it is given no more runs."""
MAX_UNSENT = 256 * 1024 * 1024
"""Bytes that wait for a worker which does not read; more than that, and it is killed."""


class Connection:
    """One worker and the runs that are assigned to it. Used on the pool's loop only."""

    def __init__(
        self,
        pool: "WorkerExecutor",
        process: Worker,
        *,
        kind: Kind,
        on_output: Callable[[str, int, bytes], None],
    ) -> None:
        """`kind`: which runs may be assigned to it."""
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self.process = process
        self.kind = kind
        self.exclusive = kind.exclusive
        """Whether it executes one tree of runs, and ends with that."""
        self._on_output = on_output
        self.runs: dict[int, RemoteExecution] = {}
        """By assignment; also those whose run is over while their code still holds something."""
        self.ready = False
        self.was_passed_over = False
        """Whether it was given no run because its link is cut: one may wait for it to be back."""
        self.used = False
        """Whether a run was ever assigned to it."""
        self.generation = 0
        """Which state of the author's files it has imported."""
        self.retiring = ""
        """Why it takes no new runs; empty: it does."""
        self.asked_at = self.started_at = time.monotonic()
        """When it was asked for, and when it came, as far as is known."""
        self.answers: Answers = pool.answers(self)
        self._deframer = Deframer()
        self._unsent: deque[memoryview] = deque()
        self._unsent_bytes = 0
        self._dead = False
        self._loop.add_reader(process.sock.fileno(), self._read)
        self._loop.add_reader(process.exit_fd, self._died)
        for name, fd in (("stdout", process.stdout), ("stderr", process.stderr)):
            self._loop.add_reader(fd, self._pass_on, name, fd)

    def post(self, call: Callable[[], None]) -> None:
        """Makes a call on the loop, from any thread."""
        self._pool.post(call)

    @property
    def takes_runs(self) -> bool:
        """Whether a new run may be assigned to it."""
        if not self.ready or self.retiring or self._dead:
            return False
        if self.process.is_cut:
            self.was_passed_over = True
            return False
        return True

    @property
    def is_being_left(self) -> bool:
        """Whether all its runs wait elsewhere, and their code is about to end."""
        return bool(self.runs) and all(run.is_leaving for run in self.runs.values())

    @property
    def is_full(self) -> bool:
        """Whether so much waits to be sent that further runs wait, too."""
        return self._unsent_bytes > FULL

    # --- out

    def send(self, frame: pb.DownFrame) -> None:
        """Sends a frame; never waits."""
        self._send([pb.Down(frames=[frame]).SerializeToString()])

    def _send(self, message: list[bytes]) -> None:
        """Sends a message, in pieces."""
        if self._dead:
            return
        is_first = not self._unsent
        for piece in (head(sum(map(len, message))), *message):
            self._unsent.append(memoryview(piece))
            self._unsent_bytes += len(piece)
        if is_first and not self._has_sent():
            self._loop.add_writer(self.process.sock.fileno(), self._write)
        if self._unsent_bytes > MAX_UNSENT:
            self._pool.kill(self, "it does not read what it is sent")

    def _write(self) -> None:
        was_full = self.is_full
        if self._has_sent():
            self._loop.remove_writer(self.process.sock.fileno())
        if was_full and not self.is_full:
            self._pool.has_room()

    def _has_sent(self) -> bool:
        """Sends as much as the socket takes; whether that was all."""
        try:
            while self._unsent:
                sent = self.process.sock.sendmsg(itertools.islice(self._unsent, _AT_ONCE))
                self._unsent_bytes -= sent
                while self._unsent and sent >= len(self._unsent[0]):
                    sent -= len(self._unsent.popleft())
                if sent:
                    self._unsent[0] = self._unsent[0][sent:]
        except BlockingIOError:
            return False
        except OSError:  # it is dead: what it has said is still read, then its death is seen
            self._unsent.clear()
            self._unsent_bytes = 0
        return True

    def start(self, execution: RemoteExecution, number: int, key: int) -> None:
        """Assigns a run to this worker; with a key, one that code there asked to start."""
        execution.number = number
        execution.connection = self
        execution.assigned_at = time.monotonic()
        self.runs[number] = execution
        self.used = True
        spec = execution.port.spec
        start = pb.Start(run=number, key=key)
        fill_spec(start.spec, spec, with_input=False)
        if not key and (data := data_bytes(spec.input_data)) is not None:
            start.data = data
        if execution.parent is not None and execution.parent.connection is self:
            start.parent = execution.parent.number
        start.trace.update(execution.trace)
        start.tenant, start.owner = execution.port.scope
        if (resumed := execution.port.resumed) is not None:
            fill_resumed(start.resumed, resumed)
        self._send(start_frame(start, None if key else spec))

    def leave(self) -> None:
        """The worker has no run any more, and must end by itself."""
        self.send(pb.DownFrame(leave=True))

    def drop(self, execution: RemoteExecution) -> None:
        """The run must not begin."""
        self.send(pb.DownFrame(drop=execution.number))

    def stop(
        self, execution: RemoteExecution, cancellation: Cancellation, grace_period: float | None
    ) -> None:
        """Delivers a stop to the run's code."""
        self.send(stop_frame(execution.number, cancellation, grace_period))

    # --- in

    def _read(self) -> bool:
        """Takes what has come, a bounded part of it; whether there may be more."""
        try:
            data = self.process.sock.recv(_READ)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(self.process.sock.fileno())
            return False
        try:
            for message in self._deframer.feed(data):
                for frame in pb.Up.FromString(message).frames:
                    self._take(frame)
        except Exception:  # no code of ours sends this: the worker's memory is torn
            _log.exception("worker %d sent what cannot be read", self.process.pid)
            self._pool.kill(self, "it sent what cannot be read")
            return False
        return True

    def _take(self, frame: pb.UpFrame) -> None:
        kind = frame.WhichOneof("frame")
        if kind == "texts":  # the hot path
            texts, runs = frame.texts, self.runs
            for number, text in zip(texts.runs, texts.texts, strict=True):
                execution = runs.get(number)
                if execution is not None:
                    execution.write(text)
            return
        if kind is None:
            return
        part = getattr(frame, kind)
        of_run = _OF_RUN.get(kind)
        if of_run is not None:
            execution = self.runs.get(part if isinstance(part, int) else part.run)
            if execution is not None and (not execution.rests or kind in _LEAVES):
                of_run(self, execution, part)
        elif kind == "ask":
            self.answers.answer(part)
        elif kind == "taken_back":
            self.answers.take_back(part)
        elif kind == "closed":
            self.answers.close_watch(part)
        elif kind == "pong":
            self._pool.ponged(self, part)
        elif kind == "ready":
            self._pool.became_ready(self, part)
        elif kind == "unready":
            self._pool.became_unready(self, part.words)
        elif kind == "stalled":
            ids = {execution.port.run_id for execution in self.runs.values()}
            run_id = part.run_id if part.run_id in ids else ""
            self._pool.stalled(run_id, part.seconds, part.stack)

    def _said(self, execution: RemoteExecution, said: pb.Said) -> None:
        source = source_of(said.source) if said.HasField("source") else None
        execution.port.write_all(said.text, said.lengths, source, said.reasoning)

    def _used(self, execution: RemoteExecution, used: pb.Used) -> None:
        execution.port.use(usage_of(used.usage))

    def _emitted(self, execution: RemoteExecution, happened: pb.Happened) -> None:
        execution.port.emit(*happened_of(happened))

    def _relayed(self, execution: RemoteExecution, happened: pb.Happened) -> None:
        execution.port.relay(*happened_of(happened))

    def _output(self, execution: RemoteExecution, output: pb.Output) -> None:
        execution.port.set_output(
            output.text if output.HasField("text") else None,
            StructData(output.data) if output.HasField("data") else None,
        )

        if (reason := FINISH_REASON.find(output.finish_reason)) is not None:
            execution.port.set_finish_reason(reason)

    def _killed(self, execution: RemoteExecution, killed: pb.Killed) -> None:
        execution.port.processes_killed(
            [KilledProcess(one.pid, one.name, one.command) for one in killed.processes]
        )

    def _model_called(self, execution: RemoteExecution, called: pb.ModelCalled) -> None:
        execution.port.model_called(model_call_of(called))

    def _hands_over(self, execution: RemoteExecution, handed: pb.HandsOver) -> None:
        execution.port.hands_over(handed_of(handed.handed))
        self.asked()

    def _tool_ended(self, execution: RemoteExecution, ended: pb.ToolEnded) -> None:
        execution.port.tool_ended(tool_call_of(ended.call))

    def _delivered(self, execution: RemoteExecution, _: int) -> None:
        execution.port.delivered()

    def _stuck(self, execution: RemoteExecution, _: int) -> None:
        execution.port.stuck()

    def _released(self, execution: RemoteExecution, number: int) -> None:
        execution.release()
        if execution.ended or not execution.begun:
            self._forget(execution)

    def _ended(self, execution: RemoteExecution, ended: pb.Ended) -> None:
        failure: Failure | None = None
        if ended.HasField("error"):
            failure = Failure(error_of(ended.error), ended.is_cancel)
        execution.end(failure, ended.left)
        if ended.left and not execution.released:
            self._pool.run_lingers(self)
        else:
            self._forget(execution)

    def _forget(self, execution: RemoteExecution) -> None:
        self.runs.pop(execution.number, None)
        self.answers.left(execution)
        self._pool.run_left(self)

    def _pass_on(self, name: str, fd: int) -> None:
        try:
            data = os.read(fd, 64 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._loop.remove_reader(fd)
        self._on_output(name, self.process.pid, data)

    def asked(self) -> None:
        """A run is about to wait for a decision: others may need the worker meanwhile."""
        if self.kind.resources is not None:
            self._pool.loop_soon(self._pool.placing.assign)

    # --- the end

    def hear_out(self) -> None:
        """It was killed and says nothing more: what is in the socket is read, then its runs end."""
        if self._dead:
            return  # that ends them as well
        if self._read():
            self._loop.call_soon(self.hear_out)
        elif words := self._pool.how_killed(self):
            self._pool.bury_runs(self, words)

    def _died(self) -> None:
        """Its process has ended; what is still in the socket is read before anybody is told."""
        if not self._dead:
            self._dead = True
            self._loop.remove_reader(self.process.exit_fd)
            with contextlib.suppress(Exception):
                self._loop.remove_writer(self.process.sock.fileno())
        if self._read():
            self._loop.call_soon(self._died)
            return
        for fd in (self.process.sock.fileno(), self.process.stdout, self.process.stderr):
            self._loop.remove_reader(fd)
        for name, fd in (("stdout", self.process.stdout), ("stderr", self.process.stderr)):
            self._drain(name, fd)
        words = self.process.died() or self._pool.how_killed(self)
        if not words:
            self._loop.call_later(_LOOK_AGAIN, self._died)
            return
        self.process.close()
        self._pool.died(self, words)
        self.process.bury()  # last: the ends of its runs do not wait for that

    def _drain(self, name: str, fd: int) -> None:
        with contextlib.suppress(OSError):
            for _ in range(16):
                data = os.read(fd, 64 * 1024)
                self._on_output(name, self.process.pid, data)
                if not data:
                    return


_LEAVES = {"ended", "released"}
"""Frames that are still taken of an execution whose run waits without it."""
_OF_RUN: dict[str, Callable[[Connection, RemoteExecution, Any], None]] = {
    "said": Connection._said,
    "used": Connection._used,
    "emitted": Connection._emitted,
    "relayed": Connection._relayed,
    "output": Connection._output,
    "killed": Connection._killed,
    "tool_ended": Connection._tool_ended,
    "model_called": Connection._model_called,
    "hands_over": Connection._hands_over,
    "delivered": Connection._delivered,
    "stuck": Connection._stuck,
    "released": Connection._released,
    "ended": Connection._ended,
}
"""What each frame of a run does."""
