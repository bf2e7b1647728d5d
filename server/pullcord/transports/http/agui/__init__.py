"""AG-UI, the protocol of front ends for agents, over SSE. Without the extra ag-ui there is none.

Its messages are those of the official package. A run is stopped by leaving, or by the native
`POST /v1/runs/{run_id}/cancel`: AG-UI itself has no cancel.
"""

from importlib.util import find_spec

from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web


def routes(web: Web) -> list[Route]:
    """The routes of this surface, if the extra is installed."""
    if find_spec("ag_ui") is None:
        return []
    from pullcord.transports.http.agui.runs import routes_of

    return routes_of(web)
