"""What is on offer: runnables by full name. Filled once by the composition root, then only read."""

from collections.abc import Iterable

from pullcord.run.errors import RunnableNotFound
from pullcord.run.runnable import Runnable, full_name


class Catalog:
    """Runnables by full name."""

    def __init__(self, runnables: Iterable[Runnable]) -> None:
        """Raises ValueError where two have one name."""
        self._by_name: dict[str, Runnable] = {}
        for runnable in runnables:
            name = full_name(runnable)
            if name in self._by_name:
                raise ValueError(f"two runnables are called {name!r}; give one of them another id")
            self._by_name[name] = runnable

    def find(self, name: str) -> Runnable:
        """The runnable of this name.

        Raises:
            RunnableNotFound: there is none.
        """
        try:
            return self._by_name[name]
        except KeyError:
            raise RunnableNotFound(name) from None

    def all(self) -> list[Runnable]:
        """All of them, in order of name."""
        return [self._by_name[name] for name in sorted(self._by_name)]
