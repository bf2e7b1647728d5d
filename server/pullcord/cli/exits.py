"""The exit codes of the commands, and how an error becomes one.

One table for all commands. What the errors themselves mean is said where they are defined.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import typer

from pullcord.cli.naming import in_words
from pullcord.cli.output import complain
from pullcord.cli.unreachable import unreachable
from pullcord.extras import missing
from pullcord.run.errors import (
    CallFailed,
    ConnectionLost,
    CredentialExpired,
    InvalidArgument,
    PermissionDenied,
    PullcordError,
    RunExists,
    RunnableNotFound,
    RunNotFound,
    RunNotPaused,
    TooManyAffected,
    Unauthenticated,
)
from pullcord.run.state import RunState
from pullcord.wire.errors import TABLE


class Exit(IntEnum):
    """The exit codes of every command."""

    COMPLETED = 0
    """The command did what it was asked; a run that it followed has completed."""
    FAILED = 1
    """The run failed."""
    USAGE = 2
    """The command or the request was wrong."""
    NOT_FOUND = 3
    """There is no such run or runnable."""
    UNAVAILABLE = 4
    """The server is busy, draining, out of reach or at fault."""
    DENIED = 5
    """The server does not know the caller, or does not let it do this."""
    UNFINISHED = 124
    """The run goes on: the command left it, or its time to wait was up."""
    CANCELLED = 130
    """The run was cancelled."""


HELP = (
    "Exit codes: 0 done, or the run completed; 1 the run failed; 2 wrong usage or request; "
    "3 no such run or runnable; 4 the server is busy, draining or out of reach; 5 not allowed; "
    "124 the run goes on without this command; 130 the run was cancelled."
)

_WHO = (
    "the server knows its callers, and not this one: give a valid token, "
    "`pullcord --token-file FILE …` (or PULLCORD_TOKEN), or --client-cert and --client-key"
)

_OF_STATE = {
    RunState.COMPLETED: Exit.COMPLETED,
    RunState.FAILED: Exit.FAILED,
    RunState.CANCELLED: Exit.CANCELLED,
}


def exit_of(state: RunState) -> Exit:
    """The exit code for a run in this state."""
    return _OF_STATE.get(state, Exit.UNFINISHED)


def exit_of_error(error: PullcordError) -> Exit:
    """The exit code for a call that was refused."""
    if isinstance(error, (InvalidArgument, RunExists, RunNotPaused, TooManyAffected)):
        return Exit.USAGE
    if isinstance(error, (Unauthenticated, PermissionDenied, CredentialExpired)):
        return Exit.DENIED
    if isinstance(error, (RunNotFound, RunnableNotFound)):
        return Exit.NOT_FOUND
    return Exit.UNAVAILABLE


@contextlib.contextmanager
def refusals(as_json: bool) -> Iterator[None]:
    """Shows a refusal on stderr, and exits with its code."""
    try:
        yield
    except PullcordError as error:
        tell(error, as_json)
        raise typer.Exit(exit_of_error(error)) from None


def wrong_usage(words: str) -> typer.Exit:
    """Says on stderr what is wrong with the command itself; to be raised."""
    complain(words)
    return typer.Exit(Exit.USAGE)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """Shows what typer finds wrong with the words of a command, and exits with its code."""
    try:
        yield
    except typer.Abort:
        complain("aborted")
        sys.exit(Exit.FAILED)
    except Exception as error:
        code = getattr(error, "exit_code", None)  # of ClickException, whose module moved with typer
        if code is None:
            raise
        shown: Any = error
        if words := shown.format_message():  # none: the help was shown
            if (context := getattr(error, "ctx", None)) is not None:
                print(context.get_usage(), file=sys.stderr)
                print(f"Try '{context.command_path} -h' for help.", file=sys.stderr)
            complain(words)
        sys.exit(code)


@contextlib.contextmanager
def serving(command: str) -> Iterator[None]:
    """Around the imports of what only the extra `serve` installs: says so if it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise wrong_usage(str(missing(command, "serve", error))) from None


def tell(error: PullcordError, as_json: bool) -> None:
    """Shows an error on stderr: in words, or as a JSON object with its reason."""
    if as_json:
        said = {"reason": _reason(error), "message": str(error)}
        print(json.dumps({"error": said}, ensure_ascii=False), file=sys.stderr)
    elif isinstance(error, InvalidArgument):
        for violation in error.violations:
            complain(in_words(violation))
    elif isinstance(error, ConnectionLost):
        complain(unreachable(error.message))
    elif isinstance(error, Unauthenticated):
        complain(_WHO)
    else:
        complain(str(error))


def _reason(error: PullcordError) -> str:
    for reason, row in TABLE.items():
        if type(error) is row.error:
            return reason
    return error.code if isinstance(error, CallFailed) else "UNKNOWN"
