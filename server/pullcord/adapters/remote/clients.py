"""One client a running event loop, because a grpc.aio channel belongs to its loop.

Each is closed with its loop, with its owner, or by `aclose`. The calls of a client are not known
here.
"""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from pullcord.client import AsyncRunClient


class _Kept(NamedTuple):
    client: AsyncRunClient
    keeper: AsyncGenerator[AsyncRunClient, None]


class LoopClients:
    """The clients of one target."""

    def __init__(self, make: Callable[[], AsyncRunClient]) -> None:
        self._make = make
        self._kept: WeakKeyDictionary[asyncio.AbstractEventLoop, _Kept] = WeakKeyDictionary()
        self._lock = threading.Lock()

    async def get(self) -> AsyncRunClient:
        """The running loop's client."""
        loop = asyncio.get_running_loop()
        with self._lock:
            kept = self._kept.get(loop)
        if kept is None:
            # A suspended async generator is the one thing that a loop closes when it shuts down
            # (loop.shutdown_asyncgens, as asyncio.run does), and when nobody holds it any more.
            keeper = _keep(self._make())
            kept = _Kept(await anext(keeper), keeper)
            with self._lock:
                self._kept[loop] = kept
        return kept.client

    async def aclose(self) -> None:
        """Closes them all, whichever loops they belong to; later ones are made anew."""
        with self._lock:
            all_kept = list(self._kept.items())
            self._kept.clear()
        for loop, kept in all_kept:
            if loop is asyncio.get_running_loop():
                await kept.keeper.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(kept.keeper.aclose(), loop)
                await asyncio.wrap_future(closing)


async def _keep(client: AsyncRunClient) -> AsyncGenerator[AsyncRunClient, None]:
    try:
        yield client
    finally:
        await client.close()
