"""Whether an address is of this machine alone, as gRPC writes addresses. No name is looked up."""

from ipaddress import ip_address
from urllib.parse import unquote


def stays_here(address: str) -> bool:
    """Whether what is sent to or served at this address does not leave this machine."""
    address = unquote(address)
    if address.startswith("unix:"):
        return True
    if "://" in address:
        address = address.partition("://")[2].rpartition("/")[2]
    for scheme in ("dns:", "ipv4:", "ipv6:"):
        address = address.removeprefix(scheme)
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        host = address
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
