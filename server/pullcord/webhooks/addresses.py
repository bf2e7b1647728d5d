"""Connects to checked addresses only: a name is looked up once, and what was checked is used.

Otherwise a name could lead to a public address when it is checked, and to a private one when it is
connected to. What is sent is not known here.
"""

import asyncio
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

import httpcore2

_NAT64 = IPv6Network("64:ff9b::/96")
_TRIED = 3
"""Addresses of one name that are tried, one after the other."""


class AddressRefused(Exception):
    """An address is not public."""


def is_public(text: str) -> bool:
    """Whether this address is one of the internet's: not of this machine or of a private network,
    no group, and nothing that is reserved; nor an IPv6 address that stands for such an IPv4 one."""
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if (within := _within(address)) is not None:
            return is_public(str(within))
        if address.is_site_local:
            return False
    return address.is_global and not (
        address.is_multicast
        or address.is_reserved
        or address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_unspecified
    )


def _within(address: IPv6Address) -> IPv4Address | None:
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Opens connections. TLS asks for the name all the same, since that is the URL's."""

    def __init__(self, *, private: bool) -> None:
        """`private`: any address may be connected to."""
        self._private = private
        self._within = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises AddressRefused, and what httpcore raises."""
        failed: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in (await self._allowed(host, port))[:_TRIED]:
            try:
                return await self._within.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failed = error
        raise failed

    async def _allowed(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} cannot be looked up: {error}") from error
        addresses = [str(where[0]) for _, _, _, _, where in found]
        allowed = [one for one in addresses if self._private or is_public(one)]
        if addresses and not allowed:
            raise AddressRefused(
                f"{host} is {addresses[0]}, which is not public; PULLCORD_WEBHOOK_PRIVATE=true"
                " allows it"
            )
        return allowed

    async def sleep(self, seconds: float) -> None:
        """Delegates to the inner backend."""
        await self._within.sleep(seconds)
