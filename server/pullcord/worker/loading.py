"""Finding what an author serves: a RunServer by `module:name` or `path/to/file.py:name`.

What the module raises at import is the author's to see in full; a target that does not exist is a
`TargetError`, which says where it was looked for.
"""

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from typing import Any

from pullcord.adapters.foreign.recognition import foreign
from pullcord.server import RunServer


class TargetError(Exception):
    """There is no server where it was said to be."""


def find_server(target: str) -> RunServer:
    """The server that `module:name` or `path/to/file.py:name` names.

    A runnable, or an object of another framework, is served alone.

    Raises:
        TargetError: there is none.
    """
    place, _, name = target.rpartition(":") if ":" in target else (target, "", "server")
    found: Any = _load(place)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TargetError(f"{place} has no {name!r}; write {place}:NAME") from None
    # A runnable is served by its variable's name if it has none of its own.
    if (runnable := foreign(found, name.rpartition(".")[2])) is not None:
        return RunServer(agents=[runnable])
    if _is_maker(found):
        found = found()
    if not isinstance(found, RunServer):
        if hasattr(found, "execute"):
            return RunServer(agents=[found])
        raise TargetError(
            f"{target} is a {type(found).__name__}; it must be a RunServer, a runnable, or an agent"
            " of a framework that Pullcord knows"
        )
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
    if not all(part.isidentifier() for part in place.split(".")):
        raise TargetError(f"{place!r} is no module; write package.module:name")
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        # A module that the target itself fails to import is the author's to see in full.
        if error.name is None or not f"{place}.".startswith(f"{error.name}."):
            raise
        raise TargetError(f"there is no module {error.name!r} here ({Path.cwd()})") from None


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
