"""The runnables that are served, by full name, each with the description that callers see.

Filled as a whole, by the composition root or by what workers report, then only read. A runnable is
an author's object; what it says of itself is read here, before it is served, and never again.
"""

from collections.abc import Iterable

from pullcord.run.errors import RunnableNotFound
from pullcord.run.gate import described
from pullcord.run.runnable import Runnable, RunnableInfo


class Catalog:
    """Runnables by full name."""

    def __init__(self, runnables: Iterable[Runnable] = ()) -> None:
        """Raises like `replace`."""
        self.replace(runnables)

    def replace(self, runnables: Iterable[Runnable]) -> None:
        """Reads what each says of itself; from now on these are on offer, and no others.

        Raises:
            ValueError: two have one name, or an id or name is not what it must be.
            TypeError: an attribute is of another type than `Runnable` says.
        """
        by_name: dict[str, Runnable] = {}
        infos: list[RunnableInfo] = []
        for runnable in runnables:
            info = described(runnable)
            if info.name in by_name:
                raise ValueError(
                    f"two runnables are called {info.name!r}; give one of them another id"
                )
            by_name[info.name] = runnable
            infos.append(info)
        self._by_name = by_name
        self._infos = sorted(infos, key=lambda info: info.name)

    def find(self, name: str) -> Runnable:
        """The runnable of this name.

        Raises:
            RunnableNotFound: there is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise RunnableNotFound(name) from None

    def names(self) -> list[str]:
        """The full names of what is on offer."""
        return list(self._by_name)

    def all(self) -> list[RunnableInfo]:
        """The description of each runnable that callers see, in order of name."""
        return list(self._infos)
