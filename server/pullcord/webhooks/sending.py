"""Sends one webhook, once: what came of it, within bounded time and without following anything.

When it is sent again is not decided here.
"""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import version
from urllib.parse import urlsplit

import httpcore2

from pullcord.webhooks.addresses import AddressRefused, CheckedNetwork
from pullcord.webhooks.signing import signature

_CONNECT, _WHOLE = 5.0, 15.0
"""Seconds to connect, and until an answer has come in all."""
_IDLE = 15.0
"""Seconds that a connection is kept for the next one."""
_LONGEST_WAIT = 3600.0


class Outcome(StrEnum):
    """The outcome of one try."""

    DELIVERED = "delivered"
    """The receiver has it: 2xx."""
    GONE = "gone"
    """The receiver wants none: 410."""
    FAILED = "failed"
    """Anything else."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of one try, and the reason in words for the log."""

    outcome: Outcome
    words: str = ""
    wait: float = 0.0
    """Seconds that the receiver asked to wait; 0: it did not."""


class Sender:
    """Sends to one address. Made and used on one loop."""

    def __init__(self, url: str, keys: Sequence[bytes], *, private: bool, most: int) -> None:
        self._url = url
        self._keys = keys
        where = urlsplit(url)
        self.shown = f"{where.scheme}://{where.netloc}"
        """The address without its path, which may hold a secret."""
        self._pool = httpcore2.AsyncConnectionPool(
            max_connections=most,
            keepalive_expiry=_IDLE,
            network_backend=CheckedNetwork(private=private),
        )

    async def send(self, id: str, body: bytes) -> Answer:
        """Never raises."""
        timestamp = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": f"pullcord/{version('pullcord')}",
            "webhook-id": id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._keys, id, timestamp, body),
        }
        given = {"connect": _CONNECT, "read": _WHOLE, "write": _WHOLE, "pool": _WHOLE}
        try:
            async with (
                asyncio.timeout(_WHOLE),
                self._pool.stream(
                    "POST",
                    self._url,
                    headers=list(headers.items()),
                    content=body,
                    extensions={"timeout": given},
                ) as response,
            ):
                # Nobody needs its body, which could be long: the connection is closed instead.
                return _answer(response)
        except AddressRefused as error:
            return Answer(Outcome.FAILED, str(error))
        except TimeoutError:
            return Answer(Outcome.FAILED, f"no answer within {_WHOLE:g} s")
        except Exception as error:  # whatever the connection, TLS or the answer is like
            return Answer(Outcome.FAILED, str(error) or type(error).__name__)

    async def close(self) -> None:
        """Closes its connections."""
        with contextlib.suppress(Exception):
            await self._pool.aclose()


def _answer(response: httpcore2.Response) -> Answer:
    status = response.status
    if 200 <= status < 300:
        return Answer(Outcome.DELIVERED)
    if status == 410:
        return Answer(Outcome.GONE, "it answers 410")
    words = f"it answers {status}"
    if 300 <= status < 400:
        words += "; redirects are not followed"
    asked = {k.lower(): v for k, v in response.headers}.get(b"retry-after", b"")
    wait = min(float(asked), _LONGEST_WAIT) if asked.isdigit() and len(asked) < 10 else 0.0
    return Answer(Outcome.FAILED, words, wait)
