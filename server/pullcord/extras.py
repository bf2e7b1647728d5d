"""The error for a package that is not installed: it names the extra that has it.

Nothing is imported here, so that every install can say what it lacks.
"""


class MissingExtra(ModuleNotFoundError):
    """A package is missing that one of Pullcord's extras installs; the message has the command."""


def missing(what: str, extra: str, error: ModuleNotFoundError) -> MissingExtra:
    """The error for `what`, which needs this extra, and failed to import by `error`."""
    return MissingExtra(
        f"{what} needs the extra {extra!r} (there is no module {error.name!r} here): "
        f"pip install 'pullcord[{extra}]'",
        name=error.name,
    )
