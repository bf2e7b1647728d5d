"""The console at `/`: the built page of clients/console, and the headers that it is sent with.

The files are in the package, and read once. What the page does with the API is its own business: it
has no other way in than any client.
"""

import gzip
import json
from functools import cache
from importlib import resources
from importlib.metadata import version

from pullcord.transports.http.messages import Answer, Request
from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Scripts and styles are files of this server, and no text becomes markup."""

_TYPES = {
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "svg": "image/svg+xml",
}
_PAGE = (
    ("cache-control", "no-store"),
    ("content-security-policy", POLICY),
    ("cross-origin-opener-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
    ("vary", "accept, accept-encoding"),
)
# An asset's name has the hash of its content.
_ASSET = (
    ("cache-control", "public, max-age=31536000, immutable"),
    ("content-security-policy", POLICY),
    ("vary", "accept-encoding"),
)


def routes(web: Web) -> list[Route]:
    """The routes of this surface: the page, and each file that it asks for."""
    return [
        Route("GET", "/", _page),
        *(Route("GET", f"/assets/{name}", _asset) for name in _files() if name != "index.html"),
    ]


async def _page(request: Request) -> Answer:
    """The console; for a client that wants JSON, what this is and where more is said."""
    accepts = request.headers.get("accept", "")
    if "application/json" in accepts and "text/html" not in accepts:
        about = {"name": "pullcord", "version": version("pullcord"), "health": "/healthz"}
        return Answer(json.dumps(about).encode())
    return _answer(request, "index.html", _PAGE)


async def _asset(request: Request) -> Answer:
    return _answer(request, request.path.rpartition("/")[2], _ASSET)


def _answer(request: Request, name: str, headers: tuple[tuple[str, str], ...]) -> Answer:
    plain, packed = _files()[name]
    kind = _TYPES[name.rpartition(".")[2]]
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Answer(packed, content_type=kind, headers=(*headers, ("content-encoding", "gzip")))
    return Answer(plain, content_type=kind, headers=headers)


@cache
def _files() -> dict[str, tuple[bytes, bytes]]:
    """The files of the build by their names, each as it is and packed."""
    built = resources.files("pullcord") / "console"
    found = [built / "index.html", *(built / "assets").iterdir()]
    contents = {file.name: file.read_bytes() for file in found}
    return {name: (data, gzip.compress(data, mtime=0)) for name, data in contents.items()}
