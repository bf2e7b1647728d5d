"""The host of a worker's runs: frames in, executions out.

It starts code where the control process says so, delivers stops, and forgets a run once its code is
gone. It decides nothing about a run.
"""

import asyncio
import contextvars
import itertools
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from pullcord.engine.catalog import Catalog
from pullcord.engine.clock import Clock
from pullcord.engine.options import EngineOptions
from pullcord.executors.local import LocalExecutor
from pullcord.link import frames_pb2 as pb
from pullcord.link.values import VERSION, fill_offer, resumed_of, spec_of, stop_of
from pullcord.run.disclosure import Disclosure
from pullcord.run.errors import RunnableNotFound
from pullcord.run.message import Given
from pullcord.run.port import Failure
from pullcord.run.runnable import Runnable
from pullcord.run.scope import LOCAL, Scope
from pullcord.run.usage import Usage
from pullcord.worker.port import LinkPort
from pullcord.worker.runs import LinkRuns

if TYPE_CHECKING:
    from pullcord.worker.link import Link

_log = logging.getLogger("pullcord.worker")


@dataclass(frozen=True, slots=True)
class _Expected:
    """A run that code here wants started; the object and its input need not travel."""

    runnable: Runnable
    given: Given
    loop: asyncio.AbstractEventLoop | None
    context: contextvars.Context
    """Of the asking code, so that its trace goes on."""


class Host:
    """The runs of this worker. Frames are handled in the thread that reads the link."""

    def __init__(
        self,
        link: "Link",
        options: EngineOptions,
        clock: Clock,
        disclosure: Disclosure = Disclosure.FULL,
    ) -> None:
        """`disclosure`: how much callers see of the errors of runs."""
        self._link = link
        self.max_continuation = options.max_continuation_bytes
        self.executor = LocalExecutor(
            options, clock, self._stalled, disclosure=disclosure, in_worker=True
        )
        self.runs = LinkRuns(self, link, LOCAL)
        """What code outside every run reaches."""
        self.leaving = threading.Event()
        """Set when this process must end: it has no run any more."""
        self._catalog: Catalog | None = None
        self._lock = threading.Lock()
        self._ports: dict[int, LinkPort] = {}
        self._keys = itertools.count(1)
        self._expected: dict[int, _Expected] = {}

    def ready(self, catalog: Catalog) -> None:
        """Reports what is served; runs come from now on."""
        self._catalog = catalog
        frame = pb.UpFrame()
        frame.ready.version = VERSION
        for info in catalog.all():
            fill_offer(frame.ready.offers.add(), catalog.find(info.name), info)
        self._link.outbox.put(None, frame)

    # --- runs that code here starts: the object stays here, its key travels

    def expect(
        self,
        runnable: Runnable,
        given: Given,
        loop: asyncio.AbstractEventLoop | None,
    ) -> int:
        """The key under which the control process may start this runnable, once."""
        with self._lock:
            key = next(self._keys)
            context = contextvars.copy_context()
            self._expected[key] = _Expected(runnable, given, loop, context)
        return key

    def forget(self, key: int) -> None:
        """It was refused, or ended before it was its turn."""
        with self._lock:
            self._expected.pop(key, None)

    def usage(self, scope: Scope, run_id: str) -> Usage | None:
        """What a run that is at work here has used; None if none of this id is."""
        with self._lock:
            ports = list(self._ports.values())
        for port in ports:
            side = getattr(port.execution, "side", None)
            if side is not None and port.run_id == run_id and port.scope == scope:
                used: Usage = side.usage()
                return used
        return None

    # --- frames

    def handle(self, frame: pb.DownFrame) -> None:
        """Does what a frame says. Never raises, never waits."""
        kind = frame.WhichOneof("frame")
        try:
            if kind == "start":
                self._start(frame.start)
            elif kind == "stop":
                self._stop(frame.stop)
            elif kind == "drop":
                self._drop(frame.drop)
            elif kind == "forget":
                self.forget(frame.forget)
            elif kind == "leave":
                self.leaving.set()
            elif kind == "ping":
                self._link.outbox.put(None, pb.UpFrame(pong=frame.ping))
        except Exception:
            _log.exception("a frame of the control process could not be handled")

    def _start(self, start: pb.Start) -> None:
        spec = spec_of(start.spec, start.data if start.HasField("data") else None)
        with self._lock:
            parent = self._ports.get(start.parent)
            expected = self._expected.pop(start.key, None)
        if expected is not None:
            given = expected.given
            spec = replace(
                spec,
                input=given.input,
                input_data=given.data,
                parts=given.parts,
                messages=given.messages,
            )
        scope = Scope(start.tenant, start.owner)
        resumed = resumed_of(start.resumed) if start.HasField("resumed") else None
        port = LinkPort(self, self._link, start.run, scope, spec, parent, resumed)
        beside = parent.execution if parent is not None else None
        runs = LinkRuns(self, self._link, scope)
        begin = partial(self.executor.start, port, runs=runs, parent=beside)
        with self._lock:
            self._ports[start.run] = port
        try:
            if expected is not None:
                expected.context.run(_begin_traced, start.trace, begin, expected)
            elif self._catalog is not None:
                with _trace(start.trace):
                    begin(self._catalog.find(spec.runnable))
            else:
                raise RunnableNotFound(spec.runnable)
        except Exception as error:  # also ServerBusy: every thread and loop is taken
            port.released()
            port.ended(Failure.of(error))

    def _stop(self, stop: pb.Stop) -> None:
        with self._lock:
            port = self._ports.get(stop.run)
        if port is None:
            return  # its code has ended
        cancellation, grace_period = stop_of(stop)
        port.cancellation = cancellation
        if port.execution is not None:
            port.execution.stop(cancellation, grace_period)

    def _drop(self, number: int) -> None:
        with self._lock:
            port = self._ports.get(number)
        if port is not None and port.execution is not None:
            port.execution.drop()

    def ended(self, port: LinkPort) -> None:
        """A run's code holds nothing here any more."""
        with self._lock:
            self._ports.pop(port.number, None)

    def _stalled(self, run_id: str, seconds: float, stack: str) -> None:
        frame = pb.UpFrame()
        frame.stalled.run_id = run_id
        frame.stalled.seconds = seconds
        frame.stalled.stack = stack[-8192:]
        self._link.outbox.put(None, frame)


def _begin_traced(
    carrier: Mapping[str, str], begin: Callable[..., object], expected: _Expected
) -> None:
    """Begins a child, in the context of the code that has started it."""
    with _trace(carrier):
        begin(expected.runnable, loop=expected.loop)


def _trace(carrier: Mapping[str, str]) -> AbstractContextManager[Any]:
    """What starts in here has the caller's span as its parent, if the caller sent one."""
    if not carrier:
        return nullcontext()
    from pullcord.worker.tracing import continued

    return continued(dict(carrier))
