"""The reference of Python's names, from their docstrings. No text of it is written here."""

import inspect

import pullcord
from pullcord import _HOMES as _NAMES


def page() -> str:
    """Every name that `pullcord` exports, each by Sphinx's autodoc."""
    names = sorted(_NAMES, key=str.lower)
    return _HEAD + "".join(f"## {name}\n\n{_directive(name)}\n" for name in names)


APART = frozenset({"GoogleADKAgent"})
"""Names of frameworks whose packages cannot stand beside all the others."""
_HEAD = """# Python

Every name that programs import from `pullcord`. [Clients](../clients.md) and the guides say how
they work together.

"""


def _directive(name: str) -> str:
    if name in APART:
        return "It needs an environment of its own: see [your agents](../adapters.md).\n"
    found = getattr(pullcord, name)
    if inspect.ismodule(found):
        own = ", ".join(each for each in _NAMES if hasattr(found, each))
        return _rst(f".. automodule:: {found.__name__}\n   :exclude-members: {own}")
    kind = "class" if inspect.isclass(found) else "function"
    return _rst(f".. auto{kind}:: pullcord.{name}")


def _rst(text: str) -> str:
    return f"```{{eval-rst}}\n{text}\n```\n"
