"""The part of an author's error that callers may read; the operator's log has the rest.

One place for all that runs in a server: a run's own end, its tools, its steps, and what frameworks
and remote runs report. The words that are hidden here never leave the process of the code.
"""

from enum import StrEnum

from pullcord.run import blame, plain
from pullcord.run.errors import CallFailed, PublicError, PullcordError
from pullcord.run.events import MAX_ERROR_MESSAGE, RunError
from pullcord.run.redaction import redacted


class Disclosure(StrEnum):
    """The part of errors that callers see. They never see secrets that are known by their shape."""

    FULL = "full"
    """The class and the words."""
    TYPE = "type"
    """The class and an id that the log has too; the words only of a PublicError."""
    ID = "id"
    """The id, and nothing else."""


class Errors:
    """The errors of one run, as its callers may read them."""

    def __init__(self, run_id: str, disclosure: Disclosure) -> None:
        self._run_id = run_id
        self._disclosure = disclosure

    def told(self, error: BaseException, tool: str = "") -> RunError:
        """An exception that the run's code raised, or its tool; the log says where.

        Called in the author's thread: to read an exception may be code of the author's.
        """
        full = RunError.of(error)
        error_id = blame.raised(self._run_id, error, tool)
        return self._shown(full, _public(error), error_id)

    def reported(self, error: RunError) -> RunError:
        """An error that is known by its words only, such as a framework's or a remote run's."""
        if self._disclosure is Disclosure.FULL:
            return RunError(error.type, cleaned(error.message))
        return self._shown(error, "", blame.reported(self._run_id, error.type))

    def reported_result(self, text: str) -> str:
        """The words of a failed tool call, which only the framework knows."""
        if self._disclosure is Disclosure.FULL:
            return redacted(text)
        return self.reported(RunError("error", text)).message

    def _shown(self, full: RunError, public: str, error_id: str) -> RunError:
        if self._disclosure is Disclosure.FULL or not error_id:
            return full
        where = f"error {error_id}, which the server's log knows"
        if self._disclosure is Disclosure.ID:
            return RunError("Error", where)
        return RunError(full.type, f"{cleaned(public)} ({where})" if public else where)


def cleaned(words: str) -> str:
    """The words of an error without secrets, and no longer than they are kept."""
    return plain.cut(redacted(plain.cut(words, 4 * MAX_ERROR_MESSAGE)), MAX_ERROR_MESSAGE)


def _public(error: BaseException) -> str:
    # Of the type: an error may lie about its class.
    kind = type(error)
    try:
        if issubclass(kind, PublicError):
            return str(error.public)  # type: ignore[attr-defined]  # it is one
        if issubclass(kind, PullcordError) and not issubclass(kind, CallFailed):
            return plain.words(error)  # ours; a failed call has words of another server's
    except Exception:  # a subclass of an author's that was not initialized
        pass
    return ""
