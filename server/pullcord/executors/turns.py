"""A queue in which owners take turns: however much one has waiting, another's first comes next.

With one owner it is a queue like any other. What waits in it is not known here, and whoever uses it
holds a lock.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Waiting items, by owner. Adding and taking cost the same however many owners there are."""

    def __init__(self) -> None:
        # The owner whose turn is next comes first.
        self._of: OrderedDict[Hashable, deque[T]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, owner: Hashable, item: T) -> None:
        """The item waits behind those of its owner."""
        self._of.setdefault(owner, deque()).append(item)
        self._count += 1

    def popleft(self) -> T:
        """The item whose turn it is. Raises IndexError if there is none."""
        if not self._of:
            raise IndexError("nothing waits")
        owner, items = next(iter(self._of.items()))
        item = items.popleft()
        self._count -= 1
        if items:
            self._of.move_to_end(owner)
        else:
            del self._of[owner]
        return item

    def remove(self, owner: Hashable, item: T) -> None:
        """Takes an item out. Raises ValueError if it does not wait."""
        items = self._of.get(owner)
        if items is None:
            raise ValueError("it does not wait")
        items.remove(item)
        self._count -= 1
        if not items:
            del self._of[owner]

    def clear(self) -> None:
        """Nothing waits any more."""
        self._of.clear()
        self._count = 0
