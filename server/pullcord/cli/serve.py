"""`pullcord serve`: finds the server that is meant, and serves it until a signal.

What serving is, and how it ends, is `pullcord.server`'s business.
"""

import importlib
import importlib.util
import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pullcord.cli.exits import Exit
from pullcord.cli.options import AsJson

if TYPE_CHECKING:  # a client's commands do not load a server
    from pullcord.server import RunServer


class TargetError(Exception):
    """There is no server where it was said to be."""


def serve(
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[APP:SERVER]",
            help="A RunServer, or a function that returns one: package.module:name or "
            "path/to/file.py:name. Without it, a demo that needs no key.",
        ),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(
            help="The address, host:port; port 0 takes a free one. Else PULLCORD_LISTEN, "
            "else 127.0.0.1:50051."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Serve agents until SIGTERM or Ctrl-C, then drain: let runs end, and cancel those that do not.

    One line on stdout tells the address once calls are answered; log lines go to stderr. A second
    signal cancels the runs, a third one at once.
    """
    from pullcord.settings import SettingsError
    from pullcord.telemetry import configure_logging

    try:
        server = find_server(target or "pullcord.demo:server")
        configure_logging(server.settings.log_level, server.settings.log_json)
        server.serve(listen, lambda address: _ready(address, as_json))
    except (TargetError, SettingsError, OSError) as error:
        print(f"pullcord: {error}", file=sys.stderr)
        raise typer.Exit(Exit.USAGE) from None


def _ready(address: str, as_json: bool) -> None:
    line = json.dumps({"address": address}) if as_json else f"Pullcord is serving on {address}"
    print(line, flush=True)


def find_server(target: str) -> "RunServer":
    """The server that `module:name` or `path/to/file.py:name` names.

    Raises:
        TargetError: there is none.
    """
    from pullcord.server import RunServer

    place, _, name = target.rpartition(":") if ":" in target else (target, "", "server")
    found: Any = _load(place)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TargetError(f"{place} has no {name!r}; write {place}:NAME") from None
    if _is_maker(found):
        found = found()
    if not isinstance(found, RunServer):
        raise TargetError(f"{target} is a {type(found).__name__}, and no RunServer")
    return found


def _is_maker(found: Any) -> bool:
    """Whether it is a function without arguments. A runnable can be called, too, but makes none."""
    if hasattr(found, "execute"):
        return False
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


def _load(place: str) -> Any:
    _look_in(Path.cwd())
    if place.endswith(".py"):
        path = Path(place).resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise TargetError(f"there is no file {place}")
        _look_in(path.parent)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
        return module
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        # A module that the target itself fails to import is the author's to see in full.
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise
        raise TargetError(f"there is no module {error.name!r} here ({Path.cwd()})") from None
    except (ValueError, TypeError):
        raise TargetError(f"{place!r} is no module; write package.module:name") from None


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
