"""The options of the HTTP transport."""

from dataclasses import dataclass

from pullcord.identity.approval_links import ApprovalLinks
from pullcord.identity.signing_in import SigningIn


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Times are seconds, sizes are bytes."""

    listen_host: str = "127.0.0.1"
    """The host of the address that is served."""
    origins: tuple[str, ...] = ()
    """Origins of pages that may call, beside the server's own."""
    hosts: tuple[str, ...] = ()
    """Names by which the server is known, beside localhost and its addresses."""
    max_body: int = 16 * 1024 * 1024
    body_time: float = 30.0
    """A body that takes longer to arrive is refused."""
    header_time: float = 10.0
    """A connection whose request's headers take longer is closed."""
    max_connections: int = 10_000
    """More are closed at once."""
    max_header: int = 64 * 1024
    """A request whose headers are larger is refused."""
    keepalive: float = 20.0
    """A silent connection is probed after so long, and closed after `keepalive_timeout`."""
    keepalive_timeout: float = 10.0
    max_idle: float = 60.0
    """A connection without a request is closed after so long."""
    send_buffer: int = 256 * 1024
    """Of each connection, in the kernel: what a client that stops reading is sent in vain."""
    signing_in: SigningIn | None = None
    """Signs browsers in with an identity provider; None: they bring a token."""
    a2a_agent: str = ""
    """The runnable whose A2A card is at the root, if there are several."""
    a2a_grpc: str = ""
    """The address at which clients reach A2A over gRPC; empty: it is not served so."""
    approvals: ApprovalLinks | None = None
    """Reads links by which people decide for paused runs; None: there are no such links."""
    reuse_port: bool = False
    """Whether several processes may listen on one port."""
