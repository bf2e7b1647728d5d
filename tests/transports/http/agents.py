"""Runnables that the tests of several surfaces serve."""

from collections.abc import Iterator
from typing import Any

from pullcord import RunContext, runnable

from tests.transports.harness import Signal

TEXT = "one\u2028two\x85 three é "


@runnable(description="Says three words.")
def speaker(context: RunContext) -> Iterator[str]:
    """Says three words."""
    yield from (TEXT, TEXT, TEXT)


@runnable
def failing(context: RunContext) -> Iterator[str]:
    """Says something and raises."""
    yield "before "
    raise LookupError("nothing there")


def make_waiter(name: str = "waiter") -> tuple[Any, Signal]:
    """A runnable, and what lets it go on."""
    going = Signal()

    @runnable(id=name)
    async def waiter(context: RunContext) -> Any:
        """Says a word and waits to be stopped."""
        yield "first"
        await going.come()
        yield " last"

    return waiter, going
