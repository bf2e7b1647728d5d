"""Signing a browser in and out: a credential becomes a cookie that no script can read.

The cookie holds the credential itself, so that taking it back ends the session as it ends every
other use of it, and no server has to remember who has signed in. Nothing is decided here about who
a caller is.
"""

import contextlib
import json
import re
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote, unquote

from pullcord.identity.run_tokens import PREFIX
from pullcord.run.caller import Caller
from pullcord.run.errors import InvalidArgument, Unauthenticated, Violation
from pullcord.transports.http.messages import COOKIE, Answer, Refused, Request
from pullcord.transports.http.routing import Route
from pullcord.transports.http.web import Web

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{1,3800}")
"""The characters of a bearer token, all of which a cookie may hold."""
_LASTS = 12 * 3600
"""Seconds that a browser keeps the cookie, whatever the credential says."""
_BEGUN = "pullcord-sign-in"
"""The cookie between the two halves of a sign-in with a provider."""
_DONE = "/v1/session/done"


def routes(web: Web) -> list[Route]:
    """The routes of this surface."""
    surface = _Session(web)
    return [
        Route("GET", "/v1/session", surface.show),
        Route("POST", "/v1/session", surface.sign_in),
        Route("DELETE", "/v1/session", surface.sign_out),
        Route("GET", "/v1/session/begin", surface.begin),
        Route("GET", _DONE, surface.done),
    ]


class _Session:
    def __init__(self, web: Web) -> None:
        self._web = web

    async def show(self, request: Request) -> Answer:
        """The signed-in caller, and the ways to sign in. Never refused."""
        known = self._web.front.callers.are_known
        ways = ["token"] if known else []
        if known and self._web.options.signing_in is not None:
            ways.append("provider")
        caller: Caller | None = None
        with contextlib.suppress(Unauthenticated):
            caller = await request.caller()
        return _json({"signed_in": caller is not None, "ways": ways, **_about(caller)})

    async def sign_in(self, request: Request) -> Answer:
        """Sets the cookie for a token, which comes in the header or as {"token": …}."""
        if request.of_other_origin:
            raise Refused(403, "FOREIGN_ORIGIN", "pages of other origins cannot sign in here")
        token = request.headers.get("authorization", "").partition(" ")[2].strip()
        if not token:
            told = await request.json()
            token = str(told.get("token", "")) if isinstance(told, dict) else ""
        if _TOKEN.fullmatch(token) is None:
            words = "must be a bearer token of at most 3,800 characters"
            raise InvalidArgument(Violation("token", words))
        return await self._signed_in(request, token)

    async def _signed_in(self, request: Request, token: str) -> Answer:
        if token.startswith(PREFIX):
            raise InvalidArgument(Violation("token", "is for one run, and signs nobody in"))
        request.bearer = token
        caller = await request.caller()
        answer = _json({"signed_in": True, **_about(caller)})
        answer.headers = (_cookie(request, COOKIE, token, "Strict", _LASTS), _NO_STORE)
        return answer

    async def sign_out(self, request: Request) -> Answer:
        """Takes the cookie back."""
        return Answer(status=204, headers=(_cookie(request, COOKIE, "", "Strict", 0), _NO_STORE))

    # --- with a provider

    async def begin(self, request: Request) -> Answer:
        """Sends the browser to the provider; `?to=` says where it comes out in the end."""
        signing_in = self._web.options.signing_in
        if signing_in is None:
            raise Refused(404, "NO_PROVIDER", "this server signs nobody in with a provider")
        begun = await signing_in.begin(_redirect_uri(request))
        kept = json.dumps([begun.state, begun.verifier, _own_path(request.query.get("to", ""))])
        # Lax: the browser comes back from another site.
        cookie = _cookie(request, _BEGUN, quote(kept, safe=""), "Lax", 600)
        return Answer(status=303, headers=(("location", begun.url), cookie, _NO_STORE))

    async def done(self, request: Request) -> Answer:
        """The browser comes back with a code."""
        signing_in = self._web.options.signing_in
        if signing_in is None:
            raise Refused(404, "NO_PROVIDER", "this server signs nobody in with a provider")
        try:
            state, verifier, to = json.loads(unquote(request.cookies.get(_BEGUN, "")))
        except ValueError:
            raise Unauthenticated("no sign-in was begun in this browser") from None
        if not state or request.query.get("state") != state:
            raise Unauthenticated("the sign-in was begun elsewhere")
        code = request.query.get("code", "")
        if not code:
            raise Unauthenticated(f"the provider said {request.query.get('error', 'nothing')!r}")
        tokens = await signing_in.end(code, verifier, _redirect_uri(request))
        answer = await self._first_good(request, tokens)
        answer.status = 303
        answer.body = b""
        forget = _cookie(request, _BEGUN, "", "Lax", 0)
        answer.headers = (*answer.headers, forget, ("location", _own_path(to)))
        return answer

    async def _first_good(self, request: Request, tokens: list[str]) -> Answer:
        for token in tokens:
            if _TOKEN.fullmatch(token) is None:
                continue
            try:
                return await self._signed_in(request, token)
            except Unauthenticated:
                continue
        raise Unauthenticated("none of the provider's tokens is for this server")


_NO_STORE = ("cache-control", "no-store")


def _json(value: Any) -> Answer:
    return Answer(json.dumps(value).encode(), headers=(_NO_STORE,))


def _about(caller: Caller | None) -> dict[str, Any]:
    if caller is None:
        return {}
    principal = caller.principal
    return {"tenant": principal.tenant, "subject": principal.subject, "kind": principal.kind}


def _cookie(
    request: Request, name: str, value: str, same_site: str, seconds: int
) -> tuple[str, str]:
    cookie: SimpleCookie = SimpleCookie({name: value})
    morsel = cookie[name]
    morsel["path"] = "/"
    morsel["max-age"] = str(seconds)
    morsel["httponly"] = True
    morsel["samesite"] = same_site
    if _is_secure(request):
        morsel["secure"] = True
    return "set-cookie", morsel.OutputString()


def _is_secure(request: Request) -> bool:
    """Whether the browser has it over TLS, which a proxy may have taken off."""
    return request.is_secure or request.headers.get("origin", "").startswith("https://")


def _redirect_uri(request: Request) -> str:
    scheme = "https" if _is_secure(request) or not _is_here(request) else "http"
    return f"{scheme}://{request.headers.get('host', '')}{_DONE}"


def _is_here(request: Request) -> bool:
    host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
    return host in ("localhost", "127.0.0.1", "[::1]")


def _own_path(to: str) -> str:
    """A path of this server; what leads elsewhere is `/`."""
    return to if re.fullmatch(r"/[A-Za-z0-9_.~%?&=/#-]*", to) and not to.startswith("//") else "/"
