"""A2A over HTTP: the cards, JSON-RPC and HTTP+JSON. Without the extra a2a there is none of it.

What is asked is done by `transports.a2a`; here are only the bindings.
"""

from importlib.util import find_spec

from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web


def routes(web: Web) -> list[Route]:
    """The routes of this surface, if the extra is installed."""
    if find_spec("a2a") is None:
        return []
    from pullcord.transports.http.a2a.surface import routes_of

    return routes_of(web)
