"""Notifications: one connection that listens, and what is read when it hears something.

A notification carries no truth. A process that hears one, or nothing for a second, or has connected
anew, reads the tables. What is done with what is read is not known here.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any

from pullcord.run.errors import StoreUnavailable
from pullcord.stores.postgres.connections import Address, Connection, StoreError

_log = logging.getLogger("pullcord.store")

POLL = 1.0
"""Seconds without a notification after which the tables are read all the same."""
_PROBE_TIME = 2.0
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 5.0


class Listening:
    """The connection that listens. Used on the store's loop only."""

    def __init__(
        self, address: Address, read: Callable[[Collection[str]], Awaitable[None]]
    ) -> None:
        """`read` reads what may be new, with the channels that were heard; none: it may be
        anything. It is called by one task, again and again."""
        self._address = address
        self._read = read
        self._connection: Connection | None = None
        self._channels: set[str] = set()
        self._heard = asyncio.Event()
        self._heard_on: set[str] = set()
        self._all = True

    def wake(self) -> None:
        """There may be anything new."""
        self._all = True
        self._heard.set()

    async def want(self, channels: set[str]) -> None:
        """Listens to these channels from now on, and to no others; confirmed when this returns, if
        there is a connection."""
        before, self._channels = self._channels, channels
        connection = self._connection
        if connection is None:
            return
        with contextlib.suppress(Exception):  # a broken connection listens anew
            for channel in channels - before:
                await connection.add_listener(channel, self._on_notify)
            for channel in before - channels:
                await connection.remove_listener(channel, self._on_notify)

    async def probe(self, other: Connection) -> None:
        """Makes sure that notifications arrive.

        Raises:
            StoreError: they do not, as through a pooler in transaction mode.
        """
        connection = await self._address.connect()
        channel = f"pc_probe_{random.getrandbits(48):x}"
        arrived = asyncio.Event()
        try:
            await connection.add_listener(channel, lambda *_: arrived.set())
            await other.execute("select pg_notify($1, '')", channel)
            async with asyncio.timeout(_PROBE_TIME):
                await arrived.wait()
        except TimeoutError as error:
            raise StoreError(
                f"{self._address.shown}: notifications do not arrive. A pooler in transaction mode"
                " loses them: give the server a direct address to listen on"
                " (PULLCORD_STORE_LISTEN_URL)"
            ) from error
        finally:
            connection.terminate()

    async def run(self) -> None:
        """Listens and reads until it is cancelled."""
        reader = asyncio.create_task(self._read_on())
        wait = _FIRST_WAIT
        try:
            while True:
                lost = asyncio.Event()
                try:
                    await self._connect(lost)
                    wait = _FIRST_WAIT
                    self.wake()
                    await lost.wait()
                    _log.warning("the connection that listens to the store was lost")
                except (StoreUnavailable, StoreError) as error:
                    _log.warning("%s", error)
                except Exception:
                    _log.exception("the store cannot be listened to; it is tried again")
                finally:
                    self._give_up()
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, _LONGEST_WAIT)
        finally:
            reader.cancel()

    async def _connect(self, lost: asyncio.Event) -> None:
        connection = await self._address.connect()
        self._connection = connection
        connection.add_termination_listener(lambda _: lost.set())
        for channel in list(self._channels):
            await connection.add_listener(channel, self._on_notify)

    def _give_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(Exception):
                connection.terminate()

    def _on_notify(self, _: Any, pid: int, channel: str, payload: object) -> None:
        self._heard_on.add(channel)
        self._heard.set()

    async def _read_on(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._heard.wait()
            silent = not self._heard.is_set()
            self._heard.clear()  # before the tables are read, so that nothing is left behind
            channels, self._heard_on = self._heard_on, set()
            if silent or self._all:
                channels, self._all = set(), False
            try:
                await self._read(channels)
            except StoreUnavailable as error:
                _log.debug("%s", error)
                self._all = True
                await asyncio.sleep(POLL / 2)
            except Exception:
                _log.exception("what is new in the store could not be read; it is tried again")
                self._all = True
                await asyncio.sleep(POLL)
