"""The blocking face of the client: RunClient, and RunStream, which follows one run.

It calls and waits. What a broken stream does next is decided in `resume`, what the messages say
in the wire layer.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
from grpc.experimental import ChannelOptions

from pullcord.client.calls import (
    CALL_TIMEOUT,
    DEFAULT_TARGET,
    Metadata,
    SpecOptions,
    call_metadata,
    channel_options,
    new_spec,
    starting_metadata,
)
from pullcord.client.resume import Pace, Result, Resume
from pullcord.run.cancel import CancelCause, CancelMode
from pullcord.run.errors import PullcordError
from pullcord.run.events import Event, Heartbeat
from pullcord.run.record import CancelResult, Decision, Receipt, Run, RunFilter, RunSpec
from pullcord.run.requests import (
    DEFAULT_MAX_AFFECTED,
    DEFAULT_PAGE_SIZE,
    CancelManyRequest,
    CancelRequest,
    ContinueRequest,
    ListRequest,
    WaitRequest,
)
from pullcord.run.runnable import RunnableInfo
from pullcord.v1 import run_service_pb2 as v1
from pullcord.v1.run_service_pb2_grpc import RunServiceStub
from pullcord.wire.actor import with_actor
from pullcord.wire.errors import from_rpc_error
from pullcord.wire.event import event_of
from pullcord.wire.requests import (
    cancel_many_message,
    cancel_message,
    continue_message,
    list_message,
    wait_message,
)
from pullcord.wire.run import cancel_results_of, receipt_of, run_of, runnable_of
from pullcord.wire.spec import spec_message

# Streams are read in the thread that iterates, without one of gRPC's own in between: two fifths
# less CPU a message.
_SYNC_OPTIONS = ((ChannelOptions.SingleThreadedUnaryStream, 1),)


class RunClient:
    """Starts, follows, looks at and stops the runs of a server, from any thread.

    Close it, or use it in `with`. Every refusal is raised as its class in `pullcord.run.errors`;
    what has no class of its own is a `CallFailed`.

    Args:
        target: the server's address, as gRPC takes it.
        credentials: for TLS; None: the line is not encrypted.
        metadata: goes with every call.
        actor: who asks, as receipts and events will say; None: `user@host` of this process.
        options: gRPC channel options, over the client's own.
        pace: how a broken stream is taken up again.
        channel: to be used instead of a new one; it stays its owner's to close.
    """

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Iterable[tuple[str, str | bytes]] = (),
        actor: str | None = None,
        options: Iterable[tuple[str, Any]] = (),
        pace: Pace = Pace(),  # noqa: B008  # a frozen value
        channel: grpc.Channel | None = None,
    ) -> None:
        self._owned: grpc.Channel | None = None
        if channel is None:
            settings = channel_options([*_SYNC_OPTIONS, *options])
            if credentials is None:
                channel = grpc.insecure_channel(target, settings)
            else:
                channel = grpc.secure_channel(target, credentials, settings)
            self._owned = channel
        self._stub: Any = RunServiceStub(channel)
        self._metadata = call_metadata(metadata, actor)
        self.pace = pace

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every stream and closes the channel. Runs go on as their disconnect policy says."""
        if self._owned is not None:
            self._owned.close()

    # --- starting and following

    def run(
        self,
        runnable: str,
        input: str = "",
        *,
        timeout: float | None = None,
        heartbeats: bool = False,
        **options: Unpack[SpecOptions],
    ) -> "RunStream":
        """Starts a run and follows it.

        `timeout` seconds from now the run ends with cause DEADLINE, a little before the call does.
        """
        spec = new_spec(runnable, input, options)
        resume = Resume(spec.run_id, self.pace, starting=True, timeout=timeout)
        return RunStream(self, resume, spec, heartbeats)

    def start(self, runnable: str, input: str = "", **options: Unpack[SpecOptions]) -> Run:
        """Starts a run in the background."""
        request = v1.StartRunRequest(spec=spec_message(new_spec(runnable, input, options)))
        metadata = starting_metadata(self._metadata)
        return run_of(self._call(self._stub.StartRun, request, metadata=metadata).run)

    def watch(
        self,
        run_id: str,
        after_sequence: int = 0,
        *,
        timeout: float | None = None,
        heartbeats: bool = False,
    ) -> "RunStream":
        """Follows a run from any point to its end; `timeout` seconds from now the watching ends."""
        resume = Resume(run_id, self.pace, after_sequence=after_sequence, timeout=timeout)
        return RunStream(self, resume, None, heartbeats)

    def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """The run once it has ended, or as it is after `timeout` seconds."""
        resume = Resume(run_id, self.pace, timeout=timeout)
        left = timeout
        while True:
            try:
                request = wait_message(WaitRequest(run_id, left))
                limit = None if left is None else left + CALL_TIMEOUT
                return run_of(self._call(self._stub.WaitRun, request, limit).run)
            except PullcordError as error:
                (self.pace.sleep or time.sleep)(resume.lost(error))
            left = resume.opening()

    # --- looking

    def get(self, run_id: str) -> Run:
        """A run as it is now."""
        return run_of(self._call(self._stub.GetRun, v1.GetRunRequest(run_id=run_id)).run)

    def list(
        self, matching: RunFilter | None = None, *, page_size: int = DEFAULT_PAGE_SIZE
    ) -> Iterator[Run]:
        """All runs that match, the newest first, without input and output, page by page."""
        token = ""
        while True:
            request = ListRequest(matching or RunFilter(), page_size, token)
            page = self._call(self._stub.ListRuns, list_message(request))
            yield from map(run_of, page.runs)
            token = page.next_page_token
            if not token:
                return

    def runnables(self) -> tuple[RunnableInfo, ...]:
        """What can be run, in order of name."""
        response = self._call(self._stub.ListRunnables, v1.ListRunnablesRequest())
        return tuple(map(runnable_of, response.runnables))

    # --- going on

    def continue_run(self, run_id: str, decisions: Iterable[Decision]) -> Run:
        """Brings a paused run the decision on every call that waits; the run as it then is.

        Raises RunNotPaused where it does not wait, also because somebody else has decided.
        """
        request = continue_message(ContinueRequest(run_id, tuple(decisions)))
        return run_of(self._call(self._stub.ContinueRun, request).run)

    # --- stopping

    def cancel(
        self,
        run_id: str,
        reason: str = "",
        *,
        mode: CancelMode = CancelMode.GRACEFUL,
        grace_period: float | None = None,
        wait: float = 0.0,
        before_start: bool = False,
        cause: CancelCause = CancelCause.USER,
        actor: str | None = None,
    ) -> Receipt:
        """Stops a run. The answer waits at most `wait` seconds for the stop.

        `grace_period` is how many seconds a tool call in flight may take to finish; None: the
        server's default. With `before_start` a run is stopped that has not come yet. `cause` is
        USER, or PARENT where the run is part of one elsewhere; `actor` is on whose behalf this is
        asked, None: the client's own.
        """
        request = CancelRequest(run_id, reason, mode, grace_period, wait, before_start, cause)
        limit = CALL_TIMEOUT + wait
        metadata = None if actor is None else with_actor(self._metadata, actor)
        message = cancel_message(request)
        return receipt_of(self._call(self._stub.CancelRun, message, limit, metadata))

    def cancel_many(
        self,
        matching: RunFilter,
        reason: str = "",
        *,
        mode: CancelMode = CancelMode.GRACEFUL,
        validate_only: bool = False,
        max_affected: int = DEFAULT_MAX_AFFECTED,
    ) -> tuple[CancelResult, ...]:
        """Stops every live run that the filter matches, by session, user, runnable and labels."""
        request = CancelManyRequest(matching, reason, mode, validate_only, max_affected)
        response = self._call(self._stub.CancelRuns, cancel_many_message(request))
        return tuple(cancel_results_of(response))

    # --- calling

    def _call(
        self,
        method: Any,
        request: Any,
        timeout: float | None = CALL_TIMEOUT,
        metadata: Metadata | None = None,
    ) -> Any:
        try:
            return method(request, timeout=timeout, metadata=metadata or self._metadata)
        except grpc.RpcError as error:
            run_id = getattr(request, "run_id", "")
            raise from_rpc_error(error, run_id) from error

    def open(self, resume: Resume, spec: RunSpec | None) -> Any:
        """A connection's responses: of Run while the run may not be known, else of WatchRun."""
        timeout = resume.opening()
        if spec is not None and not resume.begun:
            request: Any = v1.RunRequest(spec=spec_message(spec))
            metadata = starting_metadata(self._metadata)
            return self._stub.Run(request, timeout=timeout, metadata=metadata)
        request = v1.WatchRunRequest(run_id=resume.run_id, after_sequence=resume.after_sequence)
        return self._stub.WatchRun(request, timeout=timeout, metadata=self._metadata)


class RunStream:
    """The events of one run, in order, each once, over as many connections as it takes.

    It ends after the terminal event. Closing or dropping it leaves the run to its disconnect
    policy; `cancel` stops the run. One thread iterates; any may cancel or close.
    """

    def __init__(
        self, client: RunClient, resume: Resume, spec: RunSpec | None, heartbeats: bool
    ) -> None:
        self.run_id = resume.run_id
        self._client = client
        self._resume = resume
        self._spec = spec
        self._heartbeats = heartbeats
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._responses: Any = None
        self._connect()

    @property
    def result(self) -> Result | None:
        """What the run came to; None before its terminal event was seen."""
        return self._resume.result

    @property
    def after_sequence(self) -> int:
        """The number of the last event seen: what another watch can go on with."""
        return self._resume.after_sequence

    def cancel(
        self,
        reason: str = "",
        *,
        mode: CancelMode = CancelMode.GRACEFUL,
        grace_period: float | None = None,
        wait: float = 0.0,
    ) -> Receipt:
        """Stops the run, also where it has not begun; its last events then come as usual."""
        return self._client.cancel(
            self.run_id,
            reason,
            mode=mode,
            grace_period=grace_period,
            wait=wait,
            before_start=not self._resume.begun,
        )

    def close(self) -> None:
        """Leaves the stream; whoever waits for its next event sees it end."""
        with self._lock:
            self._closed.set()
            if self._responses is not None:
                self._responses.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):  # it was never opened
            self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        try:
            while not (self._resume.ended or self._closed.is_set()):
                event = self._receive()
                if event is not None:
                    return event
        except BaseException:
            self.close()
            raise
        self.close()
        raise StopIteration

    def _receive(self) -> Event | None:
        """The next event that is new to the caller; None where something else happened."""
        try:
            if self._responses is None:
                self._connect()
            if self._responses is None:  # closed meanwhile
                return None
            message = next(self._responses).event
        except StopIteration:
            self._recover(None)
        except grpc.RpcError as error:
            self._recover(from_rpc_error(error, self.run_id))
        else:
            event = event_of(message)
            if event is None:
                self._resume.skip(message.sequence)
            elif self._resume.admit(event):
                is_shown = self._heartbeats or not isinstance(event.payload, Heartbeat)
                return event if is_shown else None
        return None

    def _connect(self) -> None:
        with self._lock:
            if not self._closed.is_set():
                self._responses = self._client.open(self._resume, self._spec)

    def _recover(self, error: PullcordError | None) -> None:
        """Waits until it is time for the next connection. Raises what the caller is to see."""
        self._responses = None
        if self._closed.is_set():
            return
        if error is None and self._resume.begun:
            try:
                self._resume.learn(self._client.get(self.run_id))
            except PullcordError as failed:
                error = failed
        if not self._resume.ended:
            (self._client.pace.sleep or self._closed.wait)(self._resume.lost(error))
