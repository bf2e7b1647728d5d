"""Browsers that sign in: the cookie, and an identity provider on a port of this machine."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import jwt
import pytest
from pullcord.identity.options import JwtOptions

from tests.identity.callers import Guarded, guarded, token_of
from tests.identity.test_jwt import RSA, published
from tests.identity.test_matrix import RUN, Stays, start_anns
from tests.transports.http.web import SERVICE, Browser

PAGE = "https://app.example"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Guarded]:
    stays = Stays()
    with guarded(tmp_path, stays.runnable, http="127.0.0.1:0", http_origin=PAGE) as served:
        start_anns(served)
        yield served
        stays.release.set()


def cookie_of(reply: Any) -> str:
    return str(reply.headers["set-cookie"]).partition(";")[0]


def test_a_token_becomes_a_cookie_that_is_the_browsers_alone(served: Guarded) -> None:
    """It is HttpOnly and SameSite=Strict, works on every route, and is gone after signing out."""
    browser = Browser(served.server.http_url)
    assert browser.get("/v1/session").json() == {"signed_in": False, "ways": ["token"]}
    assert browser.post("/v1/session", {"token": "wrong"}).status == 401
    assert browser.post("/v1/session", {"token": "a\r\nb"}).status == 400
    reply = browser.post("/v1/session", {"token": token_of("ann")})
    assert reply.json() == {
        "signed_in": True,
        "tenant": "acme",
        "subject": "ann",
        "kind": "token",
    }
    told = reply.headers["set-cookie"].lower()
    for word in ("httponly", "samesite=strict", "path=/", "max-age="):
        assert word in told
    signed_in = Browser(browser.url, cookie=f'theme={{"dark": [1]}}; {cookie_of(reply)}')
    assert signed_in.get("/v1/session").json()["subject"] == "ann"
    assert signed_in.call("GetRun", {"runId": RUN})["run"]["owner"] == "ann"
    events = signed_in.events(RUN)
    assert "runStarted" in next(iter(events))
    signed_in.leave()
    out = signed_in.ask("DELETE", "/v1/session")
    assert "max-age=0" in out.headers["set-cookie"].lower()
    assert Browser(browser.url, cookie=cookie_of(out)).get("/v1/session").json()["ways"]


def test_a_cookie_does_not_help_a_page_of_another_origin(served: Guarded) -> None:
    """A page on another port is of the same site, so its browser would send the cookie."""
    browser = Browser(served.server.http_url)
    cookie = cookie_of(browser.post("/v1/session", {"token": token_of("ann")}))
    page = Browser(browser.url, cookie=cookie, origin=PAGE)
    assert page.post(f"{SERVICE}GetRun", {"runId": RUN}).status == 401
    assert page.post("/v1/session", {"token": token_of("ann")}).status == 403
    other = Browser(browser.url, cookie=cookie, origin="http://localhost:3000")
    assert other.post(f"/v1/runs/{RUN}/cancel").status == 403


def test_a_credential_that_is_taken_back_ends_the_session(served: Guarded) -> None:
    """The cookie is worth what the token is."""
    browser = Browser(served.server.http_url)
    cookie = cookie_of(browser.post("/v1/session", {"token": token_of("ann")}))
    served.tokens.write_text("")
    signed_in = Browser(browser.url, cookie=cookie)
    ends = time.monotonic() + 20
    while signed_in.get("/v1/session").json()["signed_in"]:
        assert time.monotonic() < ends
    assert signed_in.post(f"{SERVICE}GetRun", {"runId": RUN}).status == 401


class Provider:
    """A small identity provider: it signs in anybody, by code and PKCE."""

    def __init__(self) -> None:
        self.codes: dict[str, str] = {}
        """The challenge of each code."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self, told: Any, status: int = 200) -> None:
                body = told if isinstance(told, bytes) else json.dumps(told).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if self.path.endswith("openid-configuration"):
                    self._answer(
                        {
                            "issuer": provider.issuer,
                            "authorization_endpoint": f"{provider.issuer}/authorize",
                            "token_endpoint": f"{provider.issuer}/token",
                            "jwks_uri": f"{provider.issuer}/keys",
                        }
                    )
                else:
                    self._answer(published(one=RSA))

            def do_POST(self) -> None:
                size = int(self.headers["content-length"])
                asked = dict(parse_qsl(self.rfile.read(size).decode()))
                digest = hashlib.sha256(asked["code_verifier"].encode()).digest()
                challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
                if provider.codes.pop(asked["code"], None) != challenge:
                    self._answer({"error": "invalid_grant"}, 400)
                    return
                claims = {
                    "iss": provider.issuer,
                    "aud": "pullcord",
                    "sub": "ann",
                    "exp": time.time() + 600,
                }
                token = jwt.encode(claims, RSA, "RS256", {"kid": "one"})
                self._answer({"access_token": "opaque", "id_token": token})

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def authorize(self, url: str) -> dict[str, str]:
        """What a person does there: the query that the browser comes back with."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["code_challenge_method"] == "S256"
        assert asked["redirect_uri"].endswith("/v1/session/done")
        self.codes["the-code"] = asked["code_challenge"]
        return {"code": "the-code", "state": asked["state"]}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def test_a_browser_signs_in_with_a_provider(tmp_path: Path) -> None:
    """Code flow with PKCE: away, back, and signed in; a code of somebody else's sign-in is not
    taken, and the browser comes out at a path of this server."""
    provider, stays = Provider(), Stays()
    options = JwtOptions(provider.issuer, "pullcord", client_id="console")
    try:
        with guarded(tmp_path, stays.runnable, http="127.0.0.1:0", jwt=options) as served:
            browser = Browser(served.server.http_url)
            assert browser.get("/v1/session").json()["ways"] == ["token", "provider"]
            begun = browser.get("/v1/session/begin?to=/runs/r1")
            assert begun.status == 303
            assert "samesite=lax" in begun.headers["set-cookie"].lower()
            back = provider.authorize(begun.headers["location"])
            done = f"/v1/session/done?code={back['code']}&state={back['state']}"
            assert browser.get(done).status == 401, "a code that another browser was given"
            forged = done.replace(back["state"], "other")
            assert browser.get(forged, cookie=cookie_of(begun)).status == 401
            reply = browser.get(
                done,
                cookie=cookie_of(begun),
                sec_fetch_site="cross-site",
                sec_fetch_mode="navigate",
            )
            assert (reply.status, reply.headers["location"]) == (303, "/runs/r1")
            cookies = [v for v in reply.all if v.startswith("pullcord-session=")]
            cookie = cookies[0].partition(";")[0]
            told = browser.get("/v1/session", cookie=cookie).json()
            assert told["subject"] == f"{provider.issuer}|ann"
            assert browser.get(done, cookie=cookie_of(begun)).status == 401, "a code is good once"
            away = browser.get("/v1/session/begin?to=//evil.example")
            assert "evil" not in away.headers["set-cookie"]
    finally:
        provider.close()
