"""Refuses requests before any route is looked for: of foreign pages, and to foreign names.

A page of any site can send a POST to this machine without asking, and a name that its owner points
here arrives as of the same origin, which only the Host shows. What a caller may do is not decided
here.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from pullcord.transports.http.messages import Answer, Refused, Request

_SAFE_SITES = ("", "same-origin", "none")
_ALLOWED_HEADERS = (
    "authorization, content-type, connect-protocol-version, connect-timeout-ms, x-grpc-web, "
    "x-user-agent, grpc-timeout, pullcord-actor, last-event-id, traceparent, a2a-version, "
    "a2a-extensions, mcp-protocol-version, mcp-session-id, mcp-method, mcp-name"
)
_EXPOSED = (
    "grpc-status, grpc-message, grpc-status-details-bin, retry-after, www-authenticate, "
    "mcp-session-id"
)


class Guard:
    """Decides for one server, by what a request's headers say of the page that made it."""

    def __init__(
        self, origins: Iterable[str], hosts: Iterable[str], listen_host: str, *, knows_callers: bool
    ) -> None:
        """`origins` may call from their pages; `hosts` are names of this server.

        Where callers are known and no names are given, any name will do: a page of another name
        has neither this server's cookies nor a token.
        """
        self._origins = frozenset(origin.rstrip("/").lower() for origin in origins)
        self._hosts = frozenset(host.lower() for host in hosts)
        self._own = frozenset({*self._hosts, "localhost", listen_host.strip("[]").lower()})
        self._any_host = knows_callers and not self._hosts

    def check(self, request: Request) -> None:
        """Raises Refused."""
        headers = request.headers
        host = headers.get("host", "")
        if not self._any_host and not self._is_own(host):
            raise Refused(
                421,
                "FOREIGN_HOST",
                f"this server is not known as {host[:200]!r}; if it is, add the name to"
                " PULLCORD_HTTP_HOST",
            )
        origin = headers.get("origin")
        if origin is not None:
            if _is_same(origin, host):
                return
            request.of_other_origin = True
            if not self.is_allowed(origin):
                raise Refused(
                    403,
                    "FOREIGN_ORIGIN",
                    f"pages of {origin[:200]!r} may not call this server; --http-origin allows one",
                )
            return
        site = headers.get("sec-fetch-site", "")
        navigates = request.method == "GET" and headers.get("sec-fetch-mode") == "navigate"
        if site not in _SAFE_SITES and not navigates:
            raise Refused(403, "FOREIGN_ORIGIN", "pages of other origins may not call this server")

    def is_allowed(self, origin: str) -> bool:
        """Whether pages of this other origin may call."""
        return origin.lower() in self._origins

    def preflight(self, request: Request) -> Answer | None:
        """The answer to a browser that asks whether a page may call; None: it does not ask."""
        if request.method != "OPTIONS" or "access-control-request-method" not in request.headers:
            return None
        return Answer(
            status=204,
            headers=(
                *self.headers(request.headers),
                ("access-control-allow-methods", "GET, POST, DELETE"),
                ("access-control-allow-headers", _ALLOWED_HEADERS),
                ("access-control-max-age", "7200"),
            ),
        )

    def headers(self, of: Mapping[str, str]) -> list[tuple[str, str]]:
        """The headers of every answer to a page of an allowed origin."""
        if not self._origins:
            return []
        origin = of.get("origin", "")
        if not self.is_allowed(origin):
            return [("vary", "origin")]
        return [
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", _EXPOSED),
            ("vary", "origin"),
        ]

    def _is_own(self, host: str) -> bool:
        name = host.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name.rstrip(".") in self._own:
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return True  # no name leads here, so nobody has pointed one here


def _is_same(origin: str, host: str) -> bool:
    scheme, separator, rest = origin.lower().partition("://")
    return bool(separator) and scheme in ("http", "https") and rest == host.lower()
