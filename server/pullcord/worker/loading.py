"""Finding what an author serves: a RunServer by `module:name` or `path/to/file.py:name`.

What the module raises at import is the author's to see in full. A target that does not exist or
cannot be served, and a package that is not installed, is a `TargetError`, which says what to do.
"""

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pullcord.adapters.foreign.recognition import foreign
from pullcord.adapters.offering import as_runnable
from pullcord.extras import MissingExtra, extra_of, install
from pullcord.server import RunServer
from pullcord.settings import beneath

_NAMED = 5
"""Names that an error lists."""


class TargetError(Exception):
    """There is no server where it was said to be."""


def find_server(target: str, options: Mapping[str, Any] = MappingProxyType({})) -> RunServer:
    """The server that `module:name` or `path/to/file.py:name` names.

    A runnable, or an object of another framework, is served alone. `options` are settings that the
    command line says; of those that need each other nothing is checked here.

    Raises:
        TargetError: there is none, or a package of one of Pullcord's extras is not installed.
        SettingsError: the module's server finds a setting that is wrong by itself.
    """
    try:
        with beneath(options):
            return _find(target)
    except MissingExtra as error:
        raise TargetError(f"{target}: {error}") from None
    except ModuleNotFoundError as error:
        extra = extra_of(error.name)
        if extra is None:
            raise
        raise TargetError(
            f"{target} imports {error.name!r}, which is not installed here; the extra {extra!r} "
            f"has it: {install(extra)}"
        ) from None


def check_place(target: str) -> None:
    """Looks whether the file, or the module's package, of a target exists. Imports nothing.

    Raises:
        TargetError: it does not.
    """
    place, _ = _parted(target)
    if place.endswith(".py"):
        if not Path(place).is_file():
            raise TargetError(f"there is no file {place}{_meant(place, Path(place).parent)}")
        return
    if not all(part.isidentifier() for part in place.split(".")):
        raise TargetError(f"{place!r} is no module; {_or_file(place)}")
    package = place.partition(".")[0]
    if package in sys.modules or PathFinder.find_spec(package, [str(Path.cwd())]) is not None:
        return
    if importlib.util.find_spec(package) is None:
        raise TargetError(_no_module(package))


def _parted(target: str) -> tuple[str, str]:
    """The module or file, and the name in it."""
    place, _, name = target.rpartition(":") if ":" in target else (target, "", "server")
    return place, name


def _find(target: str) -> RunServer:
    place, name = _parted(target)
    found = module = _load(place)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise TargetError(f"{place} has no {name!r}; {_instead(place, name, module)}") from None
    if isinstance(found, RunServer):
        return found
    runnable = _runnable(found, target, name)
    if runnable is not None:
        return RunServer(agents=[runnable])
    if not _is_maker(found):
        raise TargetError(f"{target} is {_wrong(found, name)}")
    made = found()
    if isinstance(made, RunServer):
        return made
    if (runnable := _runnable(made, f"what {target}() returns", name)) is not None:
        return RunServer(agents=[runnable])
    if inspect.iscoroutine(made):
        made.close()  # it would be reported as never awaited
    if isinstance(found, type):
        raise TargetError(f"{target} is a class; name an object of it that is a server or runnable")
    raise TargetError(
        f"{target} is a function without arguments, so it was called for a server, and it returned "
        f"a {type(made).__name__}; {_decorate(name)}"
    )


def _runnable(found: Any, target: str, name: str) -> Any:
    """The object as a runnable; None if it is none, or a plain function."""
    try:
        # A runnable is served by its variable's name if it has none of its own.
        if (runnable := foreign(found, name.rpartition(".")[2])) is not None:
            return runnable
        return as_runnable(found, target) if hasattr(found, "execute") else None
    except (TypeError, ValueError) as error:
        words = str(error)
        raise TargetError(words if words.startswith(target) else f"{target}: {words}") from None


def _wrong(found: Any, name: str) -> str:
    """Says what was found instead of a server, and what to do."""
    if inspect.isroutine(found):
        return f"a plain function; {_decorate(name)}"
    if isinstance(found, list | tuple):
        return f"a {type(found).__name__}; serve what is in it by RunServer(agents={name})"
    return (
        f"a {type(found).__name__}; it must be a RunServer, a runnable, or an agent of a framework "
        "that Pullcord knows"
    )


def _decorate(name: str) -> str:
    return (
        "to serve the function, put @runnable above it (from pullcord import runnable), or name a "
        f"server that has it: server = RunServer(agents=[{name}])"
    )


def _is_maker(found: Any) -> bool:
    """Whether it is a function without arguments. A runnable can be called, too, but makes none."""
    try:
        inspect.signature(found).bind()
    except (TypeError, ValueError):
        return False
    return True


def _load(place: str) -> Any:
    _look_in(Path.cwd())
    check_place(place + ":")
    if place.endswith(".py"):
        path = Path(place).resolve()
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
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
        raise TargetError(_no_module(error.name)) from None


# --- what may have been meant


def _no_module(name: str) -> str:
    words = f"there is no module {name!r} here ({Path.cwd()})"
    package, _, last = name.rpartition(".")
    if package in sys.modules and hasattr(sys.modules[package], last):
        return f"{words}; did you mean {package}:{last}?"
    return words + _meant(name, Path.cwd())


def _meant(place: str, folder: Path) -> str:
    """The files or the modules of this folder that are spelt alike, as the rest of an error."""
    suffix = ".py" if place.endswith(".py") else ""
    known = [f"{file.stem}{suffix}" for file in folder.glob("*.py")]
    if not suffix:
        known += [file.parent.name for file in folder.glob("*/__init__.py")]
    like = difflib.get_close_matches(Path(place).name, known, n=1)
    return f"; did you mean {Path(place).parent / like[0] if suffix else like[0]}?" if like else ""


def _or_file(place: str) -> str:
    is_file = place and Path(f"{place}.py").is_file()
    return f"did you mean {place}.py?" if is_file else "write package.module:name"


def _instead(place: str, name: str, module: Any) -> str:
    """Names what the module has that can be served."""
    known = [one for one, value in vars(module).items() if _is_servable(one, value)]
    if like := difflib.get_close_matches(name, known, n=1):
        return f"did you mean {place}:{like[0]}?"
    if known:
        return f"it has {_listed(f'{place}:{one}' for one in known)}"
    return f"write {place}:NAME, of a RunServer or a runnable"


def _is_servable(name: str, value: Any) -> bool:
    if name.startswith("_") or isinstance(value, type):
        return False
    if isinstance(value, RunServer) or hasattr(value, "execute"):
        return True
    try:
        return foreign(value, name) is not None
    except (TypeError, ValueError, ImportError):
        return False


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more


def _look_in(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
