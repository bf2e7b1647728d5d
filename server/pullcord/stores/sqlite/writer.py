"""The one thread that writes: it takes all that waits, in one transaction, then wakes all askers.

An asker waits for one commit to disk, however many others ask meanwhile. What a job does to the
tables is the store's business; a job that raises an error of ours has changed nothing.
"""

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from pullcord.run.errors import PullcordError, StoreUnavailable

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]

ANSWER = 5.0
"""Seconds that an asker waits."""
_LONGEST = 0.05
"""Seconds after which a transaction takes no more jobs: somebody waits for its first one."""
_CLOSING = 10.0

_log = logging.getLogger("pullcord.store")


class Writer:
    """Owns the writing connection. Any thread may ask."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        on_commit: Callable[[], None],
        on_rollback: Callable[[], None],
    ) -> None:
        """Both are called in the writing thread."""
        self._connection = connection
        self._on_commit = on_commit
        self._on_rollback = on_rollback
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Job[Any], Future[Any]]] = deque()
        self._alone: deque[Callable[[sqlite3.Connection], None]] = deque()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="pullcord-store", daemon=True)
        self._thread.start()

    def ask(self, job: Job[T], timeout: float = ANSWER) -> T:
        """Does a job; what it returns is on disk when this returns.

        Raises:
            StoreUnavailable: it was not done, or it may have been done after `timeout` seconds;
                and whatever error of ours the job raises.
        """
        answer: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            self._jobs.append((job, answer))
            self._changed.notify()
        try:
            return answer.result(timeout)
        except TimeoutError:
            answer.cancel()  # unless it is being done
            raise StoreUnavailable("the disk of the store does not answer; ask again") from None

    def post(self, job: Callable[[sqlite3.Connection], None], *, alone: bool = False) -> None:
        """Does a job for which nobody waits, in its turn; `alone`: outside of a transaction."""
        with self._changed:
            if self._closed:
                return
            if alone:
                self._alone.append(job)
            else:
                self._jobs.append((job, Future()))
            self._changed.notify()

    def close(self) -> None:
        """Does what waits, and lets go of the file."""
        with self._changed:
            self._closed = True
            self._alone.clear()
            self._changed.notify()
        if threading.current_thread() is not self._thread:
            self._thread.join(_CLOSING)  # a disk that hangs does not keep the program

    # --- the thread

    def _run(self) -> None:
        try:
            while self._next():
                while self._alone:
                    self._do_alone(self._alone.popleft())
                if self._jobs:
                    self._write()
        finally:
            self._connection.close()

    def _next(self) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._alone or self._closed)
            return bool(self._jobs or self._alone)

    def _write(self) -> None:
        done: list[tuple[Job[Any], Future[Any], Any]] = []
        try:
            self._connection.execute("begin immediate")
            ends = time.monotonic() + _LONGEST
            while self._jobs and (not done or time.monotonic() < ends):
                job, answer = self._jobs.popleft()
                if not answer.set_running_or_notify_cancel():
                    continue  # nobody waits any more
                done.append((job, answer, None))
                try:
                    done[-1] = (job, answer, job(self._connection))
                except PullcordError as error:
                    done[-1] = (job, answer, error)
            self._connection.execute("commit")
        except Exception as error:
            self._roll_back()
            if not done:  # it could not begin: the others would wait as long, each in its turn
                done = [(*self._jobs.popleft(), None) for _ in range(len(self._jobs))]
                for _, answer, _ in done:
                    if answer.set_running_or_notify_cancel():
                        answer.set_exception(refusal(error))
                return
            self._one_by_one(done, error)
            return
        self._committed()
        for _, answer, result in done:
            _settle(answer, result)

    def _one_by_one(self, jobs: list[tuple[Job[Any], Future[Any], Any]], error: Exception) -> None:
        """One of them may be at fault, and must not hold up the others."""
        for job, answer, _ in jobs:
            if len(jobs) == 1:
                answer.set_exception(refusal(error))
                return
            try:
                self._connection.execute("begin immediate")
                try:
                    result = job(self._connection)
                except PullcordError as refused:
                    result = refused
                self._connection.execute("commit")
            except Exception as fault:
                self._roll_back()
                answer.set_exception(refusal(fault))
            else:
                self._committed()
                _settle(answer, result)

    def _committed(self) -> None:
        try:
            self._on_commit()
        except Exception:
            _log.exception("what follows a commit failed; the store goes on")

    def _roll_back(self) -> None:
        try:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
        except sqlite3.Error:
            _log.exception("a transaction could not be rolled back")
        self._on_rollback()

    def _do_alone(self, job: Callable[[sqlite3.Connection], None]) -> None:
        try:
            job(self._connection)
        except sqlite3.Error as error:
            _log.warning("the store could not be tidied: %s", error)


def _settle(answer: "Future[Any]", result: Any) -> None:
    if isinstance(result, PullcordError):
        answer.set_exception(result)
    else:
        answer.set_result(result)


def refusal(error: Exception) -> Exception:
    """The error that callers see: an operator's words are in the server's log."""
    if not isinstance(error, sqlite3.Error):
        return error
    name = getattr(error, "sqlite_errorname", "") or ""
    _log.error("the store failed: %s (%s)", error, name)
    words = {
        "SQLITE_FULL": "the disk of the store is full",
        "SQLITE_READONLY": "the store's file cannot be written",
        "SQLITE_BUSY": "another program holds the store's file",
        "SQLITE_CORRUPT": "the store's file is damaged",
        "SQLITE_NOTADB": "the store's file is damaged",
    }
    known = next((text for key, text in words.items() if name.startswith(key)), None)
    refused = StoreUnavailable(f"{known or 'the store failed'}; ask again")
    refused.__cause__ = error
    return refused
