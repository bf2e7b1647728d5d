"""The fingerprint of an author's source files, by which both ends of a link see that they have the
same. Nothing is imported here.
"""

import hashlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path


def fingerprint(target: str) -> str:
    """Of the file, or the module's package, that `module:name` or `path/to/file.py:name` names;
    empty if it cannot be read here."""
    place = target.rpartition(":")[0] if ":" in target else target
    try:
        files = _files(place)
        if not files:
            return ""
        told = hashlib.sha256()
        for name, file in files:
            told.update(f"{name}\0{file.stat().st_size}\0".encode())
            told.update(file.read_bytes())
    except OSError:
        return ""
    return told.hexdigest()


def _files(place: str) -> list[tuple[str, Path]]:
    """The Python files, each with a name that is the same wherever they are."""
    if place.endswith(".py"):
        path = Path(place)
        return [(path.name, path)] if path.is_file() else []
    where = [str(Path.cwd()), *sys.path]
    for part in place.split("."):
        found = PathFinder.find_spec(part, where)
        if found is None:
            return []
        if found.origin is not None:
            path = Path(found.origin)
            if path.name != "__init__.py":
                return [(path.name, path)]
            files = sorted(path.parent.rglob("*.py"))
            return [(file.relative_to(path.parent).as_posix(), file) for file in files]
        where = list(found.submodule_search_locations or ())  # a folder without an __init__.py
    return []
