"""The error for a package that is not installed: it names the extra that has it.

Nothing of Pullcord is imported here, so that every install can say what it lacks.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class MissingExtra(ModuleNotFoundError):
    """A package is missing that one of Pullcord's extras installs; the message has the command."""


def missing(what: str, extra: str, error: ModuleNotFoundError) -> MissingExtra:
    """The error for `what`, which needs this extra, and failed to import by `error`."""
    return MissingExtra(
        f"{what} needs the extra {extra!r} (there is no module {error.name!r} here): "
        f"pip install 'pullcord[{extra}]'",
        name=error.name,
    )


@contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """Around imports that need an extra. Raises MissingExtra if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if isinstance(error, MissingExtra) or (error.name or "").startswith("pullcord"):
            raise
        raise missing(what, extra, error) from error
