"""Makes a runnable of what an author gives, or raises an error that says what was given instead.

Agents, teams and workflows of ours, objects of other frameworks, and plain functions. What is done
with a runnable is not known here.
"""

from collections.abc import Callable, Iterable
from typing import Any

from pullcord.adapters.foreign.recognition import foreign
from pullcord.adapters.function import FunctionRunnable
from pullcord.run.plain import class_name
from pullcord.run.runnable import Runnable


def as_runnable(given: Any, where: str) -> Runnable:
    """The object as a runnable. `where` is its place in the author's code, such as `agents[0]`.

    Raises:
        TypeError: it is nothing that can be run.
        ValueError: no id can be made for it.
    """
    found = checked(given, where)
    if hasattr(found, "execute"):
        made: Runnable = found  # type: ignore[assignment]  # by its method
        return made
    return FunctionRunnable(found)


def checked(given: Any, where: str) -> Runnable | Callable[..., Any]:
    """Like `as_runnable`, but returns a plain function as it is.

    Raises:
        TypeError: it is nothing that can be run.
        ValueError: no id can be made for it.
    """
    if isinstance(given, type):
        raise TypeError(f"{where} is the class {given.__name__}; give an object of it")
    if (found := foreign(given)) is not None:
        return found
    if hasattr(given, "execute"):
        made: Runnable = given  # by its method
        return made
    if not callable(given):
        raise TypeError(
            f"{where} must be an agent, a team, a workflow or a function, not {shown(given)}"
        )
    function: Callable[..., Any] = given
    return function


def several(given: Iterable[Any], where: str) -> list[Any]:
    """The items of a list of the author's. Raises TypeError for what is none, such as one agent."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise TypeError(f"{where} must be a list, such as {where}=[…], not {shown(given)}")
    return list(given)


def runnables(given: Iterable[Any], where: str) -> list[Runnable]:
    """All of a list of the author's, as runnables. Raises as `as_runnable` does."""
    items = enumerate(several(given, where))
    return [as_runnable(item, f"{where}[{index}]") for index, item in items]


def shown(given: Any) -> str:
    """A short description of the object that was given."""
    if given is None:
        return "None"
    if isinstance(given, str):
        return f"the text {given[:60]!r}"
    return f"a {class_name(given)}"
