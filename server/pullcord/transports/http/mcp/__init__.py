"""MCP over streamable HTTP at `/mcp`. Without the extra mcp there is none of it.

What its tools do is in `transports.mcp`; here is only their way over HTTP.
"""

from importlib.util import find_spec

from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web


def routes(web: Web) -> list[Route]:
    """The routes of this surface, if the extra is installed."""
    if find_spec("mcp") is None:
        return []
    from pullcord.transports.http.mcp.surface import routes_of

    return routes_of(web)
