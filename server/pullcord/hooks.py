"""An author's hooks: called once when a process that executes runs begins, and once when it ends.

Which process that is depends on how the server is run: each worker of `pullcord serve`, or the one
process of an in-process server.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from typing import Any

Hook = Callable[[], Any]
"""Takes nothing; sync or async."""


def call_hooks(hooks: Iterable[Hook]) -> None:
    """Calls them in order, in this thread; async ones on an event loop of their own.

    Raises what the first that fails raises; those after it are not called.
    """
    for hook in hooks:
        made = hook()
        if inspect.isawaitable(made):
            asyncio.run(_await(made))


async def _await(made: Any) -> None:
    await made
