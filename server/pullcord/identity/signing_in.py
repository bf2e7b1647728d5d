"""Signing a browser in with an identity provider: OpenID Connect's code flow with PKCE.

It makes the address to send a browser to, and gets a token for the code that the browser brings
back. Whether that token is good is the verifier's business; what a browser keeps, the transport's.
"""

import asyncio
import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from pullcord.identity.options import JwtOptions
from pullcord.run.errors import Unauthenticated

_TIMEOUT = 10.0
_MAX_ANSWER = 256 * 1024


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that was begun. The browser keeps `state` and `verifier` until it comes back."""

    url: str
    """The address to which the browser is sent."""
    state: str
    verifier: str


class SigningIn:
    """The sign-in with one provider. Used on one loop; what blocks is done in a thread."""

    def __init__(self, options: JwtOptions) -> None:
        """Raises OSError if the file with the secret cannot be read."""
        self._options = options
        self._secret = (
            Path(options.client_secret).read_text().strip() if options.client_secret else ""
        )
        self._about: Mapping[str, Any] | None = None

    async def begin(self, redirect_uri: str) -> Begun:
        """A new sign-in, which ends at `redirect_uri`. Raises Unauthenticated."""
        about = await self._configuration()
        state, verifier = secrets.token_urlsafe(24), secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
        asked = {
            "response_type": "code",
            "client_id": self._options.client_id,
            "redirect_uri": redirect_uri,
            "scope": self._options.sign_in_scopes,
            "state": state,
            "code_challenge": challenge.rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        where = about["authorization_endpoint"]
        return Begun(f"{where}{'&' if '?' in where else '?'}{urlencode(asked)}", state, verifier)

    async def end(self, code: str, verifier: str, redirect_uri: str) -> list[str]:
        """The tokens for a code, the likelier one first. Raises Unauthenticated."""
        about = await self._configuration()
        asked = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "client_id": self._options.client_id,
            "code_verifier": verifier,
        }
        if self._secret:
            asked["client_secret"] = self._secret
        told = await asyncio.to_thread(
            _ask, about["token_endpoint"], urlencode(asked).encode("ascii")
        )
        tokens = [told.get(name) for name in ("access_token", "id_token")]
        return [token for token in tokens if isinstance(token, str) and token.count(".") == 2]

    async def _configuration(self) -> Mapping[str, Any]:
        if self._about is None:
            url = f"{self._options.issuer.rstrip('/')}/.well-known/openid-configuration"
            about = await asyncio.to_thread(_ask, url)
            if about.get("issuer") != self._options.issuer:
                raise Unauthenticated("the provider's configuration is not of the issuer")
            for name in ("authorization_endpoint", "token_endpoint"):
                if not _is_safe(about.get(name)):
                    raise Unauthenticated(f"the provider's {name} is no https:// address")
            self._about = about
        return self._about


def _is_safe(url: Any) -> bool:
    return isinstance(url, str) and url.startswith(
        ("https://", "http://127.0.0.1:", "http://localhost:")
    )


def _ask(url: str, body: bytes | None = None) -> dict[str, Any]:
    if not _is_safe(url):
        raise Unauthenticated(f"{url!r} is no https:// address")
    request = Request(url, body, {"accept": "application/json"})
    try:
        with urlopen(request, timeout=_TIMEOUT) as response:
            told = json.loads(response.read(_MAX_ANSWER))
    except HTTPError as error:
        error.close()
        raise Unauthenticated(f"the provider refused with {error.code}") from None
    except (OSError, ValueError) as error:
        raise Unauthenticated(f"the provider cannot be asked: {error}") from None
    if not isinstance(told, dict):
        raise Unauthenticated("the provider's answer is no object")
    return told
