"""The error for a package that is not installed: it names the extra that has it, and the command.

Nothing of Pullcord is imported here, so that every install can say what it lacks.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_EXTRAS = {
    "agent_framework": "agent-framework",
    "agents": "openai-agents",
    "agno": "agno",
    "anthropic": "anthropic",
    "langgraph": "langgraph",
    "openai": "openai",
    "pydantic_ai": "pydantic-ai",
    "workflows": "llama-index",
}
"""By the module that an author imports from a framework or a provider, the extra that has it."""


class MissingExtra(ModuleNotFoundError):
    """A package is missing that one of Pullcord's extras installs; the message has the command."""


def missing(what: str, extra: str, error: ImportError) -> MissingExtra:
    """The error for `what`, which needs this extra, and failed to import by `error`."""
    if isinstance(error, ModuleNotFoundError):
        why = f"there is no module {error.name!r} here"
    else:
        why = str(error)
    return MissingExtra(
        f"{what} needs the extra {extra!r} ({why}): {install(extra)}", name=error.name
    )


def extra_of(module: str | None) -> str | None:
    """The extra that installs a framework's or a provider's module; None if none does."""
    return _EXTRAS.get(module or "")


def install(extra: str) -> str:
    """The command that adds an extra to this installation.

    It installs from where this one came from, as pip has noted it: a folder, a repository, or, if
    nothing is noted, an index.
    """
    url, is_editable = _origin()
    if not url:
        return f"pip install 'pullcord[{extra}]'"
    if urlsplit(url).scheme != "file":
        return f"pip install 'pullcord[{extra}] @ {url}'"
    place = Path(url2pathname(urlsplit(url).path))
    if not (place.is_file() or (place / "pyproject.toml").is_file()):  # it was deleted since
        return f"pip install '.[{extra}]' in a checkout of Pullcord"
    where = "." if place == _here() else str(place)
    return f"pip install {'-e ' if is_editable else ''}'{where}[{extra}]'"


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was deleted
        return None


def _origin() -> tuple[str, bool]:
    """The address that Pullcord was installed from, and whether its files are edited in place."""
    try:
        noted = json.loads(distribution("pullcord").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return "", False
    url = noted.get("url", "")
    if vcs := noted.get("vcs_info", {}).get("vcs"):
        url = f"{vcs}+{url}"
    return url, bool(noted.get("dir_info", {}).get("editable"))


@contextmanager
def needed(extra: str, what: str) -> Iterator[None]:
    """Around imports that need an extra. Raises MissingExtra if it is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if isinstance(error, MissingExtra) or (error.name or "").startswith("pullcord"):
            raise
        raise missing(what, extra, error) from error
