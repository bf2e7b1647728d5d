"""Bytes that were handed to gRPC for each connection and that its client has not taken yet.

gRPC takes every answer and keeps it until the client reads. A client that never reads would have
the server keep one whole answer a call; so what is large waits for room in its connection.
"""

import asyncio
from collections import deque

from pullcord.run.errors import ServerBusy

MAX_BYTES = 32 * 1024 * 1024
"""Of one connection. The first one always has room, however large it is."""
MAX_WAITING = 100
"""Large answers and events of one connection that wait for room; more answers are refused. So are
those that hold what they answer with, beyond `MAX_BYTES` together."""
PATIENCE = 30.0
"""Seconds that an answer waits for room."""


class _Connection:
    def __init__(self) -> None:
        self.unread = 0
        self.waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self.held = 0
        """Bytes that those who wait hold meanwhile."""

    def has_room(self, size: int) -> bool:
        return not self.unread or self.unread + size <= MAX_BYTES


class Outgoing:
    """The connections of one server that have something to take. Used on one loop only."""

    def __init__(self) -> None:
        self._connections: dict[str, _Connection] = {}

    def has_room(self, peer: str, size: int) -> bool:
        """Whether `room` would not wait."""
        connection = self._connections.get(peer)
        return connection is None or (not connection.waiting and connection.has_room(size))

    async def room(
        self, peer: str, size: int, patience: float | None = None, held: int = 0
    ) -> None:
        """Waits until the connection has room for so many bytes, and takes it; `free` it. The
        caller holds `held` bytes while it waits.

        Raises:
            ServerBusy: with `patience`, that took longer than so many seconds, or too many wait.
        """
        connection = self._connections.setdefault(peer, _Connection())
        if not connection.waiting and connection.has_room(size):
            connection.unread += size
            return
        if patience is not None and len(connection.waiting) >= MAX_WAITING:
            raise _unread()
        if held and connection.held + held > MAX_BYTES:
            raise _unread()
        connection.held += held
        turn = asyncio.get_running_loop().create_future()
        connection.waiting.append((turn, size))
        try:
            async with asyncio.timeout(patience):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self.free(peer, size)
            else:
                turn.cancel()
                self._let_through(peer, connection)
            if isinstance(error, TimeoutError):
                raise _unread() from None
            raise
        finally:
            connection.held -= held

    def free(self, peer: str, size: int) -> None:
        """So many bytes were taken, or their call has ended."""
        connection = self._connections[peer]
        connection.unread -= size
        self._let_through(peer, connection)

    def _let_through(self, peer: str, connection: _Connection) -> None:
        waiting = connection.waiting
        while waiting:
            turn, size = waiting[0]
            if not turn.done():
                if not connection.has_room(size):
                    return
                connection.unread += size
                turn.set_result(None)
            waiting.popleft()
        if not connection.unread:
            self._connections.pop(peer, None)


def _unread() -> ServerBusy:
    return ServerBusy(
        f"{MAX_BYTES} bytes of answers were sent over this connection and not read; read them first"
    )
