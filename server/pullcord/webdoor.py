"""The HTTP side of a server, put together from the settings; without the setting, there is none.

What it serves is in `transports.http`, whose packages are an extra: they are imported here, and
only if they are needed.
"""

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pullcord.doors import Entrance, check_exposure
from pullcord.extras import missing
from pullcord.identity.approval_links import ApprovalLinks
from pullcord.identity.signing_in import SigningIn
from pullcord.settings import Settings, SettingsError
from pullcord.transports.front import Front
from pullcord.transports.grpc.server import most_connections

if TYPE_CHECKING:
    from pullcord.transports.http.server import HttpServer

_MESSAGE = 16 * 1024 * 1024
"""Bytes of a request that are always read: what is over a bound of ours is refused in our words."""


def make_web(
    front: Front, settings: Settings, approvals: ApprovalLinks | None = None
) -> "HttpServer | None":
    """The HTTP server of a front; None: the settings want none. Raises SettingsError."""
    if not settings.http:
        return None
    try:
        from pullcord.transports.http.options import HttpOptions
        from pullcord.transports.http.server import HttpServer
    except ImportError as error:
        raise SettingsError(f"PULLCORD_HTTP: {missing('HTTP', 'http', error)}") from None
    options = HttpOptions(
        listen_host=settings.http.rpartition(":")[0],
        origins=(*settings.http_origin, *_public_origin(settings)),
        hosts=_hosts(front, settings),
        max_body=max(_MESSAGE, 8 * settings.engine.max_input_bytes)
        + settings.engine.max_parts_bytes * 2,  # base64
        keepalive=settings.keepalive,
        keepalive_timeout=settings.keepalive_timeout,
        max_idle=settings.max_idle,
        max_connections=settings.max_connections or most_connections() // 2,
        signing_in=_signing_in(settings),
        a2a_agent=settings.a2a_agent,
        a2a_grpc=settings.a2a_grpc,
        approvals=approvals,
        reuse_port=settings.reuse_port,
    )
    return HttpServer(front, options)


def _public_origin(settings: Settings) -> list[str]:
    """That of the public address: a proxy may name the server otherwise in the Host."""
    parts = urlsplit(settings.http_public_url)
    return [f"{parts.scheme}://{parts.netloc}"] if parts.netloc else []


def _hosts(front: Front, settings: Settings) -> tuple[str, ...]:
    """Names of the server; none, if any will do."""
    public = urlsplit(settings.http_public_url).hostname
    if public is None or (front.callers.are_known and not settings.http_host):
        return settings.http_host
    return (*settings.http_host, public)


def _signing_in(settings: Settings) -> SigningIn | None:
    if not settings.jwt.client_id:
        return None
    try:
        return SigningIn(settings.jwt)
    except OSError as error:
        raise SettingsError(f"PULLCORD_JWT__CLIENT_SECRET: {error}") from None


def listen_web(web: "HttpServer", settings: Settings, entrance: Entrance) -> str:
    """Opens its address; the URL. Raises OSError, or SettingsError if all could do everything."""
    knows_callers = entrance.doors.authenticator is not None
    check_exposure(settings.http, settings, knows_callers=knows_callers)
    tls = entrance.tls
    return web.listen(settings.http, tls and replace(tls, client_ca=settings.client_ca))
