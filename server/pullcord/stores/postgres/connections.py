"""Connections to PostgreSQL: made when needed, given up on any doubt, and errors in our words.

What is asked over them is not known here. Used on one event loop only.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from pullcord.run.errors import StoreUnavailable

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_COMMAND_TIMEOUT = 3.0
"""Seconds after which a connection that answers nothing is given up."""
_SERVER_SETTINGS = {
    "lock_timeout": "1s",
    # Below the client's, or a statement would be executed after its caller has given up.
    "statement_timeout": "2s",
    "idle_in_transaction_session_timeout": "2s",
    "timezone": "UTC",
    # A plan made once takes 5,000 runs in a statement for ten, and compares each with each.
    "plan_cache_mode": "force_custom_plan",
}
_BUDGET = 4.0
"""Seconds in which a verb is tried again whose connection was lost."""
_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0

T = TypeVar("T")


class StoreError(Exception):
    """The store cannot be used as it is set up; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where PostgreSQL is, and as whom to connect."""

    url: str
    name: str = "pullcord"
    """What its operators see of a connection."""
    search_path: str = "pullcord"

    @property
    def shown(self) -> str:
        """The address without its password, for people."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        user = parts.username
        return urlunsplit((parts.scheme, f"{user}@{host}" if user else host, parts.path, "", ""))

    def named(self, name: str) -> "Address":
        """The same under another name."""
        return replace(self, name=name[:63])

    async def connect(self) -> Connection:
        """A new connection. Raises StoreUnavailable, or StoreError for what will not pass."""
        settings = _SERVER_SETTINGS | {
            "application_name": self.name,
            "search_path": self.search_path,
        }
        try:
            return await asyncpg.connect(
                self.url,
                timeout=_COMMAND_TIMEOUT,
                command_timeout=_COMMAND_TIMEOUT,
                server_settings=settings,
            )
        except (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidCatalogNameError,
            asyncpg.ClientConfigurationError,
        ) as error:
            raise StoreError(f"{self.shown}: {error}") from error
        except (asyncpg.PostgresError, *_LOST) as error:
            raise away(error) from error


def away(error: BaseException) -> StoreUnavailable:
    """What callers are told of it."""
    words = str(error) or type(error).__name__
    return StoreUnavailable(f"the store does not answer: {words}")


_AWAY = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # it stops or starts, or a statement took too long
    asyncpg.InsufficientResourcesError,  # disk or memory full, too many connections
    asyncpg.PostgresSystemError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby, or set so by its operator
    asyncpg.LockNotAvailableError,
    asyncpg.TransactionRollbackError,  # a deadlock
    asyncpg.IdleInTransactionSessionTimeoutError,
)
# A connection that the server ends at this moment is an error of the client library at times.
_LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


_OLDEST = 14


async def require_primary(connection: Connection) -> None:
    """Sees to it that what is asked here can be written.

    Raises:
        StoreError: the server is too old.
        StoreUnavailable: it is a standby, or read-only for now.
    """
    if connection.get_server_version().major < _OLDEST:
        raise StoreError(f"PostgreSQL must be {_OLDEST} or newer")
    if await connection.fetchval("select pg_is_in_recovery()"):
        raise StoreUnavailable("the store is a standby: give the address of the primary")
    if await connection.fetchval("show transaction_read_only") == "on":
        raise StoreUnavailable("the store is read-only")


class Connections:
    """A few connections for one purpose. One that failed in any way is not used again."""

    def __init__(self, address: Address, most: int) -> None:
        self._address = address
        self._room = asyncio.Semaphore(most)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._closed = False

    async def ask(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Does the work over a connection, and again over another if that was lost meanwhile: the
        work must be such that doing it twice is doing it once.

        Raises:
            StoreUnavailable: no answer came in time.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + _BUDGET
        wait = _FIRST_WAIT
        while True:
            try:
                async with asyncio.timeout_at(ends):
                    return await self._once(work)
            except StoreUnavailable as error:
                # A statement that the server refused is not better a moment later.
                answered = isinstance(error.__cause__, asyncpg.PostgresError) and not isinstance(
                    error.__cause__,
                    asyncpg.PostgresConnectionError | asyncpg.TransactionRollbackError,
                )
                if answered or self._closed or loop.time() + wait >= ends:
                    raise
            except TimeoutError as error:
                raise away(error) from error
            await asyncio.sleep(wait * random.uniform(0.5, 1.0))  # or all come back at once
            wait = min(2 * wait, _LONGEST_WAIT)

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._room:
            connection = await self._take()
            sound = False
            try:
                answer = await work(connection)
                sound = True
                return answer
            except _AWAY as error:
                sound = isinstance(error, asyncpg.LockNotAvailableError)
                raise away(error) from error
            except asyncpg.PostgresError:
                sound = True
                raise
            except _LOST as error:
                raise away(error) from error
            except StoreUnavailable:
                sound = True
                raise
            finally:
                if sound and not connection.is_closed() and not connection.is_in_transaction():
                    self._idle.append(connection)
                else:
                    self.give_up(connection)

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._all.discard(connection)
        connection = await self._address.connect()
        self._all.add(connection)
        return connection

    def give_up(self, connection: Connection) -> None:
        """Whatever the other side thinks of it."""
        self._all.discard(connection)
        with contextlib.suppress(Exception):
            connection.terminate()

    def close(self) -> None:
        """Gives up all of them."""
        self._closed = True
        for connection in list(self._all):
            self.give_up(connection)
        self._idle.clear()
