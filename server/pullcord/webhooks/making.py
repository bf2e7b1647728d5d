"""Makes the webhooks of a server out of its settings, and refuses those that cannot work.

Nothing is sent here.
"""

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pullcord.extras import missing
from pullcord.identity.approval_links import PATH as APPROVALS
from pullcord.identity.approval_links import ApprovalLinks, derived_key
from pullcord.identity.run_tokens import read_key
from pullcord.settings import Settings, SettingsError
from pullcord.webhooks.signing import read_secret

if TYPE_CHECKING:
    from pullcord.webhooks.delivering import Webhooks

_LONGEST_LINK = 7 * 24 * 3600.0
"""Seconds that a link is good, at most."""


def make_links(settings: Settings) -> ApprovalLinks | None:
    """Links by which people decide; None: nobody is sent one. Raises SettingsError."""
    if not (settings.webhook_url and settings.http_public_url):
        return None
    keys = [derived_key(secret) for secret in _keys(settings)]
    if (path := settings.run_token_key) is not None:
        try:
            keys = [read_key(path)]
        except (OSError, ValueError) as error:
            raise SettingsError(f"PULLCORD_RUN_TOKEN_KEY: {error}") from None
    lifetime = min(settings.engine.max_pause, _LONGEST_LINK)
    return ApprovalLinks(f"{settings.http_public_url}{APPROVALS}", keys, lifetime)


def make_webhooks(settings: Settings, links: ApprovalLinks | None = None) -> "Webhooks | None":
    """None: the settings name no address. Raises SettingsError."""
    url = settings.webhook_url
    if not url:
        return None
    try:
        from pullcord.webhooks.bodies import EVENTS
        from pullcord.webhooks.delivering import Webhooks
    except ImportError as error:
        raise SettingsError(
            f"PULLCORD_WEBHOOK_URL: {missing('sending webhooks', 'webhooks', error)}"
        ) from None
    try:
        check_url(url, private=settings.webhook_private)
    except ValueError as error:
        raise SettingsError(f"PULLCORD_WEBHOOK_URL: {error}") from None
    if unknown := sorted(set(settings.webhook_events) - set(EVENTS)):
        words = f"{unknown[0]!r} is no event; there are {' and '.join(EVENTS)}"
        raise SettingsError(f"PULLCORD_WEBHOOK_EVENTS: {words}")
    return Webhooks(
        url,
        _keys(settings),
        events=settings.webhook_events,
        private=settings.webhook_private,
        links=links,
    )


def _keys(settings: Settings) -> list[bytes]:
    """The keys that sign webhooks. Raises SettingsError."""
    try:
        return [read_secret(secret) for secret in settings.webhook_secret or ("",)]
    except ValueError as error:
        raise SettingsError(f"PULLCORD_WEBHOOK_SECRET: {error}") from None


def check_url(url: str, *, private: bool) -> None:
    """Raises ValueError for what nothing can, or must, be sent to. Where a name leads is looked at
    when something is sent."""
    from pullcord.webhooks.addresses import is_public

    parts = urlsplit(url)  # ValueError: such as an address without its bracket
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.fragment:
        raise ValueError("must be an address such as https://hooks.example.com/pullcord")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user or a password: requests are signed")
    _ = parts.port  # ValueError: it is no number
    if private:
        return
    if parts.scheme == "http":
        raise ValueError("must be https; PULLCORD_WEBHOOK_PRIVATE=true allows http, too")
    literal = True
    with contextlib.suppress(ValueError):
        literal = is_public(parts.hostname)
    if not literal:
        words = "is not public; PULLCORD_WEBHOOK_PRIVATE=true allows it"
        raise ValueError(f"{parts.hostname} {words}")
