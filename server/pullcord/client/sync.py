"""The blocking face of the client: RunClient, and RunStream, which follows one run.

It calls and waits. The calls are described in `verbs`; what a stream does after it broke is decided
in `resume`.
"""

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Self, Unpack

import grpc
from grpc.experimental import ChannelOptions

from pullcord.client import verbs
from pullcord.client.calls import SpecOptions
from pullcord.client.face import Face, refusals
from pullcord.client.following import Following
from pullcord.client.resume import Resume
from pullcord.client.verbs import (
    Answer,
    Call,
    CancelManyOptions,
    CancelOptions,
    RunChange,
    RunToken,
    StreamCancelOptions,
)
from pullcord.run.errors import PullcordError
from pullcord.run.events import Event
from pullcord.run.record import CancelResult, Decision, Erased, Receipt, Run, RunFilter, RunSpec
from pullcord.run.requests import DEFAULT_PAGE_SIZE, DEFAULT_TOKEN_LIFETIME, EraseRequest
from pullcord.run.runnable import RunnableInfo
from pullcord.wire.errors import from_rpc_error


class RunClient(Face["RunStream", grpc.Channel]):
    """Starts, follows, looks at and stops the runs of a server, from any thread.

    Close it, or use it in `with`. An error of the server is raised as its class in
    `pullcord.run.errors`, and as `CallFailed` if it has none.
    """

    _grpc = grpc
    # A stream is read in the thread that iterates, without another thread of gRPC's in between:
    # two fifths less CPU per message.
    _options = ((ChannelOptions.SingleThreadedUnaryStream, 1),)

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
        if self._owns_channel:
            self._channel.close()

    def start(self, runnable: str, input: str = "", **options: Unpack[SpecOptions]) -> Run:
        """Starts a run in the background."""
        return self._ask(verbs.start(runnable, input, options))

    def wait(self, run_id: str, timeout: float | None = None) -> Run:
        """Returns the run once it has ended, or as it is after `timeout` seconds."""
        resume = Resume(run_id, self.pace, timeout=timeout)
        left = timeout
        while True:
            try:
                return self._ask(verbs.wait(run_id, left))
            except PullcordError as error:
                (self.pace.sleep or time.sleep)(resume.lost(error))
            left = resume.opening()

    def get(self, run_id: str) -> Run:
        """Returns a run as it is now."""
        return self._ask(verbs.get(run_id))

    def list(
        self, matching: RunFilter | None = None, *, page_size: int = DEFAULT_PAGE_SIZE
    ) -> Iterator[Run]:
        """Yields all runs that match, newest first, without input and output, page by page."""
        token, is_more = "", True
        while is_more:
            page = self._ask(verbs.page(matching, page_size, token))
            yield from page.runs
            token, is_more = page.next_token, bool(page.next_token)

    def watch_runs(self, matching: RunFilter | None = None, after: str = "") -> Iterator[RunChange]:
        """Yields every live run that matches, and then each run that is new, changes or ends.

        It goes on until it is closed, over as many connections as it takes. `after` is the position
        of a change that was seen: only what has changed since is yielded. States in the filter are
        not looked at.
        """
        resume = Resume("", self.pace)
        heard = 0
        while True:
            error: PullcordError | None = None
            answers = self._open_list(resume, matching, after)
            try:
                for answer in answers:
                    heard += 1
                    resume.skip(heard)
                    change = verbs.change_in(answer)
                    after = change.position
                    if change.run is not None or change.caught_up or change.missed:
                        yield change
            except grpc.RpcError as failed:
                error = from_rpc_error(failed)
            finally:
                answers.cancel()
            (self.pace.sleep or time.sleep)(resume.lost(error))

    def create_run_token(
        self, run_id: str, lifetime: float = DEFAULT_TOKEN_LIFETIME, *, watch_only: bool = False
    ) -> RunToken:
        """Returns a token with which a web page may see this run, and stop it, and nothing else.

        It is good for `lifetime` seconds, at most a day.
        """
        return self._ask(verbs.create_run_token(run_id, lifetime, watch_only))

    def runnables(self) -> tuple[RunnableInfo, ...]:
        """Returns what can be run, in order of name."""
        return self._ask(verbs.runnables())

    def continue_run(self, run_id: str, decisions: Iterable[Decision]) -> Run:
        """Sends a paused run a decision for each waiting call; returns the run afterwards.

        Raises RunNotPaused if it does not wait, for example because somebody else has decided.
        """
        return self._ask(verbs.continue_run(run_id, decisions))

    def cancel(self, run_id: str, reason: str = "", **options: Unpack[CancelOptions]) -> Receipt:
        """Stops a run, gracefully unless `mode` says otherwise; returns the receipt.

        Options: mode, grace_period, wait, before_start, cause, actor; see `CancelOptions`.
        """
        return self._ask(verbs.cancel(run_id, reason, options))

    def cancel_many(
        self, matching: RunFilter, reason: str = "", **options: Unpack[CancelManyOptions]
    ) -> tuple[CancelResult, ...]:
        """Stops every live run that the filter matches, by session, user, runnable and labels.

        Options: mode, validate_only, max_affected; see `CancelManyOptions`.
        """
        return self._ask(verbs.cancel_many(matching, reason, options))

    def erase(
        self, *, user_id: str = "", session_id: str = "", validate_only: bool = False
    ) -> Erased:
        """Deletes for good what is kept of ended runs: of a user, of a session, and of the tenant
        and owner that this client was made with; live runs stay. With `validate_only` it only
        says what would be deleted.

        Raises InvalidArgument if none of the four is given.
        """
        request = EraseRequest(user_id, session_id, validate_only=validate_only)
        return self._ask(verbs.erase(request))

    def _ask(self, call: Call[Answer]) -> Answer:
        with refusals(call):
            return call.read(self._send(call))

    def _follow(self, resume: Resume, spec: RunSpec | None, heartbeats: bool) -> "RunStream":
        return RunStream(self, resume, spec, heartbeats)


class RunStream(Following[RunClient]):
    """The events of one run, in order, each once, over as many connections as it takes.

    It ends after the terminal event. Closing or dropping it leaves the run to its disconnect
    policy; `cancel` stops the run. One thread iterates; any thread may cancel or close.
    """

    def __init__(
        self, client: RunClient, resume: Resume, spec: RunSpec | None, heartbeats: bool
    ) -> None:
        super().__init__(client, resume, spec, heartbeats)
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._responses: Any = None
        self._connect()

    def cancel(self, reason: str = "", **options: Unpack[StreamCancelOptions]) -> Receipt:
        """Stops the run, also before it has begun; its last events then come as usual.

        Options: mode, grace_period, wait; see `StreamCancelOptions`.
        """
        return self._client._ask(self._stop(reason, options))

    def close(self) -> None:
        """Leaves the stream; a thread that waits for its next event sees it end."""
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
        """Returns the next event for the caller; None if something else happened."""
        try:
            if self._responses is None:
                self._connect()
            if self._responses is None:  # closed meanwhile
                return None
            response = next(self._responses)
        except StopIteration:
            self._recover(None)
        except grpc.RpcError as error:
            self._recover(from_rpc_error(error, self.run_id))
        else:
            return self._shown(response.event)
        return None

    def _connect(self) -> None:
        with self._lock:
            if not self._closed.is_set():
                self._responses = self._client.open(self._resume, self._spec)

    def _recover(self, error: PullcordError | None) -> None:
        """Waits until it is time for the next connection. Raises what the caller must see."""
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
